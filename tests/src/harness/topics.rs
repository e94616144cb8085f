//! The topics as a reader of ours sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use apache_avro::reader::datum::GenericDatumReader;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_schemas::event::{
    CONTENT_TYPE, CONTENT_TYPE_CONFLUENT, CONTENT_TYPE_SINGLE_OBJECT, PARSED, WebhookEvent,
};

static READER: LazyLock<GenericDatumReader<'static>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the schema refers to none but itself")]
    GenericDatumReader::builder(&PARSED)
        .build()
        .expect("our own schema resolves")
});

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Full name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970, as the topic's setting has it.
    pub timestamp: i64,
    /// Key; empty where there is none.
    pub key: Vec<u8>,
    /// Value; empty where there is none.
    pub value: Vec<u8>,
    /// Headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The value of a header that stands once.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find_map(|(found, value)| (found == name).then_some(value.as_slice()))
    }

    /// A header's value as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// A header's value as a decimal number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// The event in the value, as `content-type` says it is framed.
    pub fn event(&self) -> Result<WebhookEvent> {
        let datum = match self.text(CONTENT_TYPE) {
            // The fingerprint is judged by readers of other languages (tests/python), not by the
            // library that wrote it.
            Some(CONTENT_TYPE_SINGLE_OBJECT) => self
                .value
                .strip_prefix(&[0xc3, 0x01])
                .and_then(|rest| rest.get(8..))
                .context("not in single-object encoding")?,
            Some(CONTENT_TYPE_CONFLUENT) => {
                if self.value.first() != Some(&0) {
                    bail!("not in the Confluent wire format");
                }
                self.value.get(5..).context("too short for a schema id")?
            }
            other => bail!("content-type {other:?} is none of ours"),
        };
        let mut rest = datum;
        let event = READER.read_deser(&mut rest)?;
        if !rest.is_empty() {
            bail!("{} bytes follow the event", rest.len());
        }
        Ok(event)
    }
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions: what our users see.
    Committed,
    /// All.
    Uncommitted,
}

/// Reads on and on, from the beginning, and keeps what it read.
pub struct Reader {
    consumer: BaseConsumer,
    /// What was read; the records of a partition stand in their order.
    pub records: Vec<Record>,
}

impl Reader {
    /// A reader of all partitions of these topics, which must exist.
    pub fn new(bootstrap: &str, topics: &[String], isolation: Isolation) -> Result<Self> {
        let consumer = client(bootstrap, isolation)?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partitions(&consumer, topic)? {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&list)?;
        Ok(Self {
            consumer,
            records: Vec::new(),
        })
    }

    /// Waits for one record at most this long; whether one came.
    pub fn poll(&mut self, wait: Duration) -> Result<bool> {
        let record = match self.consumer.poll(wait) {
            None => return Ok(false),
            Some(Ok(message)) => Record::from(&message),
            Some(Err(error)) if is_information(&error) => return Ok(false),
            Some(Err(error)) => return Err(error.into()),
        };
        self.records.push(record);
        Ok(true)
    }

    /// Reads until `done` says so of all that was read.
    pub fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&[Record]) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        while !done(&self.records) {
            if Instant::now() >= end {
                bail!(
                    "read {patience:?} for {what}, in vain: {:?}",
                    census(&self.records)
                );
            }
            self.poll(Duration::from_millis(100))?;
        }
        Ok(())
    }
}

/// Reads topics from their beginnings to their ends: with [`Isolation::Committed`], to the last stable
/// offset, which an open transaction holds back.
pub fn read(bootstrap: &str, topics: &[String], isolation: Isolation) -> Result<Vec<Record>> {
    let consumer = client(bootstrap, isolation)?;
    let mut records = Vec::new();
    // One topic at a time, for the news of an end names the partition's number alone.
    for topic in topics {
        let count = partitions(&consumer, topic)?;
        let mut list = TopicPartitionList::new();
        for partition in 0..count {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut open: BTreeSet<i32> = (0..count).collect();
        let end = Instant::now() + Duration::from_secs(120);
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(Record::from(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) if !is_information(&error) => return Err(error.into()),
                Some(Err(_)) | None => {}
            }
            if Instant::now() > end {
                bail!("{topic} has no end on partitions {open:?}");
            }
        }
    }
    Ok(records)
}

/// The topics whose names begin with a prefix, sorted.
pub fn with_prefix(bootstrap: &str, prefix: &str) -> Result<Vec<String>> {
    let consumer = client(bootstrap, Isolation::Committed)?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(20))?;
    let mut names: Vec<String> = metadata
        .topics()
        .iter()
        .map(|topic| topic.name().to_owned())
        .filter(|name| name.starts_with(prefix) && !name.starts_with("__"))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// How many records each topic has.
pub fn census(records: &[Record]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record.topic.clone()).or_default() += 1;
    }
    counts
}

fn client(bootstrap: &str, isolation: Isolation) -> Result<BaseConsumer> {
    let level = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        // A group must be named; nothing is ever committed under it.
        .set("group.id", "sluice-tests-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", level)
        .set("fetch.wait.max.ms", "20")
        .set("fetch.queue.backoff.ms", "10")
        // Larger than any record that a source may bring.
        .set("fetch.message.max.bytes", "8388608")
        .set("log_level", "3")
        .create()?)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20))?;
    let count = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    if count == 0 {
        bail!("topic {topic} is not there");
    }
    Ok(i32::try_from(count)?)
}

/// Whether an error of a consumer is news that it goes on by itself.
fn is_information(error: &KafkaError) -> bool {
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

impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| {
                    (
                        header.key.to_owned(),
                        header.value.unwrap_or_default().to_vec(),
                    )
                })
                .collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            headers,
        }
    }
}
