//! A worker: one OS thread with one consumer and one transactional producer, in a loop.
//!
//! collect (the only poll) → look at what is still owned → transact → learn. Partitions that are
//! newly assigned are restored beside it ([`crate::restore`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_schemas::service::admin::Readiness;
use sluice_schemas::service::credentials::Store;
use sluice_schemas::service::settings::Settings;
use sluice_schemas::service::shutdown::Shutdown;

use crate::consume::{Assignments, Batch, Expected, RawContext, Seen, collect, consumer};
use crate::fate::FateTopics;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::pipeline::Rules;
use crate::restore::{self, Outcome, Restored, Wanted};
use crate::route::Router;
use crate::transact::{Context, Done, Ended, InitError, Transactor, transact};

/// How long one look at a seek or an offset may take.
const ASK: Duration = Duration::from_secs(5);

/// How long the worker waits after a failure that only a person can mend, or a broker that is away.
const BACKOFF: Duration = Duration::from_millis(500);

/// Fenced twice within this time means that somebody else runs under the same name.
const FENCED_TWICE: Duration = Duration::from_secs(60);

/// How often one of the quiet partitions is held against the broker's stable offset.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// For how long raw may be ahead without a record or an end-of-partition before the client counts as
/// stalled: longer than an election or a transaction's time-out takes.
const STALLED: Duration = Duration::from_secs(90);

/// How long the consumer may take to leave its group.
const CLOSE: Duration = Duration::from_secs(10);

/// What all workers of a process share.
pub struct Shared {
    /// The settings.
    pub settings: Settings,
    /// Kafka's part of them, with its secrets.
    pub base: ClientConfig,
    /// The sources' secrets.
    pub credentials: Arc<Store>,
    /// Where events go.
    pub router: Router,
    /// What is counted.
    pub metrics: Metrics,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Asked for by a signal.
    pub shutdown: Shutdown,
}

/// Why a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to.
    Shutdown,
    /// It can go on only in a new process.
    Restart(String),
}

/// Where a partition stands.
enum State {
    /// Its memory is being read.
    Restoring,
    /// Reading began here; the first record tells how far back to remember.
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

struct Worker<'a> {
    shared: &'a Shared,
    number: u32,
    consumer: BaseConsumer<RawContext>,
    assignments: Arc<Assignments>,
    slots: BTreeMap<i32, Slot>,
    topics: FateTopics,
    raw: String,
    dedup_log: String,
    wanted: Sender<Wanted>,
    restored: Receiver<Restored>,
    transactor: Option<Transactor>,
    /// The producer is gone in the middle of a commit: this is what it leaves if it went through.
    in_doubt: Option<Done>,
    fenced_at: Option<Instant>,
    backoff_until: Option<Instant>,
    watched_at: Instant,
    watched: usize,
}

/// Runs a worker until it is asked to end or must.
pub fn run(shared: &Arc<Shared>, number: u32) -> Exit {
    let assignments = Arc::new(Assignments::default());
    let made = consumer(
        &shared.settings,
        &shared.base,
        number,
        Arc::clone(&assignments),
    );
    let consumer = match made {
        Ok(consumer) => consumer,
        Err(error) => return Exit::Restart(format!("no consumer could be made: {error}")),
    };
    let (wanted, wanted_by_worker) = channel();
    let (restored_by_thread, restored) = channel();
    let restore_partitions = {
        let (shared, assignments) = (Arc::clone(shared), Arc::clone(&assignments));
        move || {
            restore::run(
                &shared.settings,
                &shared.base,
                &assignments,
                &wanted_by_worker,
                &restored_by_thread,
            );
        }
    };
    if let Err(error) = thread::Builder::new()
        .name(format!("restore-{number}"))
        .spawn(restore_partitions)
    {
        return Exit::Restart(format!("no thread could be started: {error}"));
    }
    let names = &shared.settings.topics.names;
    let mut worker = Worker {
        shared,
        number,
        consumer,
        assignments,
        slots: BTreeMap::new(),
        topics: FateTopics::new(names),
        raw: names.raw(),
        dedup_log: names.dedup_log(),
        wanted,
        restored,
        transactor: None,
        in_doubt: None,
        fenced_at: None,
        backoff_until: None,
        watched_at: Instant::now(),
        watched: 0,
    };
    let exit = worker.work();
    worker.leave();
    exit
}

