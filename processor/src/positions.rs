//! Where the partitions that this process owns will be judged from: what the lag is measured against.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By partition of raw the offset that the next transaction begins with: all below it is committed. A
/// partition that was never restored here, or is not owned, has none.
#[derive(Debug, Default)]
pub struct Positions(Mutex<BTreeMap<i32, i64>>);

impl Positions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        // The lock guards plain values: a panic elsewhere leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition is owned, and judged from this offset on.
    pub fn set(&self, partition: i32, next: i64) {
        self.lock().insert(partition, next);
    }

    /// The partition is owned, and nothing better is known of it than that all below this is committed.
    pub fn at_least(&self, partition: i32, next: i64) {
        self.lock().entry(partition).or_insert(next);
    }

    /// The partition is owned no longer.
    pub fn remove(&self, partition: i32) {
        self.lock().remove(&partition);
    }

    /// All of them, as they are now.
    pub fn now(&self) -> BTreeMap<i32, i64> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_a_position_from_its_restore_to_its_loss() {
        let positions = Positions::default();
        assert!(positions.now().is_empty());
        positions.set(3, 0);
        positions.set(1, 70);
        positions.set(3, 12);
        assert_eq!(positions.now(), BTreeMap::from([(1, 70), (3, 12)]));
        positions.remove(3);
        positions.remove(2);
        assert_eq!(positions.now(), BTreeMap::from([(1, 70)]));
        // A new assignment may begin below, where the last commit turned out to be none.
        positions.set(3, 5);
        assert_eq!(positions.now(), BTreeMap::from([(1, 70), (3, 5)]));
    }
}
