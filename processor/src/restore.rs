//! Restoring a partition's memory from the dedup-log, on a thread beside the worker's, so that other
//! partitions go on meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sluice_schemas::dedup_log::{DedupRecord, Entry};
use sluice_schemas::service::settings::{Begin, Settings};

use crate::consume::Assignments;
use crate::kafka::{Kafka, Read, Reader, Source, Unanswered};
use crate::memory::{CLOCK_SLACK_SECONDS, Memory};

/// How long to wait before the brokers are asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// How often a position out of range is looked at again before a person is called: a broker that has
/// just become leader may know less than the one before.
const LOOKS: u32 = 20;

/// A partition that cannot be restored for this long is worth a warning.
const TELL: Duration = Duration::from_secs(30);

/// How long an open transaction is waited for before other partitions have their turn.
const STABLE_WAIT: Duration = Duration::from_secs(2);

/// How far before its end the log is read for its last record, at first, in offsets: some records and
/// their markers.
const LAST_REACH: i64 = 64;

/// The clients are closed after this time without work.
const IDLE: Duration = Duration::from_secs(30);

/// A partition to restore.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Raw's partition.
    pub partition: i32,
    /// The epoch of its assignment; when that ends, the restore does too.
    pub epoch: u64,
    /// Where reading began, if it waited there for a first record and has one.
    pub first: Option<First>,
}

/// The first record to be judged.
#[derive(Debug, Clone, Copy)]
pub struct First {
    /// Where reading began: decided, and not to be decided again.
    pub from: i64,
    /// When the record was appended, milliseconds since 1970.
    pub appended_ms: i64,
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
        /// It was a person's decision, made now.
        decided: bool,
        /// What the partition remembers.
        memory: Box<Memory>,
    },
    /// There is no record to judge yet, so it is not known how far back to remember: ask again with
    /// the first record's append time.
    Waiting {
        /// The raw offset where reading begins.
        from: i64,
        /// It was a person's decision, made now.
        decided: bool,
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

/// Holds what the log says against where reading begins. A person who decided where to begin has seen
/// that raw and log do not meet.
pub fn check_log(
    last: Option<&DedupRecord>,
    from: i64,
    decided: bool,
    partitions: u32,
) -> Result<(), String> {
    let Some(last) = last else {
        return Ok(());
    };
    check_partitions(last, partitions)?;
    if last.to > from && !decided {
        return Err(format!(
            "the committed offset {from} was rewound: the dedup-log has judged up to {}",
            last.to
        ));
    }
    Ok(())
}

/// Keys meet in one partition only for as long as there are as many of them.
fn check_partitions(last: &DedupRecord, partitions: u32) -> Result<(), String> {
    if last.partitions == partitions {
        return Ok(());
    }
    Err(format!(
        "raw had {} partitions when the dedup-log was written and has {partitions} now",
        last.partitions
    ))
}

/// Why a restore has no memory to give.
enum Halt {
    /// The brokers did not answer, or a transaction is still open: ask again, others first.
    Later(String),
    /// The partition is no longer ours, or is ours anew.
    EpochEnded,
    /// A person must decide.
    Person(String),
}

impl From<Unanswered> for Halt {
    fn from(Unanswered(why): Unanswered) -> Self {
        Self::Later(why)
    }
}

/// A partition in the queue of the restorer.
struct Queued {
    wanted: Wanted,
    since: Instant,
    told: bool,
}

/// Restores the partitions of one worker. They take turns: one that waits for a broker or for an open
/// transaction does not keep the others.
pub struct Restorer<'a, K: Kafka> {
    kafka: &'a K,
    settings: &'a Settings,
    assignments: Arc<Assignments>,
    reader: Option<K::Reader>,
    queue: VecDeque<Queued>,
}

impl<'a, K: Kafka> Restorer<'a, K> {
    /// One with nothing to do.
    pub fn new(kafka: &'a K, settings: &'a Settings, assignments: Arc<Assignments>) -> Self {
        Self {
            kafka,
            settings,
            assignments,
            reader: None,
            queue: VecDeque::new(),
        }
    }

