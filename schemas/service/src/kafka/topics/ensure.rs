//! Creating the topics, and verifying those that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::compare::{config_faults, listed, partitions_fault};
use super::{TopicSpec, Which, wanted};
use crate::kafka::client::base_config;
use sluice_schemas::settings::Settings;

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long new topics may take to have a leader for each partition.
const LEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause between two requests for the metadata of new topics.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How many topics one request names: brokers bound their requests too.
const MAX_TOPICS_A_REQUEST: usize = 100;

/// Why the topics are not verified.
#[derive(Debug, Error)]
pub enum EnsureError {
    /// The brokers do not answer. The caller waits and tries again.
    #[error("Kafka cannot be asked about its topics: {0}")]
    Unreachable(String),
    /// What is missing or differs, a line each. Operator action required; exit 78.
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

/// Creates what is missing where `topics.create` is set, then verifies partitions and settings. Two
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
    // Requests for metadata and closing the client block, so this has a thread of its own.
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
    let mut seen = fetch_topics(&client)?;
    let missing: Vec<&TopicSpec> = specs
        .iter()
        .filter(|spec| !seen.topics.contains_key(&spec.name))
        .collect();
    let mut lines = Vec::new();
    if create && !missing.is_empty() {
        for some in missing.chunks(MAX_TOPICS_A_REQUEST) {
            lines.extend(create_topics(&client, some).await?);
        }
        if lines.is_empty() {
            seen = await_leaders(&client, specs)?;
        }
    } else {
        let line = |spec: &&TopicSpec| {
            format!(
                "{}: is missing or may not be seen; it needs {} partitions and {}",
                spec.name,
                spec.partitions,
                listed(&spec.configs)
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
    for some in present.chunks(MAX_TOPICS_A_REQUEST) {
        match describe(&client, some, seen.broker).await? {
            Described::Settings(faults) => lines.extend(faults),
            Described::Unsupported => {
                tracing::warn!(
                    "the brokers cannot describe topic settings: the settings of the topics are not verified"
                );
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

/// What the metadata says.
struct Seen {
    topics: BTreeMap<String, Found>,
    /// A broker that is there, to describe settings: any of them can. One that does not support the request
    /// answers so, where a controller that does not exist would be waited for.
    broker: Option<i32>,
}

struct Found {
    partitions: usize,
    led: bool,
}

/// The metadata of all topics: a request for one by its name might create it.
fn fetch_topics(client: &AdminClient<DefaultClientContext>) -> Result<Seen, EnsureError> {
    let metadata = client
        .inner()
        .fetch_metadata(None, REQUEST_TIMEOUT)
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

/// Waits until all topics are there with their leaders. If some are still missing, the caller tries again.
fn await_leaders(
    client: &AdminClient<DefaultClientContext>,
    specs: &[TopicSpec],
) -> Result<Seen, EnsureError> {
    let since = Instant::now();
    loop {
        let seen = fetch_topics(client)?;
        let unseen = specs
            .iter()
            .find(|spec| !seen.topics.get(&spec.name).is_some_and(|topic| topic.led));
        let Some(unseen) = unseen else {
            return Ok(seen);
        };
        if since.elapsed() > LEADER_TIMEOUT {
            let name = &unseen.name;
            return Err(EnsureError::Unreachable(format!(
                "{name} was made and has no leader yet"
            )));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Creates topics; one that another process created meanwhile is as good. The lines are faults that need the
/// operator.
async fn create_topics(
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
    // A failure does not name its topic, but the answers are in the order of the request.
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
