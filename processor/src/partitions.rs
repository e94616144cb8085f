//! The partitions that a worker owns, and where each stands between its assignment and its judging.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::dedup_log::Entry;

use crate::consume::{Assignments, Batch, Expected, RawContext, Seen};
use crate::memory::Memory;
use crate::restore::{Outcome, Restored, Wanted};

/// How long a seek may take.
const SEEK: Duration = Duration::from_secs(5);

/// How long to wait before a seek is tried again: the client may still be settling an assignment.
const SEEK_AGAIN: Duration = Duration::from_millis(20);

/// How often one of the quiet partitions is held against the broker's stable offset.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// How long the look at the stable offset may take.
const WATCH_ASK: Duration = Duration::from_secs(1);

/// For how long raw may be ahead without a record or an end-of-partition before the client counts as
/// stalled: longer than an election or a transaction's time-out takes.
const STALLED: Duration = Duration::from_secs(90);

/// Where a partition stands.
enum State {
    /// Its memory is being read.
    Restoring,
    /// Reading begins here; the first record tells how far back to remember.
    Waiting { from: i64 },
    /// It is judged.
    Ready { to: i64, memory: Box<Memory> },
    /// A person must look.
    Stopped,
}

struct Slot {
    epoch: u64,
    state: State,
    watch: Watch,
}

/// What the watchdog saw of a partition since its last record or end-of-partition.
#[derive(Clone, Copy)]
enum Watch {
    /// Nothing yet.
    Alive,
    /// The stable offset was this.
    Quiet(i64),
    /// The stable offset is ahead since then.
    Ahead(Instant),
}

/// The partitions of one worker.
pub struct Partitions {
    raw: String,
    assignments: Arc<Assignments>,
    slots: BTreeMap<i32, Slot>,
    wanted: Sender<Wanted>,
    restored: Receiver<Restored>,
    watched_at: Instant,
    watched: usize,
}