    /// Serves the worker until its channel closes.
    pub fn run(mut self, wanted: &Receiver<Wanted>, restored: &Sender<Restored>) {
        loop {
            let wait = if self.queue.is_empty() {
                IDLE
            } else {
                Duration::ZERO
            };
            match wanted.recv_timeout(wait) {
                Ok(wanted) => {
                    self.want(wanted);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if self.queue.is_empty() => self.reader = None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.turn().is_some_and(|done| restored.send(done).is_err()) {
                return;
            }
        }
    }

    /// Puts a partition at the end of the queue.
    pub fn want(&mut self, wanted: Wanted) {
        self.queue.push_back(Queued {
            wanted,
            since: self.kafka.now(),
            told: false,
        });
    }

    /// One attempt for the partition whose turn it is.
    pub fn turn(&mut self) -> Option<Restored> {
        let mut next = self.queue.pop_front()?;
        let Wanted {
            partition, epoch, ..
        } = next.wanted;
        let outcome = match self.attempt(next.wanted) {
            Ok(outcome) => outcome,
            Err(Halt::EpochEnded) => return None,
            Err(Halt::Person(why)) => Outcome::Person(why),
            Err(Halt::Later(why)) => {
                tracing::debug!(partition, why, "restoring: asking again");
                if !next.told && self.kafka.now() - next.since > TELL {
                    next.told = true;
                    tracing::warn!(partition, why, "this partition cannot be restored yet");
                }
                self.queue.push_back(next);
                self.kafka.sleep(AGAIN);
                return None;
            }
        };
        Some(Restored {
            partition,
            epoch,
            outcome,
        })
    }

    /// One attempt. Clients that failed are not used again.
    fn attempt(&mut self, wanted: Wanted) -> Result<Outcome, Halt> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.kafka.reader()?,
        };
        let partition = Partition {
            kafka: self.kafka,
            reader: &reader,
            settings: self.settings,
            assignments: &self.assignments,
            wanted,
        };
        let outcome = partition.restore();
        if !matches!(outcome, Err(Halt::Later(_))) {
            self.reader = Some(reader);
        }
        outcome
    }
}

/// One partition on its way.
struct Partition<'a, K: Kafka> {
    kafka: &'a K,
    reader: &'a K::Reader,
    settings: &'a Settings,
    assignments: &'a Assignments,
    wanted: Wanted,
}

