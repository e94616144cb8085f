//! Making the topics, and holding those that are there against what they must be like.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::{Rule, TopicSpec, Which, wanted};
use crate::kafka::client::base_config;
use sluice_schemas::settings::Settings;

/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(10);

/// How long new topics may take to be seen with a leader for each partition.
const SETTLE: Duration = Duration::from_secs(15);

/// The pause between two looks at new topics.
const LOOK: Duration = Duration::from_millis(100);

/// How many topics are made or asked about in one request: brokers bound their requests too.
const AT_ONCE: usize = 100;

/// Why the topics are not known to be as they must be.
#[derive(Debug, Error)]
pub enum EnsureError {
    /// The brokers could not be asked. The caller waits and tries again.
    #[error("Kafka cannot be asked about its topics: {0}")]
    Unreachable(String),
    /// What is missing or differs, a line each. A person must act; exit 78.
    #[error("{} at fault in Kafka's topics: {}", count(.0), .0.join("; "))]
    Faults(Vec<String>),
}

fn count(lines: &[String]) -> String {
    format!(
        "{} thing{}",
        lines.len(),
        if lines.len() == 1 { " is" } else { "s are" }
    )
}

/// Makes what is missing where `topics.create` is set, then verifies partitions and settings. Two
/// processes may do this at once. Must run within a tokio runtime.
pub async fn ensure(settings: &Settings, which: Which) -> Result<(), EnsureError> {
    let mut specs = wanted(settings);
    if which == Which::RawOnly {
        specs.truncate(1);
    }
    ensure_all(settings, specs).await
}

/// [`ensure`] for the topics of these names alone.
pub async fn ensure_these(
    settings: &Settings,
    names: &BTreeSet<String>,
) -> Result<(), EnsureError> {
    let mut specs = wanted(settings);
    specs.retain(|spec| names.contains(&spec.name));
    ensure_all(settings, specs).await
}

async fn ensure_all(settings: &Settings, specs: Vec<TopicSpec>) -> Result<(), EnsureError> {
    let create = settings.topics.create;
    let config = base_config(settings)
        .map_err(|faults| EnsureError::Faults(faults.iter().map(ToString::to_string).collect()))?;
    // Asking for metadata and closing the client block, so this has a thread of its own.
    let runtime = tokio::runtime::Handle::current();
    let work = move || runtime.block_on(work(&config, &specs, create));
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(EnsureError::Unreachable(error.to_string())))
}

async fn work(config: &ClientConfig, specs: &[TopicSpec], create: bool) -> Result<(), EnsureError> {
    let client: AdminClient<DefaultClientContext> = config
        .create()
        .map_err(|error| EnsureError::Faults(vec![format!("kafka: {error}")]))?;
    let mut seen = look(&client)?;
    let missing: Vec<&TopicSpec> = specs
        .iter()
        .filter(|spec| !seen.topics.contains_key(&spec.name))
        .collect();
    let mut lines = Vec::new();
    if create && !missing.is_empty() {
        for some in missing.chunks(AT_ONCE) {
            lines.extend(make(&client, some).await?);
        }
        if lines.is_empty() {
            seen = settled(&client, specs)?;
        }
    } else {
        let line = |spec: &&TopicSpec| {
            format!(
                "{}: is missing or may not be seen; it needs {} partitions and {}",
                spec.name,
                spec.partitions,
                told(&spec.configs)
            )
        };
        lines.extend(missing.iter().map(line));
    }
    let present: Vec<&TopicSpec> = specs
        .iter()
        .filter(|spec| seen.topics.contains_key(&spec.name))
        .collect();
    lines.extend(present.iter().filter_map(|spec| {
        let has = seen.topics.get(&spec.name)?.partitions;
        partitions_fault(spec, has)
    }));
    for some in present.chunks(AT_ONCE) {
        match describe(&client, some, seen.broker).await? {
            Described::Settings(faults) => lines.extend(faults),
            Described::Unsupported => {
                tracing::warn!("the brokers do not tell topic settings: they are not verified");
                break;
            }
        }
    }
    if lines.is_empty() {
        Ok(())
    } else {
        Err(EnsureError::Faults(lines))
    }
}

