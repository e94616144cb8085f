//! The partitions that a consumer owns.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The partitions that a consumer owns now, each with the epoch of its assignment. A revoke or loss
/// ends the epoch, even if the partition comes straight back.
#[derive(Debug, Default)]
pub struct Assignments(Mutex<Owned>);

#[derive(Debug, Default)]
struct Owned {
    /// The group has answered since the session began, be it with no partition at all.
    joined: bool,
    /// A rebalance failed half-way: what is owned is no longer known.
    failed: Option<String>,
    next: u64,
    /// How often partitions were given or taken.
    rebalances: u64,
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

    /// Whether the group has given an assignment in this session, which may be empty.
    pub fn joined(&self) -> bool {
        self.lock().joined
    }

    /// How often partitions were given or taken.
    pub fn rebalances(&self) -> u64 {
        self.lock().rebalances
    }

    /// Why what is owned is no longer known, if so.
    pub fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Whether this epoch of a partition still lasts.
    pub fn holds(&self, partition: i32, epoch: u64) -> bool {
        self.lock().epochs.get(&partition) == Some(&epoch)
    }

    /// These are owned from now on, each in an epoch of its own.
    pub fn assign(&self, partitions: impl Iterator<Item = i32>) {
        let mut owned = self.lock();
        owned.joined = true;
        owned.rebalances += 1;
        for partition in partitions {
            owned.next += 1;
            let epoch = owned.next;
            owned.epochs.insert(partition, epoch);
        }
    }

    /// These are owned no longer.
    pub fn revoke(&self, partitions: impl Iterator<Item = i32>) {
        let mut owned = self.lock();
        owned.rebalances += 1;
        for partition in partitions {
            owned.epochs.remove(&partition);
        }
    }

    /// The session is over, and these are owned no longer: the group has to be joined again.
    pub fn lose(&self, partitions: impl Iterator<Item = i32>) {
        self.revoke(partitions);
        self.lock().joined = false;
    }

    /// A rebalance failed half-way: nothing of these is judged, and the worker must end.
    pub fn fail(&self, partitions: impl Iterator<Item = i32>, why: &str) {
        self.revoke(partitions);
        self.lock().failed = Some(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_joined_from_its_first_assignment_until_its_session_is_lost() {
        let assignments = Assignments::default();
        assert!(!assignments.joined());
        assignments.assign([0, 1].into_iter());
        assignments.revoke([0, 1].into_iter());
        assert!(assignments.joined(), "what is revoked went to others");
        assignments.assign([1].into_iter());
        assignments.lose([1].into_iter());
        assert!(!assignments.joined());
        assert_eq!(assignments.now(), BTreeMap::new());
        assignments.assign([].into_iter());
        assert!(assignments.joined(), "a member may have no partition");
    }
}