impl<K: Kafka> Partition<'_, K> {
    fn held(&self) -> bool {
        let Wanted {
            partition, epoch, ..
        } = self.wanted;
        self.assignments.holds(partition, epoch)
    }

    fn restore(&self) -> Result<Outcome, Halt> {
        let Wanted { partition, .. } = self.wanted;
        let committed = self.reader.committed(partition)?;
        match self.restore_at(committed) {
            // A process that stood still in between has asked in another time: what it then finds
            // is somebody's newer work, and no person's concern.
            Err(Halt::Person(_)) if self.reader.committed(partition)? != committed => Err(
                Halt::Later("the committed offset moved meanwhile".to_owned()),
            ),
            outcome => outcome,
        }
    }

    /// The order matters: the offset first, then the log's end as it is now, then the wait until all of
    /// that is decided. A transaction that the offset is part of is then read whole.
    fn restore_at(&self, committed: Option<i64>) -> Result<Outcome, Halt> {
        let Wanted { partition, .. } = self.wanted;
        let reader = self.reader;
        let partitions = reader.partitions()?;
        let (log_low, log_end) = reader.log_bounds(partition)?;
        self.wait_stable(log_end)?;

        let last = self.last_record(partition, (log_low, log_end))?;
        // What was decided when the partition began to wait holds for as long as nobody committed.
        let first = self.wanted.first;
        let first = first.filter(|first| committed.is_none_or(|committed| committed == first.from));
        let (from, decided) = match first {
            Some(first) => (first.from, false),
            None => self.begin(committed, last.as_ref().map(|last| last.to))?,
        };
        if committed != Some(from) {
            tracing::info!(
                partition,
                ?committed,
                from,
                decided,
                "the position is set anew"
            );
        }
        // Also a memory that will turn out empty is held against the log's last word, however old.
        let decided_before = first.is_some();
        check_log(last.as_ref(), from, decided || decided_before, partitions)
            .map_err(Halt::Person)?;
        if log_end == log_low {
            return self.without_log(committed, from, decided, partitions);
        }
        let first_ms = match first {
            Some(first) => first.appended_ms,
            None => match self.first_append_time(from)? {
                Some(first_ms) => first_ms,
                None => return Ok(Outcome::Waiting { from, decided }),
            },
        };
        let memory = self.read_log(first_ms, log_end, from)?;
        Ok(Outcome::Ready {
            from,
            decided,
            memory,
        })
    }

    /// [`begin_at`], with a second look at a position out of range. The second value: a person decided.
    fn begin(&self, committed: Option<i64>, log_to: Option<i64>) -> Result<(i64, bool), Halt> {
        for look in 1.. {
            if !self.held() {
                break;
            }
            let position = Position {
                committed,
                raw: self
                    .reader
                    .stable_bounds(Source::Raw, self.wanted.partition)?,
                log_to,
            };
            if let Ok(from) = begin_at(position, None) {
                return Ok((from, false));
            }
            if look == LOOKS {
                return begin_at(position, self.settings.processor.begin)
                    .map(|from| (from, true))
                    .map_err(Halt::Person);
            }
            self.kafka.sleep(AGAIN);
        }
        Err(Halt::EpochEnded)
    }

    /// There is nothing to remember. Either nothing was judged here yet, or what was is lost, or raw
    /// has grown and this partition is new: the other partitions' logs tell that.
    fn without_log(
        &self,
        committed: Option<i64>,
        from: i64,
        decided: bool,
        partitions: u32,
    ) -> Result<Outcome, Halt> {
        let Wanted { partition, .. } = self.wanted;
        if committed.is_some() {
            tracing::warn!(
                partition,
                from,
                "there is an offset, but the dedup-log is empty: repetitions of what came before are not known"
            );
        } else {
            for other in (0..partitions.cast_signed()).filter(|other| *other != partition) {
                let bounds = self.reader.log_bounds(other)?;
                let last = self.last_record(other, bounds)?;
                if let Some(last) = last {
                    check_partitions(&last, partitions).map_err(Halt::Person)?;
                    break;
                }
            }
        }
        Ok(Outcome::Ready {
            from,
            decided,
            memory: Box::new(Memory::new(self.window())),
        })
    }

    fn window(&self) -> u32 {
        u32::try_from(self.settings.longest_window().as_secs()).unwrap_or(u32::MAX)
    }

    /// Reads as far back as the first record to be judged may ask.
    fn read_log(&self, first_ms: i64, log_end: i64, from: i64) -> Result<Box<Memory>, Halt> {
        let Wanted { partition, .. } = self.wanted;
        let started = self.kafka.now();
        let reach = i64::from(self.window()) + i64::from(CLOCK_SLACK_SECONDS);
        let since = first_ms.saturating_sub(reach.saturating_mul(1000)).max(0);
        let start = self.reader.log_since(partition, since)?.unwrap_or(log_end);
        let mut memory = Box::new(Memory::new(self.window()));
        let mut load = |entry: Entry| memory.load(&entry);
        let last = self.read(partition, start, log_end, &mut load)?;
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
            seconds = (self.kafka.now() - started).as_secs_f64(),
            "restored"
        );
        Ok(memory)
    }

    /// Waits a little until every transaction below `end` is decided.
    fn wait_stable(&self, end: i64) -> Result<(), Halt> {
        let until = self.kafka.now() + STABLE_WAIT;
        while self.held() {
            let (_, stable) = self
                .reader
                .stable_bounds(Source::DedupLog, self.wanted.partition)?;
            if stable >= end {
                return Ok(());
            }
            if self.kafka.now() > until {
                return Err(Halt::Later(format!(
                    "a transaction is open: the dedup-log is stable up to {stable} of {end}"
                )));
            }
            self.kafka.sleep(AGAIN);
        }
        Err(Halt::EpochEnded)
    }

    /// When the first raw record at or after an offset was appended; `None` where there is none yet.
    fn first_append_time(&self, from: i64) -> Result<Option<i64>, Halt> {
        self.reader
            .start(Source::Raw, self.wanted.partition, from)?;
        let found = loop {
            match self.reader.read()? {
                Read::Record { appended_ms, .. } => break Some(appended_ms),
                Read::End => break None,
                Read::News => {}
            }
        };
        self.reader.stop()?;
        Ok(found)
    }

    /// A log's last record, without its entries; `None` where there is none.
    fn last_record(
        &self,
        partition: i32,
        (low, end): (i64, i64),
    ) -> Result<Option<DedupRecord>, Halt> {
        if low >= end {
            return Ok(None);
        }
        let mut reach = LAST_REACH;
        loop {
            let start = end.saturating_sub(reach).max(low);
            let last = self.read(partition, start, end, &mut |_| {})?;
            if last.is_some() || start == low {
                return Ok(last);
            }
            // Nothing but markers and aborted records there.
            reach = reach.saturating_mul(16);
        }
    }

    /// Reads log records from `start` until the end of the partition is reported at or past `end`: gives
    /// each entry, and returns the last record without them.
    ///
    /// The report does not tell its offset, and a leader that has just changed may know less than the
    /// one before. So an end counts when all below `end` is decided, as asked after it, and when a
    /// read that began after that answer reports it again.
    fn read(
        &self,
        partition: i32,
        start: i64,
        end: i64,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Option<DedupRecord>, Halt> {
        let mut last = None;
        let mut next = start;
        let mut decided = false;
        self.reader.start(Source::DedupLog, partition, next)?;
        loop {
            if !self.held() {
                return Err(Halt::EpochEnded);
            }
            match self.reader.read()? {
                Read::Record { offset, value, .. } => {
                    next = offset + 1;
                    let record = DedupRecord::decode_each(&value, &mut *each);
                    last = Some(record.map_err(|error| {
                        Halt::Person(format!("the dedup-log at offset {offset}: {error}"))
                    })?);
                }
                Read::End if decided => {
                    self.reader.stop()?;
                    return Ok(last);
                }
                Read::End => {
                    let (_, stable) = self.reader.stable_bounds(Source::DedupLog, partition)?;
                    decided = stable >= end;
                    self.reader.start(Source::DedupLog, partition, next)?;
                }
                Read::News => {}
            }
        }
    }
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
        assert_eq!(check_log(Some(&last), 8, false, 12), Ok(()));
        assert_eq!(check_log(Some(&last), 9, false, 12), Ok(()));
        assert!(check_log(Some(&last), 7, false, 12).is_err());
        assert!(check_log(Some(&last), 8, false, 13).is_err());
        assert_eq!(check_log(None, 7, false, 12), Ok(()));
        assert_eq!(check_log(Some(&last), 7, true, 12), Ok(()));
    }
}
