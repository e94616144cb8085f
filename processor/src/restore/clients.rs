//! What a restore asks the brokers.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use sluice_schemas::dedup_log::DedupRecord;
use sluice_schemas::service::kafka;
use sluice_schemas::service::settings::Settings;

use super::{AGAIN, Halt};
use crate::consume::QUEUED_MESSAGES;

/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(10);

/// How long an open transaction is waited for before other partitions have their turn.
const STABLE_WAIT: Duration = Duration::from_secs(2);

/// How far before its end the log is read for its last record, at first, in offsets: some records and
/// their markers.
const LAST_REACH: i64 = 64;

/// What these clients call back: nothing that the calls do not tell.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is called an error, and is what a read waits for.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::info!(%error, reason, "the restorer's connection to Kafka");
        }
    }
}

impl ConsumerContext for Quiet {}

/// Two clients: what is stable, and what is there at all. Both bear the group's name for its committed
/// offsets, and never join it.
pub struct Clients {
    stable: BaseConsumer<Quiet>,
    newest: BaseConsumer<Quiet>,
    raw: String,
    log: String,
}

impl Clients {
    pub fn new(settings: &Settings, base: &ClientConfig) -> Result<Self, KafkaError> {
        let client = |isolation: &str| {
            let mut config = base.clone();
            config
                .set("group.id", settings.group_id())
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false")
                .set("enable.partition.eof", "true")
                .set("auto.offset.reset", "error")
                .set("isolation.level", isolation)
                .set("queued.max.messages.kbytes", "16384")
                .set("queued.min.messages", QUEUED_MESSAGES)
                .set("fetch.queue.backoff.ms", "10")
                // The end of the partition is reported by a fetch that finds nothing: it need not wait.
                .set("fetch.wait.max.ms", "10")
                .set(
                    "message.max.bytes",
                    settings.fed_max_message_bytes().to_string(),
                )
                .create_with_context(Quiet)
        };
        Ok(Self {
            stable: client("read_committed")?,
            newest: client("read_uncommitted")?,
            raw: settings.topics.names.raw(),
            log: settings.topics.names.dedup_log(),
        })
    }

    /// How many partitions raw has now.
    pub fn partitions(&self) -> Result<u32, KafkaError> {
        let metadata = self.stable.fetch_metadata(Some(&self.raw), ASK)?;
        let topic = metadata.topics().first();
        let count = topic.map_or(0, |found| found.partitions().len());
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The group's committed offset; one that a transaction is about to change is waited for.
    pub fn committed(&self, partition: i32) -> Result<Option<i64>, KafkaError> {
        let list = single(&self.raw, partition, Offset::Invalid)?;
        let list = self.stable.committed_offsets(list, ASK)?;
        let Some(found) = list.find_partition(&self.raw, partition) else {
            return Ok(None);
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// Raw's first and next stable offset.
    pub fn raw_bounds(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.stable.fetch_watermarks(&self.raw, partition, ASK)
    }

    /// The log's first and next offset, decided or not.
    pub fn log_bounds(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.newest.fetch_watermarks(&self.log, partition, ASK)
    }

    /// Waits a little until every transaction below `end` is decided.
    pub fn wait_stable(
        &self,
        partition: i32,
        end: i64,
        held: &dyn Fn() -> bool,
    ) -> Result<(), Halt> {
        let until = Instant::now() + STABLE_WAIT;
        while held() {
            let (_, stable) = self.stable.fetch_watermarks(&self.log, partition, ASK)?;
            if stable >= end {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Halt::Later(format!(
                    "a transaction is open: the dedup-log is stable up to {stable} of {end}"
                )));
            }
            thread::sleep(AGAIN);
        }
        Err(Halt::EpochEnded)
    }

    /// When the first raw record at or after an offset was appended; `None` where there is none yet.
    pub fn first_append_time(&self, partition: i32, from: i64) -> Result<Option<i64>, KafkaError> {
        self.stable
            .assign(&single(&self.raw, partition, Offset::Offset(from))?)?;
        let found = loop {
            match self.stable.poll(ASK) {
                Some(Ok(message)) => break message.timestamp().to_millis().or(Some(0)),
                Some(Err(KafkaError::PartitionEOF(_))) => break None,
                Some(Err(error)) if is_information(&error) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(KafkaError::NoMessageReceived),
            }
        };
        self.stable.unassign()?;
        Ok(found)
    }

    /// The first log offset appended at or after a time; `end` where there is none.
    pub fn log_offset_since(
        &self,
        partition: i32,
        since_ms: i64,
        end: i64,
    ) -> Result<i64, KafkaError> {
        let list = single(&self.log, partition, Offset::Offset(since_ms))?;
        let list = self.stable.offsets_for_times(list, ASK)?;
        let Some(found) = list.find_partition(&self.log, partition) else {
            return Err(KafkaError::NoMessageReceived);
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => offset,
            _ => end,
        })
    }

    /// The log's last record, without its entries; `None` where there is none.
    pub fn last_record(
        &self,
        partition: i32,
        (low, end): (i64, i64),
        held: &dyn Fn() -> bool,
    ) -> Result<Option<DedupRecord>, Halt> {
        if low >= end {
            return Ok(None);
        }
        let mut reach = LAST_REACH;
        let mut last = None;
        loop {
            let start = end.saturating_sub(reach).max(low);
            self.read_log(partition, start, end, held, &mut |record| {
                last = Some(DedupRecord {
                    entries: Vec::new(),
                    ..record
                });
            })?;
            if last.is_some() || start == low {
                return Ok(last);
            }
            // Nothing but markers and aborted records there.
            reach = reach.saturating_mul(16);
        }
    }

    /// Reads log records from `start` until the end of the partition is reported at or past `end`.
    ///
    /// The report does not tell its offset, and a leader that has just changed may know less than the
    /// one before. So an end counts when all below `end` is decided, as asked after it, and when a
    /// read that began after that answer reports it again.
    pub fn read_log(
        &self,
        partition: i32,
        start: i64,
        end: i64,
        held: &dyn Fn() -> bool,
        each: &mut dyn FnMut(DedupRecord),
    ) -> Result<(), Halt> {
        let mut next = start;
        let mut decided = false;
        self.stable
            .assign(&single(&self.log, partition, Offset::Offset(next))?)?;
        loop {
            if !held() {
                return Err(Halt::EpochEnded);
            }
            match self.stable.poll(ASK) {
                Some(Ok(message)) => {
                    next = message.offset() + 1;
                    let record = DedupRecord::decode(message.payload().unwrap_or(&[]));
                    each(record.map_err(|error| {
                        Halt::Person(format!("the dedup-log at offset {}: {error}", next - 1))
                    })?);
                }
                Some(Err(KafkaError::PartitionEOF(_))) if decided => {
                    self.stable.unassign()?;
                    return Ok(());
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let (_, stable) = self.stable.fetch_watermarks(&self.log, partition, ASK)?;
                    decided = stable >= end;
                    self.stable
                        .assign(&single(&self.log, partition, Offset::Offset(next))?)?;
                }
                Some(Err(error)) if is_information(&error) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(KafkaError::NoMessageReceived.into()),
            }
        }
    }
}

/// A broker that goes away is no answer to the question: the client asks another.
fn is_information(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn single(topic: &str, partition: i32, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, offset)?;
    Ok(list)
}
