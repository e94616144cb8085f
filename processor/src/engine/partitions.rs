//! The partitions that a worker owns, and the state of each between its assignment and its judging.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use sluice_schemas::dedup_log::Entry;

use crate::engine::batch::{Batch, Expected};
use crate::engine::collect::PollSummary;
use crate::engine::restore::{First, Restored, Wanted};
use crate::kafka::assignment::Assignments;
use crate::kafka::{BrokerUnavailable, Consumer};

mod room;

mod slot;

mod survey;

mod takeover;

mod trouble;

mod watchdog;

pub use slot::{Failed, JudgedTo, Judging, Surveyed};
use slot::{NOTHING, Slot, State, Trouble, Watch};

/// So many committed repositions of a partition that leave the group without an offset are enough. The
/// brokers may lose the markers of one.
const REPOSITIONS: u32 = 3;

/// The partitions of one worker.
pub struct Partitions {
    assignments: Arc<Assignments>,
    slots: BTreeMap<i32, Slot>,
    wanted: Sender<Wanted>,
    restored: Receiver<Restored>,
    /// Restores that were asked for.
    questions: u64,
    /// Positions that are to be written down before anything is read.
    repositions: BTreeMap<i32, JudgedTo>,
    watched_at: Instant,
    watched: usize,
    /// Counts the transactions, for their turns,
    turn: usize,
    /// and those with a partition in trouble alone.
    trials: usize,
}

impl Partitions {
    /// None yet. `wanted` and `restored` are the channels of the worker's restorer, which ends with
    /// this value.
    pub fn new(
        assignments: Arc<Assignments>,
        wanted: Sender<Wanted>,
        restored: Receiver<Restored>,
        now: Instant,
    ) -> Self {
        Self {
            assignments,
            slots: BTreeMap::new(),
            wanted,
            restored,
            questions: 0,
            repositions: BTreeMap::new(),
            watched_at: now,
            watched: 0,
            turn: 0,
            trials: 0,
        }
    }

    /// What the next poll is expected to bring, by partition.
    pub fn expected(&self) -> BTreeMap<i32, Expected> {
        let expected = |slot: &Slot| {
            if slot.pauses() {
                return None;
            }
            let from = match slot.state {
                State::Ready { to, .. } => to,
                State::Waiting { from } => from,
                State::Restoring | State::Stopped => return None,
            };
            Some(Expected {
                epoch: slot.epoch,
                from,
                position: slot.position,
            })
        };
        self.slots
            .iter()
            .filter_map(|(&partition, slot)| Some((partition, expected(slot)?)))
            .collect()
    }

