//! `topics`: names, numbers and bounds.

use std::time::Duration;

use super::values::{DAY, bounded, is_topic_byte, kafka_count};
use crate::settings::reader::Node;
use crate::topic::TopicNames;

/// `topics`
#[derive(Debug, Clone, PartialEq)]
pub struct Topics {
    /// The names under the configured prefix.
    pub names: TopicNames,
    /// Whether missing topics are made.
    pub create: bool,
    /// Partitions of raw and dedup-log.
    pub partitions: i32,
    /// Over how many of raw's partitions keys are placed, from the first on.
    pub key_partitions: i32,
    /// Partitions of duplicates, rejected, dead-letter and the event topics.
    pub event_partitions: i32,
    /// Replicas of each partition.
    pub replication: i32,
    /// How long each kind of topic keeps its records.
    pub retention: Retention,
    /// `retention.bytes` of a partition of `webhooks.rejected`.
    pub rejected_bytes: u64,
    /// The same of `webhooks.dead-letter`; `None`: by time alone, so that nothing evicts a dead letter.
    pub dead_letter_bytes: Option<u64>,
    /// The same of `webhooks.duplicates`; `None`: by time alone.
    pub duplicates_bytes: Option<u64>,
}

/// `topics.retention`
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "each is the retention of the topic it is named after"
)]
pub struct Retention {
    pub raw: Duration,
    pub events: Duration,
    pub duplicates: Duration,
    pub rejected: Duration,
    pub dead_letter: Duration,
}

/// The longest prefix, in bytes: with it and the longest event type, a name fits Kafka's 249.
const MAX_PREFIX_BYTES: usize = 64;

/// The most partitions of a topic. More would take the brokers longer than a start may last.
const MAX_PARTITIONS: i64 = 10_000;

/// Reads `topics`.
pub(super) fn topics(mut node: Node) -> Topics {
    let prefix = node.text("prefix").unwrap_or_default();
    if !prefix.bytes().all(is_topic_byte) || prefix.len() > MAX_PREFIX_BYTES {
        let message = format!("must be letters, digits, . _ - and at most {MAX_PREFIX_BYTES} long");
        node.fault("prefix", message);
    }
    let create = node.flag("create", false);
    let partitions = kafka_count(&mut node, "partitions", 12, MAX_PARTITIONS);
    let key_partitions = kafka_count(&mut node, "key_partitions", partitions, MAX_PARTITIONS);
    if key_partitions > partitions {
        let message = format!("is over topics.partitions, {partitions}");
        node.fault("key_partitions", message);
    }
    let event_partitions = kafka_count(&mut node, "event_partitions", 3, MAX_PARTITIONS);
    let replication = kafka_count(&mut node, "replication", 3, 100);
    let mut kept = node.child("retention");
    let retention = Retention {
        raw: bounded(&mut kept, "raw", 7 * DAY),
        events: bounded(&mut kept, "events", 28 * DAY),
        duplicates: bounded(&mut kept, "duplicates", 7 * DAY),
        rejected: bounded(&mut kept, "rejected", 7 * DAY),
        dead_letter: bounded(&mut kept, "dead_letter", 28 * DAY),
    };
    kept.finish();
    let mut bytes = |key| {
        let found = node.optional_size(key);
        if found.is_some_and(|bytes| i64::try_from(bytes).is_err()) {
            node.fault(key, "is more than Kafka can count");
        }
        found
    };
    let rejected_bytes = bytes("rejected_bytes").unwrap_or(1 << 30);
    let dead_letter_bytes = bytes("dead_letter_bytes");
    let duplicates_bytes = bytes("duplicates_bytes");
    node.finish();
    Topics {
        names: TopicNames { prefix },
        create,
        partitions,
        key_partitions,
        event_partitions,
        replication,
        retention,
        rejected_bytes,
        dead_letter_bytes,
        duplicates_bytes,
    }
}
