//! The partitions that a worker owns, and the state of each between its assignment and its judging.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use sluice_schemas::dedup_log::Entry;

use crate::dedup::index::DedupIndex;
use crate::engine::batch::{Batch, Expected};
use crate::engine::collect::PollSummary;
use crate::engine::restore::{First, Outcome, Repair, Restored, Wanted};
use crate::kafka::assignment::Assignments;
use crate::kafka::{BrokerUnavailable, Consumer, Kafka};

/// How long to wait before a seek is tried again: the client may still be settling an assignment.
const SEEK_RETRY_DELAY: Duration = Duration::from_millis(20);

/// How often one of the quiet partitions is held against the broker's stable offset.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// For how long raw may be ahead without a record or an end-of-partition before the client counts as
/// stalled: longer than an election or a transaction's time-out takes.
const STALLED: Duration = Duration::from_secs(90);

/// The state of a partition.
enum State {
    /// Its dedup index is being rebuilt.
    Restoring,
    /// Reading begins here; the first record tells how far back to remember.
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

struct Slot {
    epoch: u64,
    state: State,
    /// The question that is asked of the restorer.
    question: u64,
    /// Below this raw offset every fate was seen to be visible.
    seen: i64,
    /// The offset after the last record that was polled, or where the client was sought to.
    position: i64,
    watch: Watch,
}

/// What the watchdog saw of a partition.
#[derive(Clone, Copy)]
enum Watch {
    /// The last sign was a record: another, or the end of the partition, must follow.
    Record,
    /// The last sign was the end of the partition, or reading was paused since.
    End,
    /// Since the end nothing came; the stable offset was this.
    Quiet(i64),
    /// Raw is ahead since then.
    Ahead(Instant),
}

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
}

/// A position to be written down: all before it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgedTo {
    /// The raw offset that is judged next.
    pub at: i64,
    /// Raw's partitions.
    pub partitions: u32,
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
static NOTHING: BTreeMap<i64, bool> = BTreeMap::new();

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
        }
    }

    /// What the next poll is expected to bring, by partition.
    pub fn expected(&self) -> BTreeMap<i32, Expected> {
        let expected = |slot: &Slot| {
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
            if let Some(slot) = self.slots.get(&partition) {
                self.ask(partition, slot.epoch, None, committed);
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

    /// Drops what is no longer owned, starts what is new, and notes what the poll told.
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
        self.ask(partition, epoch, first, false);
    }

    fn ask(&mut self, partition: i32, epoch: u64, first: Option<First>, repositioned: bool) {
        self.questions += 1;
        let question = self.questions;
        self.repositions.remove(&partition);
        let slot = Slot {
            epoch,
            state: State::Restoring,
            question,
            seen: 0,
            position: 0,
            watch: Watch::End,
        };
        self.slots.insert(partition, slot);
        // The restorer lives as long as this sender.
        let _ = self.wanted.send(Wanted {
            partition,
            epoch,
            question,
            repositioned,
            first,
        });
    }

    /// Takes over what the restorer has finished, where it is still owned.
    pub fn take_restored<K: Kafka>(&mut self, kafka: &K, consumer: &K::Consumer) {
        while let Ok(Restored {
            partition,
            epoch,
            question,
            outcome,
        }) = self.restored.try_recv()
        {
            // An answer to a question that was since asked anew, or is no longer ours, is dropped.
            let awaited = self
                .slots
                .get(&partition)
                .is_some_and(|slot| slot.question == question);
            if !awaited || !self.assignments.holds(partition, epoch) {
                continue;
            }
            tracing::debug!(partition, epoch, %outcome, "the restore is over");
            let (from, state) = match outcome {
                Outcome::Ready {
                    from,
                    index,
                    repair,
                } => {
                    let to = from;
                    let state = State::Ready { to, index, repair };
                    (from, state)
                }
                Outcome::Waiting { from } => (from, State::Waiting { from }),
                Outcome::Reposition { from, partitions } => {
                    let at = from;
                    self.repositions
                        .insert(partition, JudgedTo { at, partitions });
                    continue;
                }
                Outcome::NeedsOperator(why) => {
                    self.stop(consumer, partition, &why);
                    continue;
                }
            };
            match Self::start_reading(consumer, partition, from) {
                Ok(()) => {
                    if let Some(slot) = self.slots.get_mut(&partition) {
                        slot.state = state;
                        slot.seen = from;
                        slot.position = from;
                        slot.watch = Watch::End;
                    }
                }
                Err(error) => {
                    tracing::info!(partition, from, %error, "reading could not begin: trying again");
                    kafka.sleep(SEEK_RETRY_DELAY);
                    self.restore(partition, epoch, None);
                }
            }
        }
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
        let restoring = those(|state| matches!(state, State::Restoring));
        if !stopped.is_empty() {
            Err(format!("partitions {stopped:?} are stopped: see the log"))
        } else if !self.assignments.joined() {
            Err("joining the group".to_owned())
        } else if !restoring.is_empty() {
            Err(format!("partitions {restoring:?} are being restored"))
        } else {
            Ok(())
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
            ..
        }) = self.slots.get_mut(&partition)
        {
            for entry in entries {
                index.insert(entry);
            }
            *to = end;
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
                !self.slots.get(partition).is_some_and(
                    |slot| matches!(slot.state, State::Ready { to, .. } if to == part.base_offset && to == part.previous_position),
                )
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
            self.restore(partition, epoch, None);
        }
        !elsewhere.is_empty()
    }

    /// Looks at one partition in turn: `Err` when raw is ahead and the client brings nothing of it,
    /// which was seen once, cause unknown. Only a new process helps.
    pub fn watch(&mut self, consumer: &impl Consumer, now: Instant) -> Result<(), String> {
        if now - self.watched_at < WATCH_EVERY {
            return Ok(());
        }
        self.watched_at = now;
        self.watched += 1;
        let reading = self.reading();
        if reading.is_empty() {
            return Ok(());
        }
        let partition = reading[self.watched % reading.len()];
        let Ok(stable) = consumer.last_stable_offset(partition) else {
            return Ok(());
        };
        let Some(slot) = self.slots.get_mut(&partition) else {
            return Ok(());
        };
        let end = match slot.state {
            State::Ready { to, .. } => to,
            _ => i64::MAX,
        };
        match slot.watch {
            Watch::Record if stable > end => slot.watch = Watch::Ahead(now),
            Watch::Record | Watch::End => slot.watch = Watch::Quiet(stable),
            Watch::Quiet(before) if stable > before => slot.watch = Watch::Ahead(now),
            Watch::Ahead(since) if now - since > STALLED => {
                return Err(format!(
                    "partition {partition} of raw is ahead, and nothing came of it for {} s",
                    (now - since).as_secs()
                ));
            }
            Watch::Quiet(_) | Watch::Ahead(_) => {}
        }
        Ok(())
    }
}
