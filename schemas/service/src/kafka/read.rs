//! Reading topics as a tool does: from their beginnings, outside of any group, with nothing committed.
//!
//! All of it blocks, and is not called from within a tokio runtime's worker.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_schemas::record::Record;
use thiserror::Error;

use super::oauth::log_in;
use super::plain::Plain;

/// How long one request for metadata, bounds or offsets may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest wait for one record: short next to the patience of any caller.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// The name of the group, where the configuration gives none. librdkafka demands one; its offsets are neither
/// read nor written.
const GROUP: &str = "sluice-reader";

/// Why topics or offsets cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The client cannot be made, or the brokers refuse.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// There is no such topic, or it may not be seen.
    #[error("topic {0} is not there")]
    NoTopic(String),
    /// The ends of these partitions did not come within the patience.
    #[error("{topic} has no end on partitions {partitions:?} within {patience:?}")]
    NoEnd {
        /// Full name of the topic.
        topic: String,
        /// The partitions that are not read to their ends.
        partitions: BTreeSet<i32>,
        /// For how long it was read.
        patience: Duration,
    },
    /// A request that is tried again failed until the patience was over; its last error.
    #[error("{what} cannot be read within {patience:?}: {error}")]
    NoAnswer {
        /// What was requested.
        what: String,
        /// For how long it was tried.
        patience: Duration,
        /// The last error.
        error: KafkaError,
    },
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions: what our users see.
    Committed,
    /// All.
    Uncommitted,
}

/// Reads topics from their beginnings, and goes on with what comes.
pub struct Reader {
    consumer: BaseConsumer<Plain>,
}

impl Reader {
    /// A reader of all partitions of these topics, which must exist.
    pub fn new(
        base: &ClientConfig,
        topics: &[String],
        isolation: Isolation,
    ) -> Result<Self, ReadError> {
        let consumer = client(base, isolation)?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            add_beginnings(&mut list, topic, partitions(&consumer, topic)?)?;
        }
        consumer.assign(&list)?;
        Ok(Self { consumer })
    }

    /// The next record, if one comes within this time. The records of a partition come in their order.
    pub fn next(&self, wait: Duration) -> Result<Option<Record>, ReadError> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(record(&message))),
            Some(Err(error)) if is_passing(&error) => Ok(None),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

/// Reads topics from their beginnings to their ends, for `patience` each at most: with
/// [`Isolation::Committed`], to the last stable offset, which an open transaction holds back.
pub fn read(
    base: &ClientConfig,
    topics: &[String],
    isolation: Isolation,
    patience: Duration,
) -> Result<Vec<Record>, ReadError> {
    let consumer = client(base, isolation)?;
    let mut records = Vec::new();
    // One topic at a time, for the report of an end has the partition's number alone.
    for topic in topics {
        let count = partitions(&consumer, topic)?;
        let mut list = TopicPartitionList::new();
        add_beginnings(&mut list, topic, count)?;
        consumer.assign(&list)?;
        let mut open: BTreeSet<i32> = (0..count).collect();
        let end = Instant::now() + patience;
        while !open.is_empty() {
            match consumer.poll(POLL_TIMEOUT) {
                Some(Ok(message)) => records.push(record(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) if !is_passing(&error) => return Err(error.into()),
                Some(Err(_)) | None => {}
            }
            if Instant::now() > end {
                return Err(ReadError::NoEnd {
                    topic: topic.clone(),
                    partitions: open,
                    patience,
                });
            }
        }
    }
    Ok(records)
}

/// The topics whose names begin with a prefix, sorted; without Kafka's own.
pub fn topics_with_prefix(base: &ClientConfig, prefix: &str) -> Result<Vec<String>, ReadError> {
    let consumer = client(base, Isolation::Committed)?;
    let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT)?;
    let mut names: Vec<String> = metadata
        .topics()
        .iter()
        .map(|topic| topic.name().to_owned())
        .filter(|name| name.starts_with(prefix) && !name.starts_with("__"))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// How many partitions a topic has. A consumer's request for metadata creates no topic.
pub fn partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> Result<i32, ReadError> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    let topics = metadata.topics();
    let count = topics.first().map_or(0, |topic| topic.partitions().len());
    match i32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(ReadError::NoTopic(topic.to_owned())),
    }
}

/// What librdkafka borrows, as a record of ours.
pub fn record(message: &impl Message) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
            let value = header.value.unwrap_or_default();
            (header.key.to_owned(), value.to_vec())
        };
        headers.iter().map(owned).collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().unwrap_or_default().to_vec(),
        headers,
    }
}

fn client(base: &ClientConfig, isolation: Isolation) -> Result<BaseConsumer<Plain>, ReadError> {
    let level = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    let mut config = base.clone();
    if config.get("group.id").is_none() {
        config.set("group.id", GROUP);
    }
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", level)
        // The end of a partition is reported by a fetch that finds nothing: it need not wait.
        .set("fetch.wait.max.ms", "20")
        .set("fetch.queue.backoff.ms", "10")
        // Larger than any record that a source may bring.
        .set("fetch.message.max.bytes", "8388608")
        .set("log_level", "3");
    made(&config)
}

/// A client of these properties, logged in where it needs a token.
pub(super) fn made(config: &ClientConfig) -> Result<BaseConsumer<Plain>, ReadError> {
    let client: BaseConsumer<Plain> = config.create_with_context(Plain)?;
    log_in(config, || drop(client.poll(Duration::ZERO)));
    Ok(client)
}

fn add_beginnings(
    list: &mut TopicPartitionList,
    topic: &str,
    partitions: i32,
) -> Result<(), KafkaError> {
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    Ok(())
}

/// Whether an error of a consumer passes by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::PartitionEOF(_)
            | KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::OperationTimedOut
            )
    )
}
