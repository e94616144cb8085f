//! Restoring a partition's memory from the dedup-log, on a thread beside the worker's, so that other
//! partitions go on meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
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
use sluice_schemas::service::settings::{Begin, Settings};

use crate::consume::Assignments;
use crate::memory::{CLOCK_SLACK_SECONDS, Memory};

/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(10);

/// How long to wait before the brokers are asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// How often a position out of range is looked at again before a person is called: a broker that has
/// just become leader may know less than the one before.
const LOOKS: u32 = 20;

/// The clients are closed after this time without work.
const IDLE: Duration = Duration::from_secs(30);

/// A partition to restore.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Raw's partition.
    pub partition: i32,
    /// The epoch of its assignment; when that ends, the restore does too.
    pub epoch: u64,
    /// When the first record to be judged was appended (milliseconds since 1970), if one was seen.
    pub first_ms: Option<i64>,
}

/// A partition that was looked after.
#[derive(Debug)]
pub struct Restored {
    /// Raw's partition.
    pub partition: i32,
    /// The epoch in which it was wanted.
    pub epoch: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a restore.
#[derive(Debug)]
pub enum Outcome {
    /// The memory is whole: judging begins at `from`.
    Ready {
        /// The raw offset where reading begins.
        from: i64,
        /// What the partition remembers.
        memory: Box<Memory>,
    },
    /// There is no record to judge yet, so it is not known how far back to remember: ask again with
    /// the first record's append time.
    Waiting {
        /// The raw offset where reading begins.
        from: i64,
    },
    /// A person must decide; the sentence says what was found.
    Person(String),
}

/// What is known of a partition's position before a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// Raw's first and next stable offset.
    pub raw: (i64, i64),
    /// `to` of the dedup-log's last record.
    pub log_to: Option<i64>,
}

/// Where to begin, or what a person must look at.
///
/// Without a committed offset the dedup-log's last word counts, for it was written in the same
/// transaction; without that a start is only sure where raw is still whole from offset 0.
pub fn begin_at(position: Position, begin: Option<Begin>) -> Result<i64, String> {
    let (low, high) = position.raw;
    let chosen = |why: String| match begin {
        Some(Begin::Earliest) => Ok(low),
        Some(Begin::Latest) => Ok(high),
        None => Err(format!("{why}; set processor.begin to earliest or latest")),
    };
    let from = match (position.committed, position.log_to) {
        (Some(offset), _) | (None, Some(offset)) => offset,
        (None, None) if low == 0 => return Ok(0),
        (None, None) => {
            return chosen(format!(
                "there is no committed offset and no dedup-log, and raw begins at {low}"
            ));
        }
    };
    if (low..=high).contains(&from) {
        return Ok(from);
    }
    chosen(format!(
        "the position {from} is outside of raw, which has {low} to {high}"
    ))
}

/// Holds what the log says against where reading begins.
pub fn check_log(last: Option<&DedupRecord>, from: i64, partitions: u32) -> Result<(), String> {
    let Some(last) = last else {
        return Ok(());
    };
    if last.partitions != partitions {
        return Err(format!(
            "raw had {} partitions when the dedup-log was written and has {partitions} now",
            last.partitions
        ));
    }
    if last.to > from {
        return Err(format!(
            "the committed offset {from} was rewound: the dedup-log has judged up to {}",
            last.to
        ));
    }
    Ok(())
}

