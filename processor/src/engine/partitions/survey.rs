//! What readiness and the metrics say of the partitions.

use super::Partitions;
use super::slot::{State, Surveyed};

impl Partitions {
    /// Whether each partition is judged, or why not: for `/readyz`.
    pub fn readiness(&self) -> Result<(), String> {
        let those = |wanted: fn(&State) -> bool| -> Vec<i32> {
            let slots = self.slots.iter();
            slots
                .filter(|(_, slot)| wanted(&slot.state))
                .map(|(partition, _)| *partition)
                .collect()
        };
        let stopped = those(|state| matches!(state, State::Stopped));
        let suspended = self.suspended();
        let restoring = those(|state| matches!(state, State::Restoring));
        if !stopped.is_empty() {
            Err(format!("partitions {stopped:?} are stopped: see the log"))
        } else if !suspended.is_empty() {
            Err(format!("partitions are suspended: {suspended:?}"))
        } else if !self.assignments.joined() {
            Err("joining the group".to_owned())
        } else if !restoring.is_empty() {
            Err(format!("partitions {restoring:?} are being restored"))
        } else {
            Ok(())
        }
    }

    /// What the metrics say of each partition.
    pub fn survey(&self) -> impl Iterator<Item = Surveyed> {
        self.slots.iter().map(|(&partition, slot)| {
            let (state, index) = match &slot.state {
                State::Restoring => (0, None),
                State::Waiting { .. } => (1, None),
                State::Ready { index, .. } if slot.is_suspended() => (4, Some(index)),
                State::Ready { index, .. } => (2, Some(index)),
                State::Stopped => (3, None),
            };
            let next = match slot.state {
                State::Waiting { from } => Some(from),
                State::Ready { to, .. } => Some(to),
                State::Restoring | State::Stopped => None,
            };
            Surveyed {
                partition,
                state,
                next,
                seen: slot.seen,
                keys: index.map_or(0, |index| index.len()),
                bytes: index.map_or(0, |index| index.bytes()),
            }
        })
    }
}
