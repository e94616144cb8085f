//! A reader of topics: `read_committed`, by assignment. It joins no group and commits nothing.
//!
//! A client reads once: librdkafka 2.12 ends the process where a partition is assigned again before its
//! former assignment has come to its end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::acl::{Acl, Operation, Resource};
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::read::record;

use crate::client::{self, Heard, TIMEOUT, ask, is_refusal};
use crate::failure::Failure;

mod committed;

mod follow;

/// The longest wait for one record.
const POLL: Duration = Duration::from_millis(100);

/// How long a read may stand still where brokers are there, as while a leader moves.
const STILL: Duration = Duration::from_secs(30);

/// The same once all brokers were reported to be away.
const AWAY: Duration = Duration::from_secs(5);

/// How long a look whether they are back may take.
const PROBE: Duration = Duration::from_secs(2);

/// The records of a partition that are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Full name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The first offset that is still there.
    pub begin: i64,
    /// The first to be read.
    pub from: i64,
    /// Behind the last to be read.
    pub end: i64,
}

/// What there is to be read.
#[derive(Debug, Default)]
pub struct Opened {
    /// By topic in the order of the question, by partition.
    pub ranges: Vec<Range>,
    /// Topics that are missing or may not be read, a sentence each.
    pub lacking: Vec<String>,
}

/// A client that reads topics.
pub struct Topics {
    consumer: BaseConsumer<Heard>,
    heard: Heard,
    group: String,
    servers: String,
    count: Cell<u64>,
    refused_group: Cell<bool>,
    stop: Option<Arc<AtomicBool>>,
}