/// Serves one worker until its channel closes.
pub fn run(
    settings: &Settings,
    base: &ClientConfig,
    assignments: &Arc<Assignments>,
    wanted: &Receiver<Wanted>,
    restored: &Sender<Restored>,
) {
    let mut clients: Option<Clients> = None;
    loop {
        let next = match wanted.recv_timeout(IDLE) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => {
                clients = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let held = || assignments.holds(next.partition, next.epoch);
        let outcome = loop {
            if !held() {
                break None;
            }
            let attempt = match clients.take() {
                Some(ready) => Ok(ready),
                None => Clients::new(settings, base),
            };
            let attempt = attempt.and_then(|ready| {
                let outcome = ready.restore(settings, next, &held);
                clients = Some(ready);
                outcome
            });
            match attempt {
                Ok(outcome) => break outcome,
                Err(error) => {
                    tracing::info!(partition = next.partition, %error, "restoring: asking again");
                    clients = None;
                    thread::sleep(AGAIN);
                }
            }
        };
        let Some(outcome) = outcome else { continue };
        let done = Restored {
            partition: next.partition,
            epoch: next.epoch,
            outcome,
        };
        if restored.send(done).is_err() {
            return;
        }
    }
}

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

/// Two clients: what is stable, and what is there at all.
struct Clients {
    stable: BaseConsumer<Quiet>,
    newest: BaseConsumer<Quiet>,
}

impl Clients {
    fn new(settings: &Settings, base: &ClientConfig) -> Result<Self, KafkaError> {
        let client = |isolation: &str| {
            let mut config = base.clone();
            config
                // The group's name is for its committed offsets: this client never joins.
                .set("group.id", settings.group_id())
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false")
                .set("enable.partition.eof", "true")
                .set("auto.offset.reset", "error")
                .set("isolation.level", isolation)
                .set("queued.max.messages.kbytes", "16384")
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
        })
    }

    /// `None`: the epoch ended meanwhile.
    fn restore(
        &self,
        settings: &Settings,
        wanted: Wanted,
        held: &dyn Fn() -> bool,
    ) -> Result<Option<Outcome>, KafkaError> {
        let names = &settings.topics.names;
        let (raw, log) = (names.raw(), names.dedup_log());
        let partition = wanted.partition;
        let partitions = self.partitions(&raw)?;

        // The order matters: the offset first, then the log's end as it is now, then the wait until
        // all of that is decided. A transaction that the offset is part of is then read whole.
        let committed = self.committed(&raw, partition)?;
        let (log_low, log_end) = self.newest.fetch_watermarks(&log, partition, ASK)?;
        if !self.wait_stable(&log, partition, log_end, held)? {
            return Ok(None);
        }
        let log_to = if committed.is_none() && log_end > log_low {
            let mut last = None;
            let read = self.read(&log, partition, log_low, log_end, held, &mut |record| {
                last = Some(record.to);
            })?;
            match read {
                Read::Whole => last,
                Read::EpochEnded => return Ok(None),
                Read::Unreadable(why) => return Ok(Some(Outcome::Person(why))),
            }
        } else {
            None
        };
        let Some(from) = self.begin(settings, &raw, partition, committed, log_to, held)? else {
            return Ok(None);
        };
        let from = match from {
            Ok(from) => from,
            Err(why) => return Ok(Some(Outcome::Person(why))),
        };
        if committed != Some(from) {
            tracing::info!(
                partition,
                ?committed,
                from,
                "no committed offset to begin at"
            );
        }

        let window = u32::try_from(settings.longest_window().as_secs()).unwrap_or(u32::MAX);
        let mut memory = Box::new(Memory::new(window));
        if log_end == log_low {
            if committed.is_some() {
                tracing::warn!(
                    partition,
                    from,
                    "there is an offset, but the dedup-log is empty: repetitions of what came before are not known"
                );
            }
            return Ok(Some(Outcome::Ready { from, memory }));
        }
        let first_ms = match wanted.first_ms {
            Some(first_ms) => first_ms,
            None => match self.first_append_time(&raw, partition, from)? {
                Some(first_ms) => first_ms,
                None => return Ok(Some(Outcome::Waiting { from })),
            },
        };
        let reach = i64::from(window) + i64::from(CLOCK_SLACK_SECONDS);
        let since = first_ms.saturating_sub(reach.saturating_mul(1000)).max(0);
        let start = self.offset_since(&log, partition, since, log_end)?;
        let started = Instant::now();
        let mut last: Option<DedupRecord> = None;
        let read = self.read(&log, partition, start, log_end, held, &mut |record| {
            record.entries.iter().for_each(|entry| memory.insert(entry));
            last = Some(DedupRecord {
                entries: Vec::new(),
                ..record
            });
        })?;
        match read {
            Read::Whole => {}
            Read::EpochEnded => return Ok(None),
            Read::Unreadable(why) => return Ok(Some(Outcome::Person(why))),
        }
        if let Err(why) = check_log(last.as_ref(), from, partitions) {
            return Ok(Some(Outcome::Person(why)));
        }
        if let Some(last) = last.as_ref().filter(|last| last.to < from) {
            tracing::warn!(
                partition,
                from,
                log_to = last.to,
                "the dedup-log ends before the committed offset: repetitions of what came between are not known"
            );
        }
        tracing::info!(
            partition,
            from,
            identities = memory.len(),
            seconds = started.elapsed().as_secs_f64(),
            "restored"
        );
        Ok(Some(Outcome::Ready { from, memory }))
    }

    fn partitions(&self, topic: &str) -> Result<u32, KafkaError> {
        let metadata = self.stable.fetch_metadata(Some(topic), ASK)?;
        let count = metadata
            .topics()
            .first()
            .map_or(0, |found| found.partitions().len());
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn committed(&self, raw: &str, partition: i32) -> Result<Option<i64>, KafkaError> {
        let list = single(raw, partition, Offset::Invalid)?;
        let list = self.stable.committed_offsets(list, ASK)?;
        let Some(found) = list.find_partition(raw, partition) else {
            return Ok(None);
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// Waits until every transaction below `end` is decided. `false`: the epoch ended.
    fn wait_stable(
        &self,
        log: &str,
        partition: i32,
        end: i64,
        held: &dyn Fn() -> bool,
    ) -> Result<bool, KafkaError> {
        let started = Instant::now();
        let mut told = false;
        while held() {
            let (_, stable) = self.stable.fetch_watermarks(log, partition, ASK)?;
            if stable >= end {
                return Ok(true);
            }
            if !told && started.elapsed() > Duration::from_secs(5) {
                told = true;
                tracing::info!(
                    partition,
                    stable,
                    end,
                    "waiting for an open transaction to end"
                );
            }
            thread::sleep(AGAIN);
        }
        Ok(false)
    }

    /// [`begin_at`], with a second look at a position out of range. `None`: the epoch ended.
    fn begin(
        &self,
        settings: &Settings,
        raw: &str,
        partition: i32,
        committed: Option<i64>,
        log_to: Option<i64>,
        held: &dyn Fn() -> bool,
    ) -> Result<Option<Result<i64, String>>, KafkaError> {
        let mut looks = 0;
        while held() {
            let position = Position {
                committed,
                raw: self.stable.fetch_watermarks(raw, partition, ASK)?,
                log_to,
            };
            looks += 1;
            if begin_at(position, None).is_ok() || looks == LOOKS {
                return Ok(Some(begin_at(position, settings.processor.begin)));
            }
            thread::sleep(AGAIN);
        }
        Ok(None)
    }

    /// When the first raw record at or after an offset was appended; `None` where there is none yet.
    fn first_append_time(
        &self,
        raw: &str,
        partition: i32,
        from: i64,
    ) -> Result<Option<i64>, KafkaError> {
        self.stable
            .assign(&single(raw, partition, Offset::Offset(from))?)?;
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

    /// The first log offset appended at or after a time; the end where there is none.
    fn offset_since(
        &self,
        log: &str,
        partition: i32,
        since_ms: i64,
        end: i64,
    ) -> Result<i64, KafkaError> {
        let list = single(log, partition, Offset::Offset(since_ms))?;
        let list = self.stable.offsets_for_times(list, ASK)?;
        let Some(found) = list.find_partition(log, partition) else {
            return Err(KafkaError::NoMessageReceived);
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => offset,
            _ => end,
        })
    }

    /// Reads log records from `start` until the end of the partition is reported, which is at or past
    /// `end` because everything below `end` was decided before, and still is after.
    fn read(
        &self,
        log: &str,
        partition: i32,
        start: i64,
        end: i64,
        held: &dyn Fn() -> bool,
        each: &mut dyn FnMut(DedupRecord),
    ) -> Result<Read, KafkaError> {
        self.stable
            .assign(&single(log, partition, Offset::Offset(start))?)?;
        let outcome = loop {
            if !held() {
                break Read::EpochEnded;
            }
            match self.stable.poll(ASK) {
                Some(Ok(message)) => match DedupRecord::decode(message.payload().unwrap_or(&[])) {
                    Ok(record) => each(record),
                    Err(error) => {
                        break Read::Unreadable(format!(
                            "the dedup-log at offset {}: {error}",
                            message.offset()
                        ));
                    }
                },
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let (_, stable) = self.stable.fetch_watermarks(log, partition, ASK)?;
                    if stable >= end {
                        break Read::Whole;
                    }
                }
                Some(Err(error)) if is_information(&error) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(KafkaError::NoMessageReceived),
            }
        };
        self.stable.unassign()?;
        Ok(outcome)
    }
}

enum Read {
    Whole,
    EpochEnded,
    Unreadable(String),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn position(committed: Option<i64>, raw: (i64, i64), log_to: Option<i64>) -> Position {
        Position {
            committed,
            raw,
            log_to,
        }
    }

    #[test]
    fn begins_at_the_offset_then_at_the_log_then_at_the_start_of_a_whole_raw() {
        assert_eq!(begin_at(position(Some(7), (0, 9), None), None), Ok(7));
        assert_eq!(begin_at(position(Some(7), (0, 9), Some(9)), None), Ok(7));
        assert_eq!(begin_at(position(None, (3, 9), Some(8)), None), Ok(8));
        assert_eq!(begin_at(position(None, (0, 9), None), None), Ok(0));
        assert_eq!(begin_at(position(None, (0, 0), None), None), Ok(0));
    }

    #[test]
    fn a_lost_position_is_for_a_person_who_may_decide() {
        for lost in [
            position(None, (3, 9), None),
            position(Some(2), (3, 9), None),
            position(Some(10), (3, 9), None),
            position(None, (3, 9), Some(2)),
        ] {
            assert!(begin_at(lost, None).is_err(), "{lost:?}");
            assert_eq!(begin_at(lost, Some(Begin::Earliest)), Ok(3));
            assert_eq!(begin_at(lost, Some(Begin::Latest)), Ok(9));
        }
        // What is not lost is not decided anew.
        let known = position(Some(7), (3, 9), None);
        assert_eq!(begin_at(known, Some(Begin::Latest)), Ok(7));
    }

    #[test]
    fn the_log_must_not_be_ahead_nor_of_another_number_of_partitions() {
        let last = DedupRecord {
            from: 0,
            to: 8,
            partitions: 12,
            entries: Vec::new(),
        };
        assert_eq!(check_log(Some(&last), 8, 12), Ok(()));
        assert_eq!(check_log(Some(&last), 9, 12), Ok(()));
        assert!(check_log(Some(&last), 7, 12).is_err());
        assert!(check_log(Some(&last), 8, 13).is_err());
        assert_eq!(check_log(None, 7, 12), Ok(()));
    }
}
