//! Restoring a partition's memory from the dedup-log, on a thread beside the worker's, so that other
//! partitions go on meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sluice_schemas::settings::{Begin, Settings};

use crate::dedup::index::Memory;
use crate::dedup::pages::SmallPages;
use crate::kafka::assignment::Assignments;
use crate::kafka::{Kafka, Unanswered};

pub mod log;

mod partition;

use partition::Partition;

/// How long to wait before the brokers are asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// A partition that cannot be restored for this long is worth an error; after four times as long another.
const WARN_AFTER: Duration = Duration::from_secs(30);

/// The clients are closed after this time without work.
const IDLE: Duration = Duration::from_secs(30);

/// A partition to restore.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Raw's partition.
    pub partition: i32,
    /// The epoch of its assignment; when that ends, the restore does too.
    pub epoch: u64,
    /// Which question about this partition it is: an answer to an earlier one is of no use.
    pub question: u64,
    /// A reposition was committed: a broker that gives no offset all the same (the mock) is not asked for ever.
    pub repositioned: bool,
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
    /// The question that this answers.
    pub question: u64,
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
        /// What is there already of the records from there on, after a torn transaction.
        repair: Option<Repair>,
    },
    /// There is no record to judge yet, so it is not known how far back to remember: ask again with
    /// the first record's append time.
    Waiting {
        /// The raw offset where reading begins.
        from: i64,
    },
    /// The group's offset is to be set: the operator decided where to begin (`processor.begin`), or the log
    /// accounts for more than the offset does. It holds once it is written down; then the partition is to
    /// be restored again.
    Reposition {
        /// The raw offset where reading is to begin.
        from: i64,
        /// Raw's partitions.
        partitions: u32,
    },
    /// Operator action is required; the sentence says what was found.
    Person(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { from, repair, .. } => write!(f, "ready at {from}, repair: {repair:?}"),
            Self::Waiting { from } => write!(f, "waiting at {from}"),
            Self::Reposition { from, .. } => write!(f, "reposition to {from}"),
            Self::Person(why) => f.write_str(why),
        }
    }
}

/// A torn transaction is repaired: the records of a range are judged once more, in their order and with the
/// memory that was there before them, and what has no visible fate is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The offset after the last raw record that may have a fate already.
    pub until: i64,
    /// The offsets of those that have one, and whether it is an event: it is learned and not written again.
    pub existing: BTreeMap<i64, bool>,
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

/// The last record of a dedup-log, without its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Where its transaction began to read.
    pub from: i64,
    /// The offset after the last record that it judged.
    pub to: i64,
    /// How many partitions raw had.
    pub partitions: u32,
    /// Below this raw offset every fate was seen to be visible.
    pub seen: i64,
    /// Up to this raw offset a repair was on its way; 0 where none was. A reposition's is its own offset.
    pub until: i64,
}

impl LogEnd {
    /// Whether it only says where judging begins.
    pub fn is_reposition(&self) -> bool {
        self.from == self.to && self.until == self.to
    }
}

/// Where the group stands once the log's end is taken into account. Both were written in one transaction,
/// which a broker may have torn: the one that is ahead is right, for what is missing behind it is found by
/// the audit. An offset before what was seen to be visible, offsets included, was set back by somebody. A
/// reposition vouches for no offset, its own included.
pub fn standing(committed: Option<i64>, last: Option<&LogEnd>) -> Result<Option<i64>, String> {
    match (committed, last) {
        (Some(committed), Some(last)) if committed < last.seen && !last.is_reposition() => {
            Err(format!(
                "the committed offset {committed} was rewound: the dedup-log vouches for all fates up to {}",
                last.seen
            ))
        }
        (Some(committed), Some(last)) => Ok(Some(committed.max(last.to))),
        (committed, _) => Ok(committed),
    }
}

/// Keys meet in one partition only for as long as there are as many of them.
fn check_partitions(last: &LogEnd, partitions: u32) -> Result<(), String> {
    if last.partitions == partitions {
        return Ok(());
    }
    Err(format!(
        "raw had {} partitions when the dedup-log was written and has {partitions} now",
        last.partitions
    ))
}

/// What an operator may do about an offset that is not given.
pub fn undecided_offset(Unanswered(why): Unanswered) -> Unanswered {
    Unanswered(format!(
        "the group's offset is not given ({why}): its coordinator is away, or a transaction that is about to \
         change it is not decided. That ends by itself within its time-out, or when the worker of its \
         transactional id runs again. Where neither helps: kafka-transactions.sh --bootstrap-server HOST \
         find-hanging --broker-id COORDINATOR --max-transaction-timeout 0, then abort --topic \
         __consumer_offsets with the partition and the start offset that it prints"
    ))
}

/// Why a restore has no memory to give.
#[derive(Debug)]
pub enum Halt {
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
    /// How many times [`WARN_AFTER`] must pass before the next error.
    warnings: u32,
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
            warnings: 1,
        });
    }

    /// One attempt for the partition whose turn it is.
    pub fn turn(&mut self) -> Option<Restored> {
        let mut next = self.queue.pop_front()?;
        let Wanted {
            partition,
            epoch,
            question,
            ..
        } = next.wanted;
        let outcome = match self.attempt(next.wanted) {
            Ok(outcome) => outcome,
            Err(Halt::EpochEnded) => return None,
            Err(Halt::Person(why)) => Outcome::Person(why),
            Err(Halt::Later(why)) => {
                tracing::debug!(partition, why, "restoring: asking again");
                let waited = self.kafka.now() - next.since;
                if waited > WARN_AFTER * next.warnings {
                    next.warnings *= 4;
                    tracing::error!(
                        partition,
                        why,
                        seconds = waited.as_secs(),
                        "this partition cannot be restored yet"
                    );
                }
                self.queue.push_back(next);
                self.kafka.sleep(AGAIN);
                return None;
            }
        };
        Some(Restored {
            partition,
            epoch,
            question,
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

    fn end(from: i64, to: i64, seen: i64) -> LogEnd {
        LogEnd {
            from,
            to,
            partitions: 12,
            seen,
            until: 0,
        }
    }

    #[test]
    fn of_offset_and_log_the_one_that_is_ahead_is_right_unless_somebody_rewound() {
        let last = end(6, 8, 5);
        assert_eq!(standing(Some(8), Some(&last)), Ok(Some(8)));
        // The offset is in force and the log's record is not, or the other way round.
        assert_eq!(standing(Some(9), Some(&last)), Ok(Some(9)));
        assert_eq!(standing(Some(6), Some(&last)), Ok(Some(8)));
        assert_eq!(standing(Some(5), Some(&last)), Ok(Some(8)));
        assert!(standing(Some(4), Some(&last)).is_err());
        let reposition = LogEnd {
            until: 8,
            ..end(8, 8, 8)
        };
        assert_eq!(standing(Some(4), Some(&reposition)), Ok(Some(8)));
        let checkpoint = end(8, 8, 8);
        assert_eq!(standing(Some(8), Some(&checkpoint)), Ok(Some(8)));
        assert!(standing(Some(4), Some(&checkpoint)).is_err());
        assert_eq!(standing(None, Some(&last)), Ok(None));
        assert_eq!(standing(Some(7), None), Ok(Some(7)));
    }

    #[test]
    fn keys_met_in_other_partitions_when_raw_had_another_number_of_them() {
        assert_eq!(check_partitions(&end(0, 8, 0), 12), Ok(()));
        assert!(check_partitions(&end(0, 8, 0), 13).is_err());
    }
}
