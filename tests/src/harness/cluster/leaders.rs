//! Where partitions and coordinators are.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;

use super::Cluster;
use super::properties::COORDINATORS;
use crate::harness::wait::{PATIENCE, wait_for};

/// What the metadata has for a partition that nobody leads.
const NONE: i32 = -1;

/// How long one question for metadata may take: a node that is asked may be paused.
const QUESTION: Duration = Duration::from_secs(1);

impl Cluster {
    /// The node that leads a partition, counted from 0. Waits while none does.
    pub fn leader_of(&self, topic: &str, partition: i32) -> Result<usize> {
        let client = self.observer()?;
        let what = format!("a leader of {topic}/{partition}");
        wait_for(&what, PATIENCE, || {
            // Nodes are counted from 1 there.
            let id = leader_now(&client, topic, partition).map(usize::try_from);
            Ok(id.and_then(|id| id.ok()?.checked_sub(1)))
        })
    }

    /// Waits until nobody leads a partition: the brokers have noticed that its last node is gone.
    pub fn wait_leaderless(&self, topic: &str, partition: i32, patience: Duration) -> Result<()> {
        let client = self.observer()?;
        let what = format!("{topic}/{partition} to have no leader");
        wait_for(&what, patience, || {
            let leader = leader_now(&client, topic, partition);
            Ok((leader == Some(NONE)).then_some(()))
        })
    }

    /// The node that coordinates a consumer group, counted from 0.
    pub fn group_coordinator(&self, group: &str) -> Result<usize> {
        self.leader_of("__consumer_offsets", coordinated_by(group)?)
    }

    /// The node that coordinates the transactions of an id, counted from 0.
    pub fn transaction_coordinator(&self, id: &str) -> Result<usize> {
        self.leader_of("__transaction_state", coordinated_by(id)?)
    }

    /// Waits until every partition has all its replicas in sync: then one node may go and none is
    /// short of them.
    pub fn wait_in_sync(&self, patience: Duration) -> Result<()> {
        let client = self.observer()?;
        wait_for("all replicas to be in sync", patience, || {
            let Ok(metadata) = client.fetch_metadata(None, QUESTION) else {
                return Ok(None);
            };
            let mut partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            let in_sync = partitions.all(|found| found.isr().len() == found.replicas().len());
            Ok(in_sync.then_some(()))
        })
    }

    /// A client that looks at the metadata by the direct listeners.
    pub(super) fn observer(&self) -> Result<BaseConsumer> {
        rdkafka::ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            // Refused connections are the normal case here, not news.
            .set("log_level", "0")
            .set("reconnect.backoff.max.ms", "200")
            .set("topic.metadata.refresh.interval.ms", "500")
            .create()
            .context("cannot make a client")
    }
}

/// The id of the node that leads a partition now, or [`NONE`]; nothing where nobody answers.
fn leader_now(client: &BaseConsumer, topic: &str, partition: i32) -> Option<i32> {
    let metadata = client.fetch_metadata(Some(topic), QUESTION).ok()?;
    let mut partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    Some(partitions.find(|found| found.id() == partition)?.leader())
}

/// The partition of a coordinators' topic that a name belongs to: Kafka's own rule.
fn coordinated_by(name: &str) -> Result<i32> {
    let hash = name.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka's own `abs`, for which the smallest number is 0.
    let positive = hash.checked_abs().unwrap_or(0).unsigned_abs();
    Ok(i32::try_from(positive % COORDINATORS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hashed_as_java_does() {
        // As String.hashCode() of a Java gave them: -899285041, 203322806, -179197694, and the
        // smallest number there is.
        assert_eq!(coordinated_by("sluice").unwrap(), 1);
        assert_eq!(coordinated_by("processor-1").unwrap(), 2);
        assert_eq!(coordinated_by("prüfung").unwrap(), 2);
        assert_eq!(coordinated_by("polygenelubricants").unwrap(), 0);
    }
}
