//! Collecting: the only place that polls, and so the only place where partitions come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use sluice_schemas::service::kafka;
use sluice_schemas::service::settings::{Membership, Settings};

/// The most records of a batch. Larger batches cost memory and give little more: at 5,000 a commit
/// is some percent of the batch's time.
pub const BATCH_RECORDS: usize = 5_000;

/// The most bytes of a batch, so that a few large bodies fill a batch as many small ones do.
pub const BATCH_BYTES: usize = 8 << 20;

/// The longest that a batch is collected, so that a slow trickle does not wait for company.
pub const BATCH_TIME: Duration = Duration::from_millis(50);

/// How many records of a partition the client fetches ahead, about.
pub const QUEUED_MESSAGES: &str = "4000";

/// How long one poll waits for the first record when there is nothing else to do.
const IDLE_POLL: Duration = Duration::from_millis(100);

/// A raw record, out of the client's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Raw's partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When the broker appended it, milliseconds since 1970.
    pub appended_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// The body, byte for byte.
    pub value: Vec<u8>,
    /// Its Kafka headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The bytes that it holds.
    fn size(&self) -> usize {
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            name.len() + value.as_ref().map_or(0, Vec::len)
        };
        let headers: usize = self.headers.iter().map(header).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.len() + headers
    }

    /// The last value of a header, which is the one that counts in Kafka.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|(found, _)| found == name)
            .and_then(|(_, value)| value.as_deref())
    }
}

impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            appended_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(<[u8]>::to_vec),
            // A record without a value is a body without bytes: nobody but ingest writes here.
            value: message.payload().unwrap_or_default().to_vec(),
            headers,
        }
    }
}

/// The partitions that a consumer owns now, each with the epoch of its assignment. A revoke or loss
/// ends the epoch, even if the partition comes straight back.
#[derive(Debug, Default)]
pub struct Assignments(Mutex<Owned>);

#[derive(Debug, Default)]
struct Owned {
    /// The group has answered once, be it with no partition at all.
    joined: bool,
    /// A rebalance failed half-way: what is owned is no longer known.
    failed: Option<String>,
    next: u64,
    epochs: BTreeMap<i32, u64>,
}

impl Assignments {
    fn lock(&self) -> MutexGuard<'_, Owned> {
        // The lock guards plain values: a panic elsewhere leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions and their epochs.
    pub fn now(&self) -> BTreeMap<i32, u64> {
        self.lock().epochs.clone()
    }

    /// Whether the group has given an assignment yet, which may be empty.
    pub fn joined(&self) -> bool {
        self.lock().joined
    }

    /// Why what is owned is no longer known, if so.
    pub fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Whether this epoch of a partition still lasts.
    pub fn holds(&self, partition: i32, epoch: u64) -> bool {
        self.lock().epochs.get(&partition) == Some(&epoch)
    }

    fn assign(&self, partitions: impl Iterator<Item = i32>) {
        let mut owned = self.lock();
        owned.joined = true;
        for partition in partitions {
            owned.next += 1;
            let epoch = owned.next;
            owned.epochs.insert(partition, epoch);
        }
    }

    fn revoke(&self, partitions: impl Iterator<Item = i32>) {
        let mut owned = self.lock();
        for partition in partitions {
            owned.epochs.remove(&partition);
        }
    }
}

/// What the client calls back while it is polled.
pub struct RawContext {
    /// Shared with the worker and its restorer.
    pub assignments: Arc<Assignments>,
}

impl ClientContext for RawContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is called an error, and comes back from the poll as well.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        // Brokers come and go; what matters comes back from a call. The log keeps the trace.
        tracing::info!(%error, reason, "the consumer's connection to Kafka");
    }
}

impl ConsumerContext for RawContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers: Vec<i32> = partitions
            .elements()
            .iter()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
            .collect();
        let cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let outcome = if matches!(error, RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
            self.assignments.assign(numbers.iter().copied());
            // A place to stand, not a place to read: the partition is paused until it is restored,
            // and then sought to where reading begins. A place of its own keeps the client from asking
            // for a committed offset that may not be there. A number would not do: a fetch may go out
            // before the pause is heard, and fail for good where raw begins later than that.
            let stand = partitions
                .set_all_offsets(Offset::Beginning)
                .and_then(|()| {
                    if cooperative {
                        consumer.incremental_assign(partitions)
                    } else {
                        consumer.assign(partitions)
                    }
                });
            stand.and_then(|()| consumer.pause(partitions))
        } else {
            self.assignments.revoke(numbers.iter().copied());
            if cooperative {
                consumer.incremental_unassign(partitions)
            } else {
                consumer.unassign()
            }
        };
        match outcome {
            Ok(()) => tracing::info!(partitions = ?numbers, ?error, "rebalanced"),
            Err(failure) => {
                // Not owned as far as we are concerned: nothing of these is judged.
                self.assignments.revoke(numbers.iter().copied());
                self.assignments.lock().failed = Some(failure.to_string());
                tracing::warn!(partitions = ?numbers, ?error, %failure, "a rebalance failed");
            }
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(Duration::from_millis(100))
    }
}

