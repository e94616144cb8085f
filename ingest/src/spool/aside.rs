//! Records that are older than `max_age` and wait on the disk for the operator's decision.

use std::sync::atomic::Ordering;

use super::{Removal, Spool};

impl Spool {
    /// How many records wait on the disk because they are older than `max_age`.
    pub fn aside(&self) -> u64 {
        self.shared.state().aside.records
    }

    /// These records are older than `max_age`: they stay on the disk, and nothing waits behind them. `opened`
    /// is what [`Spool::opened`] was before they were read.
    pub fn set_aside(&self, records: &[Removal], opened: u64) {
        self.shared.set_aside(records, opened);
    }

    /// When the oldest of those came that are left to be drained, if that is known.
    pub fn oldest(&self, came: Option<i64>) {
        let mut state = self.shared.state();
        if state.here.records > 0 && came.is_some() {
            state.oldest = came;
            self.shared.show(&state);
        }
    }

    /// Whether records older than `max_age` are brought to Kafka too.
    pub fn drains_older(&self) -> bool {
        self.shared.drain_older.load(Ordering::Relaxed)
    }

    /// The operator's decision on what is older than `max_age`.
    pub fn drain_older(&self, drain: bool) {
        if !self.shared.drain_older.swap(drain, Ordering::Relaxed) && drain {
            self.shared.take_back();
        }
    }
}
