//! Restoring a partition's memory from the dedup-log, on a thread beside the worker's, so that other
//! partitions go on meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sluice_schemas::dedup_log::DedupRecord;
use sluice_schemas::service::settings::{Begin, Settings};

use crate::consume::Assignments;
use crate::kafka::{Kafka, Unanswered};
use crate::memory::Memory;
use crate::memory::pages::SmallPages;

mod partition;

use partition::Partition;

/// How long to wait before the brokers are asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// A partition that cannot be restored for this long is worth a warning.
const TELL: Duration = Duration::from_secs(30);

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
            let small = SmallPages::hold();
            let done = self.turn();
            drop(small);
            if done.is_some_and(|done| restored.send(done).is_err()) {
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
