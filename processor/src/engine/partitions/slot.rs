//! The state of one partition, and what its records are judged with.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::dedup::index::DedupIndex;
use crate::engine::batch::PartitionBatch;
use crate::engine::restore::Repair;

/// The state of a partition.
pub enum State {
    /// Its dedup index is being rebuilt.
    Restoring,
    /// Reading begins here; the first record decides how far back the index reaches.
    Waiting { from: i64 },
    /// It is judged.
    Ready {
        to: i64,
        index: Box<DedupIndex>,
        repair: Option<Repair>,
    },
    /// Operator action required.
    Stopped,
}

pub struct Slot {
    pub epoch: u64,
    pub state: State,
    /// The question that is asked of the restorer.
    pub question: u64,
    /// Below this raw offset every fate was seen to be visible.
    pub seen: i64,
    /// The offset after the last record that was polled, or where the client was sought to.
    pub position: i64,
    pub watch: Watch,
    /// Transactions with its records fail.
    pub trouble: Option<Trouble>,
    /// Transactions with its records that were aborted since one was committed.
    pub aborts: u32,
    /// Repositions that were committed since it was assigned.
    pub repositions: u32,
}

impl Slot {
    /// Whether its next record failed alone, and has not passed since.
    pub fn is_suspended(&self) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| trouble.suspended)
    }

    /// Whether a batch begins where the dedup index ends, and nothing was polled in between.
    pub fn is_followed_by(&self, part: &PartitionBatch) -> bool {
        let State::Ready { to, .. } = self.state else {
            return false;
        };
        to == part.base_offset && to == part.previous_position
    }

    /// Whether it is not read for a while.
    pub fn pauses(&self) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| trouble.until.is_some())
    }
}

/// A partition whose transactions fail.
#[derive(Debug)]
pub struct Trouble {
    /// How many records it is tried with.
    pub size: usize,
    /// Its next record failed alone, and has not passed since.
    pub suspended: bool,
    /// It is not read until then.
    pub until: Option<Instant>,
    /// The next pause.
    pub pause: Duration,
    /// What failed last.
    pub why: String,
}

/// Why a transaction was aborted.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// What failed.
    pub why: &'a str,
    /// It fails again until an operator repairs the broker.
    pub permanent: bool,
}

/// What the metrics say of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Surveyed {
    /// Its number.
    pub partition: i32,
    /// The place of its state in [`crate::metrics::STATES`].
    pub state: usize,
    /// The offset that its next transaction begins with, where that is known.
    pub next: Option<i64>,
    /// Below this offset all is committed; 0 where that is not known.
    pub seen: i64,
    /// Identities in its index.
    pub keys: usize,
    /// What the index takes.
    pub bytes: usize,
}

/// What the watchdog saw of a partition.
#[derive(Clone, Copy)]
pub enum Watch {
    /// The last sign was a record: another, or the end of the partition, must follow.
    Record,
    /// The last sign was the end of the partition, or reading was paused since.
    End,
    /// Since the end nothing came; the stable offset was this.
    Quiet(i64),
    /// Raw is ahead since then.
    Ahead(Instant),
}

/// A position to be written down: all before it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgedTo {
    /// The raw offset that is judged next.
    pub at: i64,
    /// Over how many of raw's partitions keys are placed.
    pub key_partitions: u32,
}

/// What a partition's records are judged with.
#[derive(Clone, Copy)]
pub struct Judging<'p> {
    /// What it remembers.
    pub index: &'p DedupIndex,
    /// Below this raw offset every fate was seen to be visible.
    pub seen: i64,
    /// The offset after the last record that may have a fate already, in a repair.
    pub until: Option<i64>,
    /// The offsets of those that have one, and whether it is an event.
    pub existing: &'p BTreeMap<i64, bool>,
}

/// Nothing has a fate already.
pub static NOTHING: BTreeMap<i64, bool> = BTreeMap::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_follows_where_the_index_ends_and_nothing_was_polled_since() {
        let slot = Slot {
            epoch: 1,
            state: State::Ready {
                to: 5,
                index: Box::new(DedupIndex::new(60)),
                repair: None,
            },
            question: 1,
            seen: 5,
            position: 5,
            watch: Watch::End,
            trouble: None,
            aborts: 0,
            repositions: 0,
        };
        let part = |base_offset, previous_position| PartitionBatch {
            epoch: 1,
            base_offset,
            previous_position,
            records: Vec::new(),
        };
        assert!(slot.is_followed_by(&part(5, 5)));
        assert!(!slot.is_followed_by(&part(4, 5)));
        // Records 5 and 6 were polled and are gone.
        assert!(!slot.is_followed_by(&part(5, 7)));
    }
}
