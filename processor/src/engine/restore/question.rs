//! What the restorer is asked, and what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::dedup::index::DedupIndex;
use crate::kafka::BrokerUnavailable;

/// How long to wait before the brokers are asked again.
pub const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A partition to restore.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Raw's partition.
    pub partition: i32,
    /// The epoch of its assignment; when that ends, the restore does too.
    pub epoch: u64,
    /// Which question about this partition it is: an answer to an earlier one is of no use.
    pub question: u64,
    /// Repositions were committed more often than brokers lose one: a broker that gives no offset all the
    /// same (the mock) is not asked for ever.
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
    /// How long it took, its wait for others and for brokers included.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a restore.
#[derive(Debug)]
pub enum Outcome {
    /// The dedup index is whole: judging begins at `from`.
    Ready {
        /// The raw offset where reading begins.
        from: i64,
        /// What the partition remembers.
        index: Box<DedupIndex>,
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
        /// Over how many of raw's partitions keys are placed.
        key_partitions: u32,
    },
    /// Operator action is required; the sentence says what was found.
    NeedsOperator(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { from, repair, .. } => write!(f, "ready at {from}, repair: {repair:?}"),
            Self::Waiting { from } => write!(f, "waiting at {from}"),
            Self::Reposition { from, .. } => write!(f, "reposition to {from}"),
            Self::NeedsOperator(why) => f.write_str(why),
        }
    }
}

/// A torn transaction is repaired: the records of a range are judged once more, in their order and with the
/// dedup index from before them, and what has no visible fate is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The offset after the last raw record that may have a fate already.
    pub until: i64,
    /// The offsets of those that have one, and whether it is an event: it is learned and not written again.
    pub existing: BTreeMap<i64, bool>,
}

/// What an operator may do about an offset that is not given.
pub fn undecided_offset(BrokerUnavailable(why): BrokerUnavailable) -> BrokerUnavailable {
    BrokerUnavailable(format!(
        "the group's offset is not given ({why}): its coordinator is away, or a transaction that is about to \
         change it is not decided. That ends by itself within its time-out, or when the worker of its \
         transactional id runs again. Where neither helps: kafka-transactions.sh --bootstrap-server HOST \
         find-hanging --broker-id COORDINATOR --max-transaction-timeout 0, then abort --topic \
         __consumer_offsets with the partition and the start offset that it prints"
    ))
}

/// Why a restore returns no dedup index.
#[derive(Debug)]
pub enum RestoreHalt {
    /// The brokers did not answer, or a transaction is still open: ask again, others first.
    Later(String),
    /// All dedup indexes take what they may: ask again when there is room for so many bytes.
    NoRoom(u64),
    /// The partition is no longer ours, or was assigned again.
    EpochEnded,
    /// Operator action required.
    NeedsOperator(String),
}

impl From<BrokerUnavailable> for RestoreHalt {
    fn from(BrokerUnavailable(why): BrokerUnavailable) -> Self {
        Self::Later(why)
    }
}
