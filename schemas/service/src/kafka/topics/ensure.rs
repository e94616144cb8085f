//! Creating the topics, and verifying those that exist.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::compare::{config_faults, listed, partitions_fault};
use super::error::EnsureError;
use super::look::{Seen, Unseen, fetch_topics, look_at, looker, unreadable};
use super::{Growth, Rule, TopicSpec, Which, configs_tool, wanted};
use crate::kafka::client::base_config;
use crate::kafka::oauth::needs_token;
use crate::kafka::plain::Plain;
use crate::kafka::refusal::{Call, lacking};
use sluice_schemas::acl::{Acl, Who, required};
use sluice_schemas::settings::Settings;

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long new topics may take to have a leader for each partition.
const LEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause between two requests for the metadata of new topics.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How many topics one request names: brokers bound their requests too.
const MAX_TOPICS_A_REQUEST: usize = 100;

/// Creates what is missing where `topics.create` is set, then verifies partitions and settings. Two
/// processes may do this at once. Must run within a tokio runtime.
pub async fn ensure(settings: &Settings, which: Which) -> Result<(), EnsureError> {
    let mut specs = wanted(settings);
    if which == Which::RawOnly {
        specs.truncate(1);
        // Keys are placed over `topics.key_partitions` of them, so that one more costs no request.
        specs[0].partitions_rule = Rule::AtLeast;
    }
    let who = match which {
        Which::RawOnly => Who::Ingest,
        Which::All => Who::Processor,
    };
    ensure_all(settings, specs, who).await
}

/// [`ensure`] for the topics of these names alone.
pub async fn ensure_these(
    settings: &Settings,
    names: &BTreeSet<String>,
) -> Result<(), EnsureError> {
    let mut specs = wanted(settings);
    specs.retain(|spec| names.contains(&spec.name));
    ensure_all(settings, specs, Who::Processor).await
}

async fn ensure_all(
    settings: &Settings,
    specs: Vec<TopicSpec>,
    who: Who,
) -> Result<(), EnsureError> {
    let create = settings.topics.create;
    let rules = required(settings, who);
    let config = base_config(settings)
        .map_err(|faults| EnsureError::Faults(faults.iter().map(ToString::to_string).collect()))?;
    // Ingest is in no group, and may have none.
    let group = (who == Who::Processor).then(|| settings.group_id());
    let (tool, growth) = (configs_tool(settings), Growth::new(settings));
    // Requests for metadata and closing the client block, so this has a thread of its own.
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let client = looker(&config, group.as_deref())
            .map_err(|error| EnsureError::Faults(vec![format!("kafka: {error}")]))?;
        let ensuring = Ensuring {
            config: &config,
            client: &client,
            specs: &specs,
            rules: &rules,
            group: group.as_deref().unwrap_or_default(),
            create,
            tool: &tool,
            growth: &growth,
        };
        runtime.block_on(ensuring.work())
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(EnsureError::Unreachable(error.to_string())))
}

/// What is verified, with what.
struct Ensuring<'a> {
    config: &'a ClientConfig,
    /// Looks at topics and never makes one.
    client: &'a BaseConsumer<Plain>,
    specs: &'a [TopicSpec],
    /// The rules that the process needs.
    rules: &'a [Acl],
    group: &'a str,
    create: bool,
    /// Kafka's tool for the settings of topics.
    tool: &'a str,
    growth: &'a Growth,
}