impl Worker<'_> {
    fn work(&mut self) -> Exit {
        let mut batch = Batch::default();
        loop {
            if self.shared.shutdown.is_requested() {
                return Exit::Shutdown;
            }
            let turn = self.turn(&mut batch);
            if let Err(exit) = turn {
                return exit;
            }
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, batch: &mut Batch) -> Result<(), Exit> {
        let waits = self.backing_off();
        if !waits {
            self.take_restored();
        }
        let seen = collect(&self.consumer, batch, &self.expected());
        self.look_after(batch, seen)?;
        if waits {
            return Ok(());
        }
        if self.transactor.is_none() {
            // Before the first record already: taking over the name ends what a predecessor left
            // open, and others wait for that.
            self.renew()?;
        }
        if self.transactor.is_none() {
            return Ok(());
        }
        if let Some(done) = self.in_doubt.take() {
            self.resolve(batch, done);
        } else if !batch.is_empty() {
            self.commit(batch)?;
        }
        Ok(())
    }

    /// What the next poll is expected to bring, by partition.
    fn expected(&self) -> BTreeMap<i32, Expected> {
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

    /// Drops what is no longer owned, starts what is new, and notes what the poll told.
    fn look_after(&mut self, batch: &mut Batch, seen: Seen) -> Result<(), Exit> {
        if let Some(why) = seen.fatal {
            return Err(Exit::Restart(why));
        }
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
            self.drop_everything(batch);
        }
        for partition in seen.alive {
            if let Some(slot) = self.slots.get_mut(&partition) {
                slot.watch = Watch::Alive;
            }
        }
        self.first_records(batch);
        self.tell_stopped();
        self.watch()
    }

    /// Partitions that waited for a record and have one now are restored with its append time; the
    /// record itself is read again after that.
    fn first_records(&mut self, batch: &mut Batch) {
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
            self.pause(partition);
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
    fn take_restored(&mut self) {
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
                    self.stop(partition, &why);
                    continue;
                }
            };
            match self.start_reading(partition, from) {
                Ok(()) => {
                    if let Some(slot) = self.slots.get_mut(&partition) {
                        slot.state = state;
                        slot.watch = Watch::Alive;
                    }
                }
                Err(error) => {
                    // The client may still be settling the assignment: from the start again.
                    tracing::info!(partition, from, %error, "seeking: trying again");
                    thread::sleep(Duration::from_millis(20));
                    self.restore(partition, epoch, None);
                }
            }
        }
    }

    fn start_reading(&self, partition: i32, from: i64) -> Result<(), KafkaError> {
        self.consumer
            .seek(&self.raw, partition, Offset::Offset(from), ASK)?;
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.raw, partition);
        self.consumer.resume(&list)
    }

    fn pause(&self, partition: i32) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.raw, partition);
        if let Err(error) = self.consumer.pause(&list) {
            // What comes all the same is not expected, and so is dropped.
            tracing::info!(partition, %error, "pausing");
        }
    }

    fn stop(&mut self, partition: i32, why: &str) {
        tracing::error!(
            partition,
            why,
            "this partition stops here until a person looks"
        );
        self.pause(partition);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.state = State::Stopped;
        }
    }

    fn tell_stopped(&self) {
        let stopped: Vec<i32> = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot.state, State::Stopped))
            .map(|(partition, _)| *partition)
            .collect();
        let said = if stopped.is_empty() {
            Ok(())
        } else {
            Err(format!("partitions {stopped:?} are stopped: see the log"))
        };
        let name = format!("worker-{}-partitions", self.number);
        self.shared.readiness.set(&name, said);
    }

    fn drop_everything(&mut self, batch: &mut Batch) {
        *batch = Batch::default();
        for (partition, epoch) in self.assignments.now() {
            self.pause(partition);
            self.restore(partition, epoch, None);
        }
    }

    /// Whether the worker only polls now. Reading is paused meanwhile, so that polling brings
    /// rebalances and no records.
    fn backing_off(&mut self) -> bool {
        let Some(until) = self.backoff_until else {
            return false;
        };
        if Instant::now() < until {
            return true;
        }
        self.backoff_until = None;
        if let Err(error) = self.consumer.resume(&self.reading()) {
            tracing::info!(%error, "resuming");
        }
        false
    }

    fn back_off(&mut self, wait: Duration) {
        self.backoff_until = Some(Instant::now() + wait);
        if let Err(error) = self.consumer.pause(&self.reading()) {
            tracing::info!(%error, "pausing");
        }
    }

    /// The partitions whose records are wanted.
    fn reading(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &partition in self.expected().keys() {
            list.add_partition(&self.raw, partition);
        }
        list
    }

    /// Makes the producer, or lets the loop go on polling until it can.
    fn renew(&mut self) -> Result<(), Exit> {
        match Transactor::new(&self.shared.settings, &self.shared.base, self.number) {
            Ok(transactor) => {
                self.transactor = Some(transactor);
                self.trouble(None);
                Ok(())
            }
            Err(InitError::Later(why)) => {
                tracing::info!(why, "the producer is not ready");
                self.trouble(Some(format!("the producer is not ready: {why}")));
                self.back_off(BACKOFF);
                Ok(())
            }
            Err(InitError::Fenced(why)) => self.fenced(&why),
        }
    }

    fn fenced(&mut self, why: &str) -> Result<(), Exit> {
        tracing::warn!(why, "the producer was fenced: its name was taken over");
        let now = Instant::now();
        let before = self.fenced_at.replace(now);
        if before.is_some_and(|before| now - before < FENCED_TWICE) {
            return Err(Exit::Restart(
                "fenced twice in a minute: another process runs under this name".into(),
            ));
        }
        Ok(())
    }

    fn trouble(&self, what: Option<String>) {
        let name = format!("worker-{}", self.number);
        self.shared.readiness.set(&name, what.map_or(Ok(()), Err));
    }

    /// Judges and commits the batch; what is not committed stays in it.
    fn commit(&mut self, batch: &mut Batch) -> Result<(), Exit> {
        if self.begins_elsewhere(batch) {
            return Ok(());
        }
        let Some(mut transactor) = self.transactor.take() else {
            return Ok(());
        };
        let rules = Rules {
            settings: &self.shared.settings,
            credentials: self.shared.credentials.snapshot(),
            router: &self.shared.router,
        };
        let context = Context {
            consumer: &self.consumer,
            rules: &rules,
            topics: &self.topics,
            raw: &self.raw,
            dedup_log: &self.dedup_log,
            partitions: self.shared.settings.topics.partitions.unsigned_abs(),
        };
        let memory: BTreeMap<i32, &Memory> = self
            .slots
            .iter()
            .filter_map(|(&partition, slot)| match &slot.state {
                State::Ready { memory, .. } => Some((partition, memory.as_ref())),
                _ => None,
            })
            .collect();
        let (ended, done) = transact(&mut transactor, &context, batch, &memory);
        let mut keep = !transactor.is_suspect();
        match ended {
            Ended::Committed => {
                self.learn(done);
                *batch = Batch::default();
                self.trouble(None);
            }
            Ended::Aborted { .. } if done.learned.is_empty() && !done.halted.is_empty() => {
                // Nothing stands before the record that may not be judged.
                self.learn(done);
                *batch = Batch::default();
            }
            Ended::Aborted { why, trouble } => self.aborted(&why, trouble),
            Ended::Lost => {
                tracing::info!("the assignment was lost before the commit");
                self.slots.clear();
                *batch = Batch::default();
            }
            Ended::Broken {
                why,
                in_doubt,
                fenced,
            } => {
                keep = false;
                self.in_doubt = in_doubt.then_some(done);
                tracing::warn!(
                    why,
                    in_doubt,
                    "the transaction broke: a new producer is made"
                );
                if fenced {
                    self.fenced(&why)?;
                }
            }
        }
        if keep {
            self.transactor = Some(transactor);
        }
        Ok(())
    }

    /// Before anything is produced: each part must begin where the memory ends.
    fn begins_elsewhere(&mut self, batch: &mut Batch) -> bool {
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
            self.pause(partition);
            self.restore(partition, epoch, None);
        }
        !elsewhere.is_empty()
    }

    fn aborted(&mut self, why: &str, trouble: bool) {
        if trouble {
            tracing::error!(
                why,
                "the transaction was aborted, and will be until this is mended"
            );
            self.trouble(Some(why.to_owned()));
            self.back_off(BACKOFF * 4);
        } else {
            tracing::info!(why, "the transaction was aborted and is tried again");
            self.back_off(BACKOFF / 10);
        }
    }

    /// Counts and remembers what is committed.
    fn learn(&mut self, done: Done) {
        for (labels, count) in done.counts {
            self.shared.metrics.count(&labels, count);
        }
        for (partition, (end, entries)) in done.learned {
            if let Some(Slot {
                state: State::Ready { to, memory },
                ..
            }) = self.slots.get_mut(&partition)
            {
                for entry in &entries {
                    memory.insert(entry);
                }
                *to = end;
            }
        }
        for (partition, halt) in done.halted {
            self.stop(partition, &halt.to_string());
        }
    }

    /// After a commit in doubt: the committed offsets say whether the batch went through. All of it
    /// did or nothing, so a partition that is still owned speaks for all.
    fn resolve(&mut self, batch: &mut Batch, done: Done) {
        let mut list = TopicPartitionList::new();
        for &partition in done.learned.keys() {
            list.add_partition(&self.raw, partition);
        }
        let committed = match self.consumer.committed_offsets(list, ASK) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::info!(%error, "asking for the committed offsets again");
                self.in_doubt = Some(done);
                self.back_off(BACKOFF);
                return;
            }
        };
        let stands_at = |partition: i32, offset: i64| {
            committed
                .find_partition(&self.raw, partition)
                .is_some_and(|found| found.offset() == Offset::Offset(offset))
        };
        let owned: Vec<i32> = batch.parts.keys().copied().collect();
        let through = |partition: &i32| {
            done.learned
                .get(partition)
                .is_some_and(|(to, _)| stands_at(*partition, *to))
        };
        if owned.iter().any(through) {
            tracing::info!("the commit in doubt went through");
            // Records that were polled since are read again: the batch and the memory must meet.
            let ends: BTreeMap<i32, i64> = done
                .learned
                .iter()
                .map(|(&partition, (to, _))| (partition, *to))
                .collect();
            self.learn(done);
            batch.advance(&ends);
        } else {
            tracing::info!("the commit in doubt did not go through: the batch is tried again");
        }
    }

    /// Ends the process when raw is ahead and the client brings nothing: seen once, cause unknown.
    fn watch(&mut self) -> Result<(), Exit> {
        if self.watched_at.elapsed() < WATCH_EVERY || self.backoff_until.is_some() {
            return Ok(());
        }
        self.watched_at = Instant::now();
        self.watched += 1;
        let reading: Vec<i32> = self.expected().into_keys().collect();
        if reading.is_empty() {
            return Ok(());
        }
        let partition = reading[self.watched % reading.len()];
        let Ok((_, stable)) =
            self.consumer
                .fetch_watermarks(&self.raw, partition, Duration::from_secs(1))
        else {
            return Ok(());
        };
        let Some(slot) = self.slots.get_mut(&partition) else {
            return Ok(());
        };
        match slot.watch {
            Watch::Alive => slot.watch = Watch::Quiet(stable),
            Watch::Quiet(before) if stable > before => slot.watch = Watch::Ahead(Instant::now()),
            Watch::Ahead(since) if since.elapsed() > STALLED => {
                return Err(Exit::Restart(format!(
                    "partition {partition} of raw is ahead, and nothing came of it for {} s",
                    since.elapsed().as_secs()
                )));
            }
            Watch::Quiet(_) | Watch::Ahead(_) => {}
        }
        Ok(())
    }

    /// Leaves the group, bounded: a close was seen to hang.
    fn leave(self) {
        let Self {
            consumer,
            transactor,
            wanted,
            ..
        } = self;
        drop((transactor, wanted));
        let (closed, wait) = channel();
        thread::spawn(move || {
            consumer.unsubscribe();
            drop(consumer);
            let _ = closed.send(());
        });
        if wait.recv_timeout(CLOSE).is_err() {
            tracing::warn!("the consumer did not close in time");
        }
    }
}