fn told(configs: &[(&'static str, String, Rule)]) -> String {
    let pairs: Vec<String> = configs
        .iter()
        .map(|(key, value, _)| format!("{key}={value}"))
        .collect();
    pairs.join(" ")
}

/// What the metadata says.
struct Seen {
    topics: BTreeMap<String, Found>,
    /// A broker that is there, to be asked for settings: any of them knows, and one that knows no
    /// such question says so, where a controller that does not exist would be waited for.
    broker: Option<i32>,
}

struct Found {
    partitions: usize,
    led: bool,
}

/// All topics at once: asking for one by its name might make it.
fn look(client: &AdminClient<DefaultClientContext>) -> Result<Seen, EnsureError> {
    let metadata = client
        .inner()
        .fetch_metadata(None, ASK)
        .map_err(|error| EnsureError::Unreachable(error.to_string()))?;
    let topics = metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none());
    let found = |topic: &rdkafka::metadata::MetadataTopic| {
        let partitions = topic.partitions();
        let led = partitions.iter().all(|partition| partition.leader() >= 0);
        let found = Found {
            partitions: partitions.len(),
            led,
        };
        (topic.name().to_owned(), found)
    };
    let answered = metadata.orig_broker_id();
    let ids = || {
        metadata
            .brokers()
            .iter()
            .map(rdkafka::metadata::MetadataBroker::id)
    };
    Ok(Seen {
        topics: topics.map(found).collect(),
        broker: ids().find(|id| *id == answered).or_else(|| ids().next()),
    })
}

/// Looks until all topics are there with their leaders. What is still missing then is for the caller
/// to try again.
fn settled(
    client: &AdminClient<DefaultClientContext>,
    specs: &[TopicSpec],
) -> Result<Seen, EnsureError> {
    let since = Instant::now();
    loop {
        let seen = look(client)?;
        let unseen = specs
            .iter()
            .find(|spec| !seen.topics.get(&spec.name).is_some_and(|topic| topic.led));
        let Some(unseen) = unseen else {
            return Ok(seen);
        };
        if since.elapsed() > SETTLE {
            let name = &unseen.name;
            return Err(EnsureError::Unreachable(format!(
                "{name} was made and has no leader yet"
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// Makes topics; one that is there meanwhile is as good. The lines tell what a person must settle.
async fn make(
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
            Ok(name) => tracing::info!(topic = name, "topic made"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) if is_passing(code) => {
                return Err(EnsureError::Unreachable(format!(
                    "{name} cannot be made: {code}"
                )));
            }
            Err((name, code)) => {
                // The code alone says little, so what was asked for stands beside it.
                let spec = specs.iter().find(|spec| spec.name == name);
                let asked = spec.map_or_else(String::new, |spec| {
                    let (partitions, replication) = (spec.partitions, spec.replication);
                    let configs = told(&spec.configs);
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
    /// The brokers do not know the question.
    Unsupported,
}

async fn describe(
    client: &AdminClient<DefaultClientContext>,
    specs: &[&TopicSpec],
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
    // A failure does not tell its topic, but the answers are in the order of the questions.
    for (spec, result) in specs.iter().zip(results) {
        match result {
            Ok(resource) => lines.extend(config_faults(spec, &resource)),
            Err(RDKafkaErrorCode::UnsupportedFeature) => return Ok(Described::Unsupported),
            Err(code) if is_passing(code) => {
                return Err(EnsureError::Unreachable(code.to_string()));
            }
            Err(code) => lines.push(format!(
                "{}: its settings cannot be read: {code}",
                spec.name
            )),
        }
    }
    Ok(Described::Settings(lines))
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ASK))
        .operation_timeout(Some(ASK))
}

/// The code of an error; the wrapper's own look does not know of those of the admin client.
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

/// What is wrong with the number of partitions.
fn partitions_fault(spec: &TopicSpec, has: usize) -> Option<String> {
    let (name, wanted) = (
        &spec.name,
        usize::try_from(spec.partitions).unwrap_or_default(),
    );
    match spec.partitions_rule {
        Rule::Exactly if has != wanted => Some(format!(
            "{name}: has {has} partitions and must have exactly {wanted}"
        )),
        Rule::AtLeast if has < wanted => Some(format!(
            "{name}: has {has} partitions and must have at least {wanted}"
        )),
        Rule::Exactly | Rule::AtLeast | Rule::Advised | Rule::AdvisedExactly => None,
    }
}

/// What is wrong with a topic's settings, a line each.
fn config_faults(spec: &TopicSpec, resource: &ConfigResource) -> Vec<String> {
    let has: BTreeMap<&str, &str> = resource
        .entries
        .iter()
        .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
        .collect();
    differing(spec, &has)
}

fn differing(spec: &TopicSpec, has: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, wanted, rule) in &spec.configs {
        let Some(value) = has.get(key) else {
            // A broker that never heard of a setting does not obey it either.
            if !matches!(rule, Rule::Advised | Rule::AdvisedExactly) {
                lines.push(format!("{}: the brokers do not know {key}", spec.name));
            }
            continue;
        };
        let (name, enough) = (&spec.name, is_at_least(value, wanted));
        match rule {
            Rule::Exactly if !is_same(value, wanted) => {
                lines.push(format!("{name}: {key} is {value} and must be {wanted}"));
            }
            Rule::AtLeast if !enough => {
                lines.push(format!(
                    "{name}: {key} is {value} and must be at least {wanted}"
                ));
            }
            Rule::Advised if !enough => {
                tracing::warn!(
                    topic = name,
                    "{key} is {value} and should be at least {wanted}"
                );
            }
            Rule::AdvisedExactly if !is_same(value, wanted) => {
                tracing::warn!(topic = name, "{key} is {value} and should be {wanted}");
            }
            Rule::Exactly | Rule::AtLeast | Rule::Advised | Rule::AdvisedExactly => {}
        }
    }
    lines
}

/// The same words, in any order where the value is a list such as `compact,delete`.
fn is_same(value: &str, wanted: &str) -> bool {
    let words = |text: &str| -> BTreeSet<String> {
        text.split(',').map(|word| word.trim().to_owned()).collect()
    };
    words(value) == words(wanted)
}

fn is_at_least(value: &str, wanted: &str) -> bool {
    match (value.parse::<i64>(), wanted.parse::<i64>()) {
        (Ok(-1), Ok(_)) => true,
        (Ok(value), Ok(wanted)) => value >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TopicSpec {
        TopicSpec {
            name: "t".into(),
            partitions: 12,
            partitions_rule: Rule::Exactly,
            replication: 3,
            configs: vec![
                ("cleanup.policy", "delete".into(), Rule::Exactly),
                ("retention.ms", "1000".into(), Rule::AtLeast),
                ("min.insync.replicas", "2".into(), Rule::Advised),
            ],
        }
    }

    #[test]
    fn settings_are_held_against_their_rules() {
        let good = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
        assert_eq!(
            differing(&spec(), &BTreeMap::from(good)),
            Vec::<String>::new()
        );
        let bad = [
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "999"),
            ("min.insync.replicas", "1"),
        ];
        assert_eq!(
            differing(&spec(), &BTreeMap::from(bad)),
            [
                "t: cleanup.policy is compact,delete and must be delete",
                "t: retention.ms is 999 and must be at least 1000",
            ]
        );
        let unknown = differing(&spec(), &BTreeMap::new());
        assert_eq!(unknown.len(), 2, "{unknown:?}");
    }

    #[test]
    fn partitions_are_held_against_their_rule() {
        let mut spec = spec();
        assert_eq!(partitions_fault(&spec, 12), None);
        assert!(partitions_fault(&spec, 13).is_some());
        spec.partitions_rule = Rule::AtLeast;
        assert_eq!(partitions_fault(&spec, 13), None);
        assert!(partitions_fault(&spec, 11).is_some());
    }
}
