//! Looking at topics: what the metadata says, and what of it may be read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_schemas::acl::{Acl, Operation, Resource};

use super::error::EnsureError;
use crate::kafka::plain::Plain;
use crate::kafka::read::{ReadError, made};
use crate::kafka::refusal::{Call, lacking};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the fetch of one topic may take: a leader may be away, which is no reason not to start.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest wait for what a fetch brings.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// What the metadata says.
pub struct Seen {
    /// By name.
    pub topics: BTreeMap<String, Found>,
    /// A broker that is there, to describe settings: any of them can. One that does not support the request
    /// answers so, where a controller that does not exist would be waited for.
    pub broker: Option<i32>,
}

/// A topic.
pub struct Found {
    /// How many it has.
    pub partitions: usize,
    /// The fewest replicas that one of them has.
    pub replicas: usize,
    /// Whether each has a leader.
    pub led: bool,
}

/// Why a topic is not in the metadata of all topics.
pub enum Unseen {
    /// It is not there.
    Missing,
    /// It may not be seen.
    Hidden,
}

/// A client that looks, and that reads in the name of a group, which it never joins.
pub fn looker(
    config: &ClientConfig,
    group: Option<&str>,
) -> Result<BaseConsumer<Plain>, ReadError> {
    let mut config = config.clone();
    if let Some(group) = group {
        config.set("group.id", group);
    }
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10");
    made(&config)
}

/// The metadata of all topics. A consumer's request makes none.
pub fn fetch_topics(client: &BaseConsumer<Plain>) -> Result<Seen, EnsureError> {
    let metadata = client
        .fetch_metadata(None, REQUEST_TIMEOUT)
        .map_err(|error| EnsureError::Unreachable(error.to_string()))?;
    let topics = metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none());
    let found = |topic: &MetadataTopic| {
        let partitions = topic.partitions();
        let led = partitions.iter().all(|partition| partition.leader() >= 0);
        let replicas = partitions
            .iter()
            .map(|partition| partition.replicas().len());
        let found = Found {
            partitions: partitions.len(),
            replicas: replicas.min().unwrap_or_default(),
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

/// Whether a topic that is not listed is missing, or hidden from this principal.
pub fn look_at(client: &BaseConsumer<Plain>, topic: &str) -> Result<Unseen, EnsureError> {
    let metadata = client
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .map_err(|error| EnsureError::Unreachable(error.to_string()))?;
    match metadata.topics().first().and_then(MetadataTopic::error) {
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => Ok(Unseen::Hidden),
        _ => Ok(Unseen::Missing),
    }
}

/// The topics that must be read and may not be, a line each. One that is audited once in a month should not
/// be found unreadable then.
pub fn unreadable<'t>(
    client: &BaseConsumer<Plain>,
    rules: &[Acl],
    topics: impl Iterator<Item = &'t str>,
    group: &str,
) -> Result<Vec<String>, EnsureError> {
    let mut lines = Vec::new();
    for topic in topics {
        let resource = Resource::Topic(topic.to_owned());
        if !rules.contains(&Acl::literal(resource, Operation::Read)) {
            continue;
        }
        let call = Call::Consume { topic, group };
        let found = read_once(client, topic, call)?;
        client
            .unassign()
            .map_err(|error| EnsureError::Unreachable(error.to_string()))?;
        if let Some(rule) = found {
            let line = format!("Kafka refuses {rule}");
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

/// Fetches the end of a topic's first partition.
fn read_once(
    client: &BaseConsumer<Plain>,
    topic: &str,
    call: Call<'_>,
) -> Result<Option<Acl>, EnsureError> {
    let away = |error: KafkaError| EnsureError::Unreachable(format!("{topic}: {error}"));
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, 0, Offset::End)
        .map_err(away)?;
    client.assign(&list).map_err(away)?;
    let until = Instant::now() + FETCH_TIMEOUT;
    while Instant::now() < until {
        match client.poll(POLL_TIMEOUT) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(error)) => {
                let code = error.rdkafka_error_code();
                if let Some(rule) = code.and_then(|code| lacking(call, code)) {
                    return Ok(Some(rule));
                }
            }
            None => {}
        }
    }
    tracing::info!(
        topic,
        "nothing could be fetched yet: whether it may be read is not known"
    );
    Ok(None)
}
