//! How far the services have come: the offsets that their group has committed. It is asked and not joined.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::acl::{Acl, Operation, Resource};

use super::Topics;
use crate::client::{TIMEOUT, ask};
use crate::failure::Failure;

impl Topics {
    /// The committed offset of each partition of a topic, which must be there; `None` where there is none.
    pub fn committed(&self, topic: &str) -> Result<BTreeMap<i32, Option<i64>>, Failure> {
        let mut lacking = Vec::new();
        let found = self.partitions(&[topic.to_owned()], &mut lacking)?;
        if let Some(line) = lacking.pop() {
            return Err(Failure::Failed(line));
        }
        let partitions = found.first().map_or(0, |(_, partitions)| *partitions);
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let asked = ask(&self.consumer, |consumer| {
            consumer.committed_offsets(list, TIMEOUT)
        });
        let found = match asked {
            Ok(found) => found,
            Err(_) if self.heard.is_group_refused() => {
                let group = Resource::Group(self.group.clone());
                let rule = Acl::literal(group, Operation::Describe);
                return Err(Failure::Failed(format!("Kafka refuses {rule}")));
            }
            Err(error) => {
                let error = format!("the offsets of {}: {error}", self.group);
                return Err(self.away(&error));
            }
        };
        let mut committed = BTreeMap::new();
        for element in found.elements() {
            if let Err(error) = element.error() {
                let error = format!("the offset of {topic}/{}: {error}", element.partition());
                return Err(self.away(&error));
            }
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            committed.insert(element.partition(), offset);
        }
        Ok(committed)
    }
}