impl Partitions {
    /// None yet. `wanted` and `restored` are the channels of the worker's restorer, which ends with
    /// this value.
    pub fn new(
        raw: String,
        assignments: Arc<Assignments>,
        wanted: Sender<Wanted>,
        restored: Receiver<Restored>,
    ) -> Self {
        Self {
            raw,
            assignments,
            slots: BTreeMap::new(),
            wanted,
            restored,
            watched_at: Instant::now(),
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
            })
        };
        self.slots
            .iter()
            .filter_map(|(&partition, slot)| Some((partition, expected(slot)?)))
            .collect()
    }

    /// The memories of the partitions that are judged.
    pub fn memories(&self) -> BTreeMap<i32, &Memory> {
        self.slots
            .iter()
            .filter_map(|(&partition, slot)| match &slot.state {
                State::Ready { memory, .. } => Some((partition, memory.as_ref())),
                _ => None,
            })
            .collect()
    }

    /// Drops what is no longer owned, starts what is new, and notes what the poll told.
    pub fn after_poll(
        &mut self,
        consumer: &BaseConsumer<RawContext>,
        batch: &mut Batch,
        seen: &Seen,
    ) {
        let now = self.assignments.now();
        self.slots
            .retain(|partition, slot| now.get(partition) == Some(&slot.epoch));
        batch.retain(|partition, part| now.get(&partition) == Some(&part.epoch));
        for (&partition, &epoch) in &now {
            if !self.slots.contains_key(&partition) {
                self.restore(partition, epoch, None);
            }
        }
        if seen.position_lost {
            tracing::warn!("the client lost a position: all partitions are restored");
            *batch = Batch::default();
            for (partition, epoch) in now {
                self.pause(consumer, partition);
                self.restore(partition, epoch, None);
            }
        }
        for partition in &seen.alive {
            if let Some(slot) = self.slots.get_mut(partition) {
                slot.watch = Watch::Alive;
            }
        }
        self.first_records(consumer, batch);
    }

    /// Partitions that waited for a record and have one now are restored with its append time; the
    /// record itself is read again after that.
    fn first_records(&mut self, consumer: &BaseConsumer<RawContext>, batch: &mut Batch) {
        let mut first = Vec::new();
        for (&partition, part) in &batch.parts {
            let waits = self
                .slots
                .get(&partition)
                .is_some_and(|slot| matches!(slot.state, State::Waiting { .. }));
            if let (true, Some(record)) = (waits, part.records.first()) {
                first.push((partition, part.epoch, record.appended_ms));
            }
        }
        for (partition, epoch, first_ms) in first {
            batch.retain(|other, _| other != partition);
            self.pause(consumer, partition);
            self.restore(partition, epoch, Some(first_ms));
        }
    }

    fn restore(&mut self, partition: i32, epoch: u64, first_ms: Option<i64>) {
        let slot = Slot {
            epoch,
            state: State::Restoring,
            watch: Watch::Alive,
        };
        self.slots.insert(partition, slot);
        // The restorer lives as long as this sender.
        let _ = self.wanted.send(Wanted {
            partition,
            epoch,
            first_ms,
        });
    }

    /// Takes over what the restorer has finished, where it is still owned.
    pub fn take_restored(&mut self, consumer: &BaseConsumer<RawContext>) {
        while let Ok(Restored {
            partition,
            epoch,
            outcome,
        }) = self.restored.try_recv()
        {
            if !self.assignments.holds(partition, epoch) {
                continue;
            }
            let (from, state) = match outcome {
                Outcome::Ready { from, memory } => (from, State::Ready { to: from, memory }),
                Outcome::Waiting { from } => (from, State::Waiting { from }),
                Outcome::Person(why) => {
                    self.stop(consumer, partition, &why);
                    continue;
                }
            };
            match self.start_reading(consumer, partition, from) {
                Ok(()) => {
                    if let Some(slot) = self.slots.get_mut(&partition) {
                        slot.state = state;
                        slot.watch = Watch::Alive;
                    }
                }
                Err(error) => {
                    tracing::info!(partition, from, %error, "seeking: trying again");
                    thread::sleep(SEEK_AGAIN);
                    self.restore(partition, epoch, None);
                }
            }
        }
    }

    fn start_reading(
        &self,
        consumer: &BaseConsumer<RawContext>,
        partition: i32,
        from: i64,
    ) -> Result<(), KafkaError> {
        consumer.seek(&self.raw, partition, Offset::Offset(from), SEEK)?;
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.raw, partition);
        consumer.resume(&list)
    }

    fn pause(&self, consumer: &BaseConsumer<RawContext>, partition: i32) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.raw, partition);
        if let Err(error) = consumer.pause(&list) {
            // What comes all the same is not expected, and so is dropped.
            tracing::info!(partition, %error, "pausing");
        }
    }

    /// Stops a partition until a person looks.
    pub fn stop(&mut self, consumer: &BaseConsumer<RawContext>, partition: i32, why: &str) {
        tracing::error!(
            partition,
            why,
            "this partition stops here until a person looks"
        );
        self.pause(consumer, partition);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.state = State::Stopped;
        }
    }

    /// Whether each partition is judged, or why not: for `/readyz`.
    pub fn standing(&self) -> Result<(), String> {
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

    /// The partitions whose records are wanted.
    pub fn reading(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in self.expected().into_keys() {
            list.add_partition(&self.raw, partition);
        }
        list
    }

    /// Forgets all of them: the assignment is lost, and the next poll says so.
    pub fn forget(&mut self) {
        self.slots.clear();
    }

    /// Remembers what is committed: `end` is where the partition's next batch begins.
    pub fn learn(&mut self, partition: i32, end: i64, entries: &[Entry]) {
        if let Some(Slot {
            state: State::Ready { to, memory },
            ..
        }) = self.slots.get_mut(&partition)
        {
            for entry in entries {
                memory.insert(entry);
            }
            *to = end;
        }
    }

    /// Before anything is produced: each part must begin where the memory ends.
    pub fn begins_elsewhere(
        &mut self,
        consumer: &BaseConsumer<RawContext>,
        batch: &mut Batch,
    ) -> bool {
        let elsewhere: Vec<(i32, u64)> = batch
            .parts
            .iter()
            .filter(|(partition, part)| {
                !self.slots.get(partition).is_some_and(
                    |slot| matches!(slot.state, State::Ready { to, .. } if to == part.from),
                )
            })
            .map(|(&partition, part)| (partition, part.epoch))
            .collect();
        for &(partition, epoch) in &elsewhere {
            tracing::warn!(
                partition,
                "a batch does not begin where the memory ends: restoring"
            );
            batch.retain(|other, _| other != partition);
            self.pause(consumer, partition);
            self.restore(partition, epoch, None);
        }
        !elsewhere.is_empty()
    }

    /// Looks at one partition in turn: `Err` when raw is ahead and the client brings nothing of it,
    /// which was seen once, cause unknown. Only a new process helps.
    pub fn watch(&mut self, consumer: &BaseConsumer<RawContext>) -> Result<(), String> {
        if self.watched_at.elapsed() < WATCH_EVERY {
            return Ok(());
        }
        self.watched_at = Instant::now();
        self.watched += 1;
        let reading: Vec<i32> = self.expected().into_keys().collect();
        if reading.is_empty() {
            return Ok(());
        }
        let partition = reading[self.watched % reading.len()];
        let Ok((_, stable)) = consumer.fetch_watermarks(&self.raw, partition, WATCH_ASK) else {
            return Ok(());
        };
        let Some(slot) = self.slots.get_mut(&partition) else {
            return Ok(());
        };
        match slot.watch {
            Watch::Alive => slot.watch = Watch::Quiet(stable),
            Watch::Quiet(before) if stable > before => slot.watch = Watch::Ahead(Instant::now()),
            Watch::Ahead(since) if since.elapsed() > STALLED => {
                return Err(format!(
                    "partition {partition} of raw is ahead, and nothing came of it for {} s",
                    since.elapsed().as_secs()
                ));
            }
            Watch::Quiet(_) | Watch::Ahead(_) => {}
        }
        Ok(())
    }
}