/// The consumer of raw, subscribed.
pub fn consumer(
    settings: &Settings,
    base: &ClientConfig,
    worker: u32,
    assignments: Arc<Assignments>,
) -> Result<BaseConsumer<RawContext>, KafkaError> {
    let mut config = base.clone();
    let size = settings.fed_max_message_bytes();
    for (property, value) in [
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "3000"),
        // A queue that filled once is asked again after this, and not after a second.
        ("fetch.queue.backoff.ms", "10"),
        ("queued.max.messages.kbytes", "16384"),
        // The bound above counts values alone: this one bounds what large headers may cost.
        ("queued.min.messages", QUEUED_MESSAGES),
        ("fetch.wait.max.ms", "100"),
    ] {
        // What a person wrote under `kafka.properties` goes before what we would choose.
        if config.get(property).is_none() {
            config.set(property, value);
        }
    }
    config
        .set("group.id", settings.group_id())
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("message.max.bytes", size.to_string());
    if settings.processor.membership == Membership::Static {
        config.set("group.instance.id", settings.transactional_id(worker));
    }
    let consumer: BaseConsumer<RawContext> =
        config.create_with_context(RawContext { assignments })?;
    consumer.subscribe(&[&settings.topics.names.raw()])?;
    Ok(consumer)
}

/// The records of one partition in a batch, in the order of their offsets.
#[derive(Debug)]
pub struct Part {
    /// The epoch in which they were read.
    pub epoch: u64,
    /// Where reading began: the last commit's end, or what the restore set.
    pub from: i64,
    /// Where the client stood before the first of them: the same, or records are missing.
    pub follows: i64,
    /// The records; never empty.
    pub records: Vec<Record>,
}

/// Records that were read and are not committed yet.
#[derive(Debug, Default)]
pub struct Batch {
    /// By partition.
    pub parts: BTreeMap<i32, Part>,
    records: usize,
    bytes: usize,
}

impl Batch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records
    }

    fn is_full(&self) -> bool {
        self.records >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }

    fn push(&mut self, record: Record, expected: Expected) {
        self.records += 1;
        self.bytes += record.size();
        let part = self.parts.entry(record.partition).or_insert_with(|| Part {
            epoch: expected.epoch,
            from: expected.from,
            follows: expected.stands,
            records: Vec::new(),
        });
        part.records.push(record);
    }

    /// Drops what is committed meanwhile: records before `ends` of their partition.
    pub fn advance(&mut self, ends: &BTreeMap<i32, i64>) {
        for (partition, part) in &mut self.parts {
            if let Some(&end) = ends.get(partition) {
                part.records.retain(|record| record.offset >= end);
                part.from = end;
                part.follows = end;
            }
        }
        self.retain(|_, part| !part.records.is_empty());
    }

    /// Drops the records of partitions for which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(i32, &Part) -> bool) {
        self.parts.retain(|partition, part| keep(*partition, part));
        let records = self.parts.values().flat_map(|part| &part.records);
        self.records = records.clone().count();
        self.bytes = records.map(Record::size).sum();
    }
}

/// What a poll brought besides records.
#[derive(Debug, Default)]
pub struct Seen {
    /// Partitions with a record or an end-of-partition, as they came; whether it was a record.
    pub alive: Vec<(i32, bool)>,
    /// Partitions that the client reads from before where it was sought to, and where that was: the
    /// answer to where raw begins may come late and undo a seek.
    pub behind: BTreeMap<i32, i64>,
    /// The consumer is of no more use; the sentence says why.
    pub fatal: Option<String>,
}

/// Polls until the batch is full, nothing more is at hand, or its time is up. Polls once at least,
/// also with a full batch that is carried over from an abort: rebalances come no other way.
/// `expected` says for a partition the epoch and whether its records are wanted; others are dropped,
/// for they were read before a seek. `idle`: there is nothing to do with a batch now, so wait.
pub fn collect(
    consumer: &BaseConsumer<RawContext>,
    batch: &mut Batch,
    expected: &BTreeMap<i32, Expected>,
    idle: bool,
) -> Seen {
    let mut seen = Seen::default();
    let deadline = Instant::now() + BATCH_TIME;
    let mut wait = if idle || batch.is_empty() {
        IDLE_POLL
    } else {
        Duration::ZERO
    };
    loop {
        match consumer.poll(wait) {
            None => break,
            Some(Ok(message)) => {
                let partition = message.partition();
                seen.alive.push((partition, true));
                take(consumer, batch, expected, &message, &mut seen);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => seen.alive.push((partition, false)),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                seen.fatal = Some(format!("the consumer failed for good: {code}"));
                break;
            }
            // The client has lost a position and cannot be sought out of that state, or it could not
            // read a batch and would pass over it. A new process restores, or stops for a person.
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::NotImplemented),
            ))) => {
                seen.fatal = Some(format!("raw cannot be read on: {code}"));
                break;
            }
            Some(Err(error)) => {
                // Information: the client goes on by itself, and the watchdog sees if it does not.
                tracing::info!(%error, "polling raw");
            }
        }
        if batch.is_full() || Instant::now() >= deadline {
            break;
        }
        wait = Duration::ZERO;
    }
    seen
}

/// What is expected of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The epoch of its assignment.
    pub epoch: u64,
    /// The lowest offset that is still to be judged.
    pub from: i64,
    /// The offset after the last record that was polled, or where the client was sought to.
    pub stands: i64,
}

fn take(
    consumer: &BaseConsumer<RawContext>,
    batch: &mut Batch,
    expected: &BTreeMap<i32, Expected>,
    message: &BorrowedMessage<'_>,
    seen: &mut Seen,
) {
    let partition = message.partition();
    let Some(expected) = expected.get(&partition) else {
        return;
    };
    let next = batch
        .parts
        .get(&partition)
        .and_then(|part| part.records.last())
        .map_or(expected.from, |last| last.offset + 1);
    let held = consumer
        .context()
        .assignments
        .holds(partition, expected.epoch);
    if !held {
        return;
    }
    if message.offset() < next {
        seen.behind.insert(partition, next);
        return;
    }
    seen.behind.remove(&partition);
    batch.push(Record::from(message), *expected);
}