    /// What the partitions that are judged are judged with.
    pub fn judging(&self) -> BTreeMap<i32, Judging<'_>> {
        let judging = |slot| match slot {
            &Slot {
                seen,
                state:
                    State::Ready {
                        ref index,
                        ref repair,
                        ..
                    },
                ..
            } => Some(Judging {
                index,
                seen,
                until: repair.as_ref().map(|repair| repair.until),
                existing: repair.as_ref().map_or(&NOTHING, |repair| &repair.existing),
            }),
            _ => None,
        };
        let slots = self.slots.iter();
        slots
            .filter_map(|(&partition, slot)| Some((partition, judging(slot)?)))
            .collect()
    }

    /// Positions that are not written down yet.
    pub fn repositions(&self) -> &BTreeMap<i32, JudgedTo> {
        &self.repositions
    }

    /// Whether a partition is judged in this epoch, from this offset on, and nothing is repaired on it.
    pub fn is_judged_from(&self, partition: i32, epoch: u64, at: i64) -> bool {
        let slot = self.slots.get(&partition);
        slot.is_some_and(|slot| {
            slot.epoch == epoch
                && matches!(slot.state, State::Ready { to, repair: None, .. } if to == at)
        })
    }

    /// A transaction with these positions was tried: what came of it, the restore sees.
    pub fn tried_repositions(&mut self, committed: bool) {
        for partition in std::mem::take(&mut self.repositions).into_keys() {
            if let Some(slot) = self.slots.get_mut(&partition) {
                slot.repositions += u32::from(committed);
                let epoch = slot.epoch;
                self.restore(partition, epoch, None);
            }
        }
    }

    /// Every fate of a partition below this raw offset was seen to be visible.
    pub fn saw(&mut self, partition: i32, epoch: u64, to: i64) {
        if let Some(slot) = self.slots.get_mut(&partition)
            && slot.epoch == epoch
        {
            slot.seen = slot.seen.max(to);
        }
    }

    /// All dedup indexes are void: what they hold may not be visible.
    pub fn restore_all(&mut self, consumer: &impl Consumer, batch: &mut Batch) {
        *batch = Batch::default();
        let slots: Vec<(i32, u64)> = self
            .slots
            .iter()
            .filter(|(_, slot)| !matches!(slot.state, State::Stopped))
            .map(|(&partition, slot)| (partition, slot.epoch))
            .collect();
        for (partition, epoch) in slots {
            Self::pause(consumer, partition);
            self.restore(partition, epoch, None);
        }
    }

    /// Drops what is no longer owned, starts what is new, and notes what the poll brought.
    pub fn after_poll(&mut self, consumer: &impl Consumer, batch: &mut Batch, seen: &PollSummary) {
        let now = self.assignments.now();
        self.slots
            .retain(|partition, slot| now.get(partition) == Some(&slot.epoch));
        let slots = &self.slots;
        self.repositions
            .retain(|partition, _| slots.contains_key(partition));
        batch.retain(|partition, part| now.get(&partition) == Some(&part.epoch));
        for (&partition, &epoch) in &now {
            if !self.slots.contains_key(&partition) {
                self.restore(partition, epoch, None);
            }
        }
        for &(partition, record) in &seen.progress {
            if let Some(slot) = self.slots.get_mut(&partition) {
                slot.watch = if record { Watch::Record } else { Watch::End };
            }
        }
        for (partition, part) in &batch.parts {
            if let (Some(slot), Some(last)) = (self.slots.get_mut(partition), part.records.last()) {
                slot.position = last.offset + 1;
            }
        }
        self.first_records(consumer, batch);
        for (&partition, &next) in &seen.regressed {
            let reads = self.expected().contains_key(&partition);
            if !reads {
                continue;
            }
            tracing::info!(
                partition,
                next,
                "the client delivered offsets below its position: sought again"
            );
            if let Err(error) = Self::start_reading(consumer, partition, next) {
                // What it brings from before is dropped, so this costs time and nothing else.
                tracing::info!(partition, next, %error, "the seek failed: trying again");
            }
        }
    }

    /// Partitions that waited for a record and have one now are restored with its append time; the
    /// record itself is read again after that.
    fn first_records(&mut self, consumer: &impl Consumer, batch: &mut Batch) {
        let mut first = Vec::new();
        for (&partition, part) in &batch.parts {
            let state = self.slots.get(&partition).map(|slot| &slot.state);
            if let (Some(State::Waiting { from }), Some(record)) = (state, part.records.first()) {
                let begin = First {
                    from: *from,
                    appended_ms: record.appended_ms,
                };
                first.push((partition, part.epoch, begin));
            }
        }
        for (partition, epoch, begin) in first {
            batch.retain(|other, _| other != partition);
            Self::pause(consumer, partition);
            self.restore(partition, epoch, Some(begin));
        }
    }

    fn restore(&mut self, partition: i32, epoch: u64, first: Option<First>) {
        self.questions += 1;
        let question = self.questions;
        self.repositions.remove(&partition);
        // What fails does so after a restore too, and is tried once that is over.
        let before = self.slots.remove(&partition);
        let before = before.filter(|slot| slot.epoch == epoch);
        let repositions = before.as_ref().map_or(0, |slot| slot.repositions);
        let trouble = before.and_then(|slot| slot.trouble);
        let slot = Slot {
            epoch,
            state: State::Restoring,
            question,
            seen: 0,
            position: 0,
            watch: Watch::End,
            trouble: trouble.map(|trouble| Trouble {
                until: None,
                ..trouble
            }),
            aborts: 0,
            repositions,
        };
        self.slots.insert(partition, slot);
        // The restorer lives as long as this sender.
        let _ = self.wanted.send(Wanted {
            partition,
            epoch,
            question,
            repositioned: repositions >= REPOSITIONS,
            first,
        });
    }

    fn start_reading(
        consumer: &impl Consumer,
        partition: i32,
        from: i64,
    ) -> Result<(), BrokerUnavailable> {
        consumer.seek(partition, from)?;
        consumer.resume(&[partition])
    }

    fn pause(consumer: &impl Consumer, partition: i32) {
        if let Err(error) = consumer.pause(&[partition]) {
            // What comes all the same is not expected, and so is dropped.
            tracing::info!(partition, %error, "a partition could not be paused: its records are dropped");
        }
    }

    /// Stops a partition: operator action required.
    pub fn stop(&mut self, consumer: &impl Consumer, partition: i32, why: &str) {
        tracing::error!(
            partition,
            error = why,
            "this partition stops: operator action required"
        );
        Self::pause(consumer, partition);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.state = State::Stopped;
        }
    }

    /// Whether a torn transaction is repaired on a partition.
    pub fn is_repairing(&self) -> bool {
        let repairs = |slot: &Slot| {
            let State::Ready { repair, .. } = &slot.state else {
                return false;
            };
            repair.is_some()
        };
        self.slots.values().any(repairs)
    }

    /// The partitions whose records are wanted.
    pub fn reading(&self) -> Vec<i32> {
        self.expected().into_keys().collect()
    }

    /// Reading was paused: that nothing came meanwhile means nothing.
    pub fn excuse(&mut self) {
        for slot in self.slots.values_mut() {
            slot.watch = Watch::End;
        }
    }

    /// Forgets all of them: the assignment is lost, and the next poll says so.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.repositions.clear();
    }

    /// Remembers what is committed: `end` is where the partition's next batch begins.
    pub fn apply(&mut self, partition: i32, end: i64, entries: &[Entry]) {
        if let Some(Slot {
            state: State::Ready { to, index, repair },
            aborts,
            ..
        }) = self.slots.get_mut(&partition)
        {
            for entry in entries {
                index.insert(entry);
            }
            index.count();
            *to = end;
            *aborts = 0;
            if repair.as_ref().is_some_and(|repair| end >= repair.until) {
                *repair = None;
            }
        }
    }

    /// Before anything is produced: each part must begin where the dedup index ends.
    pub fn begins_elsewhere(&mut self, consumer: &impl Consumer, batch: &mut Batch) -> bool {
        let elsewhere: Vec<(i32, u64)> = batch
            .parts
            .iter()
            .filter(|(partition, part)| {
                let slot = self.slots.get(partition);
                !slot.is_some_and(|slot| slot.is_followed_by(part))
            })
            .map(|(&partition, part)| (partition, part.epoch))
            .collect();
        for &(partition, epoch) in &elsewhere {
            tracing::warn!(
                partition,
                "a batch does not begin where the dedup index ends: restoring"
            );
            batch.retain(|other, _| other != partition);
            Self::pause(consumer, partition);
            let slot = self.slots.get(&partition);
            if slot.is_none_or(|slot| !matches!(slot.state, State::Stopped)) {
                self.restore(partition, epoch, None);
            }
        }
        !elsewhere.is_empty()
    }
}

#[cfg(test)]
mod tests;
