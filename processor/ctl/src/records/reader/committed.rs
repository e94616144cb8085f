//! How far the services have come: the offsets that their group has committed. It is asked and not joined.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::acl::{Acl, Operation, Resource};

use super::Topics;
use crate::client::{TIMEOUT, ask, is_refusal};
use crate::failure::Failure;

/// How long the question is asked again: the group's coordinator moves, and transactions are being ended.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(200);

impl Topics {
    /// The committed offset of each partition of a topic, which must be there; `None` where there is none.
    pub fn committed(&self, topic: &str) -> Result<BTreeMap<i32, Option<i64>>, Failure> {
        let mut lacking = Vec::new();
        let found = self.partitions(&[topic.to_owned()], &mut lacking)?;
        if let Some(line) = lacking.pop() {
            return Err(Failure::Failed(line));
        }
        let partitions = found.first().map_or(0, |(_, partitions)| *partitions);
        let since = Instant::now();
        loop {
            match self.committed_now(topic, partitions) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    if error.rdkafka_error_code().is_some_and(is_refusal) {
                        let group = Resource::Group(self.group.clone());
                        let rule = Acl::literal(group, Operation::Describe);
                        return Err(Failure::Failed(format!("Kafka refuses {rule}")));
                    }
                    if since.elapsed() > PATIENCE {
                        return Err(self.away(&format!("the offsets of {}: {error}", self.group)));
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn committed_now(
        &self,
        topic: &str,
        partitions: i32,
    ) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let asked = ask(&self.consumer, move |consumer| {
            consumer.committed_offsets(list, TIMEOUT)
        });
        let refused = || KafkaError::OffsetFetch(RDKafkaErrorCode::GroupAuthorizationFailed);
        let found = match asked {
            Err(_) if self.heard.is_group_refused() => return Err(refused()),
            asked => asked?,
        };
        let mut committed = BTreeMap::new();
        for element in found.elements() {
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            committed.insert(element.partition(), offset);
        }
        if committed.values().all(Option::is_none) && self.heard.is_group_refused() {
            return Err(refused());
        }
        Ok(committed)
    }
}