impl Topics {
    /// A client under the settings' credentials. Connects when it is first asked.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        Self::isolated(settings, "read_committed")
    }

    /// A client of these properties for which topics end where their last records do, those of open
    /// transactions too.
    pub fn uncommitted(settings: &Settings) -> Result<Self, Failure> {
        Self::isolated(settings, "read_uncommitted")
    }

    fn isolated(settings: &Settings, level: &str) -> Result<Self, Failure> {
        let base = base_config(settings).map_err(|faults| Failure::config(&faults))?;
        let mut config = client::looking(settings, base);
        config
            .set("isolation.level", level)
            // What retention deletes while it is read.
            .set("auto.offset.reset", "earliest")
            .set("fetch.queue.backoff.ms", "10")
            // What is read ahead is most of the memory of a long read. A batch that is larger is returned
            // where its partition stands first in the request, and each does in its turn.
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.max.bytes", "4194304")
            .set("fetch.message.max.bytes", "1048576");
        let made = client::consumer(&config);
        let (consumer, heard) = made.map_err(|error| {
            Failure::config(&[format!("kafka.properties: no client can be made: {error}")])
        })?;
        Ok(Self {
            consumer,
            heard,
            group: settings.group_id(),
            servers: settings.kafka.bootstrap_servers.clone(),
            count: Cell::new(0),
            refused_group: Cell::new(false),
            stop: None,
        })
    }

    /// The same client, whose reading ends once this is set.
    pub fn until(mut self, stop: &Arc<AtomicBool>) -> Self {
        self.stop = Some(Arc::clone(stop));
        self
    }

    /// Looks where each topic begins and ends, and where its records of a time begin (milliseconds since
    /// 1970); without one, its first.
    pub fn open(&self, names: &[String], since: Option<i64>) -> Result<Opened, Failure> {
        let mut opened = Opened::default();
        let mut places = Vec::new();
        for (topic, partitions) in self.partitions(names, &mut opened.lacking)? {
            places.extend((0..partitions).map(|partition| (topic.clone(), partition)));
        }
        if places.is_empty() {
            return Ok(opened);
        }
        let ends = self.offsets(&places, Offset::End)?;
        let begins = self.offsets(&places, Offset::Beginning)?;
        let since = match since {
            Some(since) => Some(self.offsets(&places, Offset::Offset(since.max(0)))?),
            None => None,
        };
        for (topic, partition) in places {
            let at = |found: &Offsets| found.get(&topic)?.get(&partition).copied().flatten();
            let begin = at(&begins).unwrap_or_default();
            let end = at(&ends).unwrap_or(begin);
            // Where no record is of that time or later, there is no offset.
            let from = since
                .as_ref()
                .map_or(begin, |since| at(since).unwrap_or(end));
            opened.ranges.push(Range {
                topic,
                partition,
                begin,
                from: from.max(begin),
                end,
            });
        }
        Ok(opened)
    }

    /// How many partitions each topic has, of those that are there.
    fn partitions(
        &self,
        names: &[String],
        lacking: &mut Vec<String>,
    ) -> Result<Vec<(String, i32)>, Failure> {
        let metadata = self.metadata(None)?;
        let mut found = Vec::new();
        for name in names {
            let listed = metadata.topics().iter().find(|topic| topic.name() == name);
            let listed = listed.filter(|topic| topic.error().is_none());
            let count = listed.map_or(0, |topic| topic.partitions().len());
            if count > 0 {
                found.push((name.clone(), i32::try_from(count).unwrap_or(i32::MAX)));
                continue;
            }
            let alone = self.metadata(Some(name))?;
            let error = alone.topics().first().and_then(MetadataTopic::error);
            let refused = error.is_some_and(|code| is_refusal(RDKafkaErrorCode::from(code)));
            lacking.push(if refused {
                refusal(name, Operation::Read)
            } else {
                format!(
                    "topic {name} is missing, or may not be seen: `sluicectl topics plan` says what lacks, \
                     and `sluicectl check` which rule of Kafka's does"
                )
            });
        }
        Ok(found)
    }

    /// What the brokers say of all topics, or of one. Makes none.
    pub fn metadata(&self, topic: Option<&str>) -> Result<rdkafka::metadata::Metadata, Failure> {
        let asked = ask(&self.consumer, |consumer| {
            consumer.fetch_metadata(topic, TIMEOUT)
        });
        asked.map_err(|error| self.away(&error.to_string()))
    }

    /// The offset of each place at a time or at an end; `None` where there is none.
    fn offsets(&self, places: &[(String, i32)], at: Offset) -> Result<Offsets, Failure> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in places {
            let added = list.add_partition_offset(topic, *partition, at);
            added.map_err(|error| Failure::Failed(error.to_string()))?;
        }
        let asked = ask(&self.consumer, move |consumer| {
            consumer.offsets_for_times(list, TIMEOUT)
        });
        let found = asked.map_err(|error| self.away(&error.to_string()))?;
        let mut offsets = Offsets::new();
        for element in found.elements() {
            let topic = element.topic();
            if let Err(error) = element.error() {
                return Err(match error.rdkafka_error_code() {
                    Some(code) if is_refusal(code) => {
                        Failure::Failed(refusal(topic, Operation::Describe))
                    }
                    _ => self.away(&format!("{topic}/{}: {error}", element.partition())),
                });
            }
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let of_topic = offsets.entry(topic.to_owned()).or_default();
            of_topic.insert(element.partition(), offset);
        }
        Ok(offsets)
    }

    fn away(&self, error: &str) -> Failure {
        let reasons = self.heard.reasons();
        let reasons = if reasons.is_empty() { error } else { &reasons };
        let servers = &self.servers;
        Failure::TryAgain(format!(
            "the brokers ({servers}) do not answer: {reasons}; `sluicectl check` looks at each of them"
        ))
    }

    /// Reads these records, by topic in their order, each partition to its end.
    pub fn read(self, ranges: &[Range], each: &mut dyn FnMut(Record)) -> Result<(), Failure> {
        self.read_while(ranges, &mut |record| {
            each(record);
            true
        })
    }

    /// The same, until `each` has enough.
    pub fn read_while(
        self,
        ranges: &[Range],
        each: &mut dyn FnMut(Record) -> bool,
    ) -> Result<(), Failure> {
        let topics = ranges.chunk_by(|one, next| one.topic == next.topic);
        let all = topics.clone().count();
        for (done, some) in topics.enumerate() {
            let wanted = some.iter().filter(|range| range.from < range.end);
            let wanted: Vec<&Range> = wanted.collect();
            if !wanted.is_empty() {
                let read = self.read_topic(&wanted, each);
                if !read.map_err(|failure| self.so_far(failure, (done, all)))? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A failure, with what was read before it.
    fn so_far(&self, failure: Failure, (done, all): (usize, usize)) -> Failure {
        let Failure::TryAgain(line) = failure else {
            return failure;
        };
        let count = self.count.get();
        Failure::TryAgain(format!(
            "{line}; {count} records were read, and {done} of {all} topics to their ends: what is printed is \
             not all"
        ))
    }

    /// One topic at a time, for the report of an end has the partition's number alone. Whether more is
    /// wanted.
    fn read_topic(
        &self,
        ranges: &[&Range],
        each: &mut dyn FnMut(Record) -> bool,
    ) -> Result<bool, Failure> {
        let mut open: BTreeMap<i32, i64> = BTreeMap::new();
        for range in ranges {
            open.insert(range.partition, range.end);
        }
        self.assign(ranges.iter().map(|range| (*range, range.from)))?;
        let topic = ranges[0].topic.as_str();
        let (mut since, mut patience) = (Instant::now(), STILL);
        self.heard.take_all_down();
        while !open.is_empty() {
            let stop = self.stop.as_ref();
            if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(Failure::TryAgain("it was stopped".to_owned()));
            }
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let record = record(&message);
                    (since, patience) = (Instant::now(), STILL);
                    let Some(end) = open.get(&record.partition).copied() else {
                        continue;
                    };
                    if record.offset + 1 >= end {
                        open.remove(&record.partition);
                    }
                    if record.offset < end {
                        self.count.set(self.count.get() + 1);
                        if !each(record) {
                            return Ok(false);
                        }
                    }
                }
                // The end of what is committed, which is no earlier than it was when the range was made.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                    since = Instant::now();
                }
                Some(Err(error)) => self.look_at(topic, &error)?,
                None => {}
            }
            if self.heard.take_all_down() {
                patience = AWAY;
            }
            if since.elapsed() > patience {
                let what = format!("{topic} brought nothing for {} s", patience.as_secs());
                return Err(self.away(&what));
            }
        }
        Ok(true)
    }

    fn assign<'r>(&self, ranges: impl Iterator<Item = (&'r Range, i64)>) -> Result<(), Failure> {
        let failed = |error: KafkaError| Failure::Failed(error.to_string());
        let mut list = TopicPartitionList::new();
        for (range, from) in ranges {
            let (topic, partition) = (&range.topic, range.partition);
            let added = list.add_partition_offset(topic, partition, Offset::Offset(from));
            added.map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)
    }

    /// What an error of the consumer means: most pass by themselves.
    fn look_at(&self, topic: &str, error: &KafkaError) -> Result<(), Failure> {
        match (error, error.rdkafka_error_code()) {
            (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                Err(Failure::Failed(if topic.is_empty() {
                    "Kafka refuses READ on one of the topics: `sluicectl check` names it".to_owned()
                } else {
                    refusal(topic, Operation::Read)
                }))
            }
            // Its coordinator is looked for all the time, and is not needed.
            (_, Some(RDKafkaErrorCode::GroupAuthorizationFailed)) => {
                if !self.refused_group.replace(true) {
                    let group = Resource::Group(self.group.clone());
                    let rule = Acl::literal(group, Operation::Describe);
                    eprintln!("Kafka refuses {rule}");
                }
                Ok(())
            }
            (KafkaError::MessageConsumptionFatal(code), _) => Err(Failure::Failed(format!(
                "the topics cannot be read: {code}"
            ))),
            _ => Ok(()),
        }
    }
}

/// By topic and partition.
type Offsets = BTreeMap<String, BTreeMap<i32, Option<i64>>>;

/// The rule that lacks, with the command that grants it.
pub fn refusal(topic: &str, operation: Operation) -> String {
    let rule = Acl::literal(Resource::Topic(topic.to_owned()), operation);
    format!("Kafka refuses {rule}")
}

#[cfg(test)]
mod tests;