impl Ensuring<'_> {
    async fn work(&self) -> Result<(), EnsureError> {
        let (client, specs) = (self.client, self.specs);
        let mut seen = fetch_topics(client)?;
        let missing: Vec<&TopicSpec> = specs
            .iter()
            .filter(|spec| !seen.topics.contains_key(&spec.name))
            .collect();
        let admin = self.admin()?;
        let mut lines = Vec::new();
        match &admin {
            Some(admin) if self.create && !missing.is_empty() => {
                for some in missing.chunks(MAX_TOPICS_A_REQUEST) {
                    lines.extend(create_topics(admin, some).await?);
                }
                if lines.is_empty() {
                    seen = self.await_leaders()?;
                }
            }
            _ => {
                for spec in missing {
                    lines.extend(self.unseen(spec)?);
                }
            }
        }
        let present: Vec<TopicSpec> = specs
            .iter()
            .filter_map(|spec| Some(spec.on_replicas(seen.topics.get(&spec.name)?.replicas)))
            .collect();
        lines.extend(present.iter().filter_map(|spec| {
            let has = seen.topics.get(&spec.name)?.partitions;
            let fault = partitions_fault(spec, has)?;
            Some(format!(
                "{fault}: {}",
                self.growth.mend((&spec.name, spec.partitions), has)
            ))
        }));
        if let Some(admin) = &admin {
            for some in present.chunks(MAX_TOPICS_A_REQUEST) {
                match describe(self.tool, admin, some, seen.broker).await? {
                    Described::Settings(faults) => lines.extend(faults),
                    Described::Unsupported => {
                        tracing::warn!(
                            "the brokers cannot describe topic settings: the settings of the topics are not \
                             verified"
                        );
                        break;
                    }
                }
            }
        }
        let names = present.iter().map(|spec| spec.name.as_str());
        lines.extend(unreadable(client, self.rules, names, self.group)?);
        if lines.is_empty() {
            self.report_growth(&seen);
            Ok(())
        } else {
            Err(EnsureError::Faults(lines))
        }
    }

    /// Ingest takes requests where raw has more partitions than the settings say, and processors end.
    fn report_growth(&self, seen: &Seen) {
        let raw = self.specs.first().filter(|_| self.group.is_empty());
        let found = raw.and_then(|raw| Some((raw, seen.topics.get(&raw.name)?.partitions)));
        if let Some((raw, has)) = found
            && usize::try_from(raw.partitions).is_ok_and(|wanted| has > wanted)
        {
            tracing::error!(
                topic = raw.name,
                has,
                mend = self.growth.mend((&raw.name, raw.partitions), has),
                "raw has more partitions than topics.partitions, and no processor starts: operator action \
                 required"
            );
        }
    }

    /// The client that makes topics and describes their settings. With OAUTHBEARER there is none, for the
    /// wrapper's serves no questions for a token.
    fn admin(&self) -> Result<Option<AdminClient<DefaultClientContext>>, EnsureError> {
        if needs_token(self.config) {
            tracing::info!(
                "with OAUTHBEARER topics are not made, and of those that exist the settings are not verified"
            );
            return Ok(None);
        }
        let made = self.config.create();
        let made = made.map_err(|error| EnsureError::Faults(vec![format!("kafka: {error}")]));
        made.map(Some)
    }

    /// Why a topic is not in the metadata.
    fn unseen(&self, spec: &TopicSpec) -> Result<Vec<String>, EnsureError> {
        if let Unseen::Hidden = look_at(self.client, &spec.name)? {
            let rules = self.rules.iter();
            let rules = rules.filter(|rule| rule.lets_see(&spec.name));
            return Ok(rules.map(refuses).collect());
        }
        let how = if self.create {
            " (with OAUTHBEARER it is not made)"
        } else {
            ""
        };
        Ok(vec![format!(
            "{}: is missing or may not be seen{how}; it needs {} partitions and {}",
            spec.name,
            spec.partitions,
            listed(&spec.configs)
        )])
    }

    /// Waits until all topics are there with their leaders. If some are still missing, the caller tries
    /// again. One that was there before, and that may not be seen, is the operator's.
    fn await_leaders(&self) -> Result<Seen, EnsureError> {
        let since = Instant::now();
        loop {
            let seen = fetch_topics(self.client)?;
            let is_led =
                |spec: &TopicSpec| seen.topics.get(&spec.name).is_some_and(|topic| topic.led);
            let Some(unseen) = self.specs.iter().find(|spec| !is_led(spec)) else {
                return Ok(seen);
            };
            if since.elapsed() > LEADER_TIMEOUT {
                let name = &unseen.name;
                if let Unseen::Hidden = look_at(self.client, name)? {
                    return Err(EnsureError::Faults(self.unseen(unseen)?));
                }
                return Err(EnsureError::Unreachable(format!(
                    "{name} was made and has no leader yet"
                )));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn refuses(rule: &Acl) -> String {
    format!("Kafka refuses {rule}")
}

/// Creates topics; one that another process created meanwhile is as good. The lines are faults that need the
/// operator.
pub async fn create_topics(
    client: &AdminClient<DefaultClientContext>,
    specs: &[&TopicSpec],
) -> Result<Vec<String>, EnsureError> {
    let topics: Vec<NewTopic<'_>> = specs
        .iter()
        .map(|spec| {
            let replication = TopicReplication::Fixed(spec.replication);
            let mut topic = NewTopic::new(&spec.name, spec.partitions, replication);
            for (key, value, _) in &spec.configs {
                topic = topic.set(key, value);
            }
            topic
        })
        .collect();
    let results = client
        .create_topics(&topics, &options())
        .await
        .map_err(|error| failed("topics cannot be made", &error))?;
    let mut lines = Vec::new();
    for result in results {
        match result {
            Ok(name) => tracing::info!(topic = name, "topic created"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) if is_passing(code) => {
                return Err(EnsureError::Unreachable(format!(
                    "{name} cannot be made: {code}"
                )));
            }
            Err((name, code)) if lacking(Call::Create(&name), code).is_some() => {
                lines.extend(lacking(Call::Create(&name), code).as_ref().map(refuses));
            }
            Err((name, code)) => {
                // The code alone says little, so what was requested is added.
                let spec = specs.iter().find(|spec| spec.name == name);
                let asked = spec.map_or_else(String::new, |spec| {
                    let (partitions, replication) = (spec.partitions, spec.replication);
                    let configs = listed(&spec.configs);
                    format!(" with {partitions} partitions, {replication} replicas and {configs}")
                });
                lines.push(format!("{name}: cannot be made{asked}: {code}"));
            }
        }
    }
    Ok(lines)
}

enum Described {
    /// What differs, a line each.
    Settings(Vec<String>),
    /// The brokers do not support the request.
    Unsupported,
}

async fn describe(
    tool: &str,
    client: &AdminClient<DefaultClientContext>,
    specs: &[TopicSpec],
    broker: Option<i32>,
) -> Result<Described, EnsureError> {
    let resources: Vec<ResourceSpecifier<'_>> = specs
        .iter()
        .map(|spec| ResourceSpecifier::Topic(&spec.name))
        .collect();
    let results = match client
        .describe_configs(&resources, &options().broker_id(broker))
        .await
    {
        Ok(results) => results,
        Err(error) if code_of(&error) == Some(RDKafkaErrorCode::UnsupportedFeature) => {
            return Ok(Described::Unsupported);
        }
        Err(error) => return Err(failed("topic settings cannot be read", &error)),
    };
    let mut lines = Vec::new();
    // A failure does not name its topic, but the answers are in the order of the request.
    for (spec, result) in specs.iter().zip(results) {
        match result {
            // The wrapper of the client has no word for a refusal: it gives a topic without settings.
            Ok(resource) if resource.entries.is_empty() => {
                let code = RDKafkaErrorCode::TopicAuthorizationFailed;
                let rule = lacking(Call::Configs(&spec.name), code);
                lines.extend(rule.as_ref().map(refuses));
            }
            Ok(resource) => lines.extend(config_faults(tool, spec, &resource)),
            Err(RDKafkaErrorCode::UnsupportedFeature) => return Ok(Described::Unsupported),
            Err(code) if is_passing(code) => {
                return Err(EnsureError::Unreachable(code.to_string()));
            }
            Err(code) => {
                let line = || format!("{}: its settings cannot be read: {code}", spec.name);
                let rule = lacking(Call::Configs(&spec.name), code);
                lines.push(rule.as_ref().map_or_else(line, refuses));
            }
        }
    }
    Ok(Described::Settings(lines))
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

/// The code of an error; rdkafka's own function does not know those of the admin client.
fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        _ => error.rdkafka_error_code(),
    }
}

/// Errors that pass by themselves, such as a controller that is being elected.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::CoordinatorLoadInProgress
            | Code::LeaderNotAvailable
            | Code::NetworkException
            | Code::NotController
            | Code::NotLeaderForPartition
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::ThrottlingQuotaExceeded
            | Code::UnknownTopicOrPartition
    )
}

fn failed(what: &str, error: &KafkaError) -> EnsureError {
    match code_of(error) {
        Some(code) if !is_passing(code) => EnsureError::Faults(vec![format!("{what}: {code}")]),
        _ => EnsureError::Unreachable(format!("{what}: {error}")),
    }
}
