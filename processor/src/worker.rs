//! A worker: one OS thread with one consumer and one transactional producer, in a loop.
//!
//! collect (the only poll) → look at what is still owned → transact → learn. Partitions that are
//! newly assigned are restored beside it ([`crate::restore`]).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use sluice_schemas::service::admin::Readiness;
use sluice_schemas::service::settings::Settings;
use sluice_schemas::service::shutdown::Shutdown;

use crate::consume::{Assignments, Batch, Bounds, collect};
use crate::fate::FateTopics;
use crate::in_force::Current;
use crate::kafka::calls::Calls;
use crate::kafka::librdkafka::Cluster;
use crate::kafka::{Consumer, InitError, Kafka, Producer};
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::pipeline::Rules;
use crate::restore::{Restored, Restorer, Wanted};
use crate::transact::{Context, Done, Ended, transact};

/// How long the worker waits after a failure that may pass by itself, such as a rebalance.
const BACKOFF_SHORT: Duration = Duration::from_millis(50);

/// How long it waits while a coordinator is away.
const BACKOFF: Duration = Duration::from_millis(500);

/// How long it waits after a failure that only a person can mend.
const BACKOFF_LONG: Duration = Duration::from_secs(2);

/// So many aborts without a commit are trouble: a rebalance costs one, rarely two.
const ABORTS_IN_A_ROW: u32 = 8;

/// Fenced twice within this time means that somebody else runs under the same name.
const FENCED_TWICE: Duration = Duration::from_secs(60);

/// What all workers of a process share.
pub struct Shared {
    /// The settings of the start: names, numbers and what memories are made for.
    pub settings: Arc<Settings>,
    /// Kafka's part of them, with its secrets.
    pub base: ClientConfig,
    /// What batches are judged under.
    pub current: Arc<Current>,
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

/// The loop, and what it keeps from turn to turn.
pub struct Worker<'a, K: Kafka> {
    kafka: &'a K,
    shared: &'a Shared,
    number: u32,
    bounds: Bounds,
    consumer: K::Consumer,
    assignments: Arc<Assignments>,
    partitions: Partitions,
    topics: FateTopics,
    dedup_log: String,
    producer: Option<K::Producer>,
    /// The producer is gone in the middle of a commit: this is what it leaves if it went through.
    in_doubt: Option<Done>,
    fenced_at: Option<Instant>,
    backoff_until: Option<Instant>,
    /// Aborts since the last commit.
    aborts: u32,
}

/// The worker's end of the channels to its restorer, which ends with them.
pub struct Channels {
    /// Partitions to restore.
    pub wanted: Sender<Wanted>,
    /// Partitions that were looked after.
    pub restored: Receiver<Restored>,
}

/// The name of the condition under which a worker tells where its partitions stand.
pub fn condition(worker: u32) -> String {
    format!("worker-{worker}-partitions")
}

/// The watches over a worker's two threads.
#[derive(Debug, Clone, Default)]
pub struct Threads {
    /// Its own.
    pub worker: Calls,
    /// Its restorer's.
    pub restorer: Calls,
}

/// Runs a worker on librdkafka until it is asked to end or must.
pub fn run(shared: &Arc<Shared>, number: u32, threads: &Threads) -> Exit {
    let assignments = Arc::new(Assignments::default());
    let (wanted, wanted_by_worker) = channel();
    let (restored_by_thread, restored) = channel();
    let restore_partitions = {
        let (shared, assignments) = (Arc::clone(shared), Arc::clone(&assignments));
        let calls = threads.restorer.clone();
        move || {
            let cluster = cluster(&shared, number, &calls);
            Restorer::new(&cluster, &shared.settings, assignments)
                .run(&wanted_by_worker, &restored_by_thread);
        }
    };
    if let Err(error) = thread::Builder::new()
        .name(format!("restore-{number}"))
        .spawn(restore_partitions)
    {
        return Exit::Restart(format!("no thread could be started: {error}"));
    }
    let cluster = cluster(shared, number, &threads.worker);
    let channels = Channels { wanted, restored };
    let bounds = Bounds::default();
    match Worker::new(&cluster, shared, number, bounds, assignments, channels) {
        Ok(worker) => worker.run(),
        Err(exit) => exit,
    }
}

fn cluster<'a>(shared: &'a Shared, worker: u32, calls: &'a Calls) -> Cluster<'a> {
    Cluster {
        calls,
        settings: &shared.settings,
        base: &shared.base,
        worker,
    }
}

impl<'a, K: Kafka> Worker<'a, K> {
    /// A worker that has joined nothing yet.
    pub fn new(
        kafka: &'a K,
        shared: &'a Shared,
        number: u32,
        bounds: Bounds,
        assignments: Arc<Assignments>,
        Channels { wanted, restored }: Channels,
    ) -> Result<Self, Exit> {
        let consumer = kafka
            .consumer(Arc::clone(&assignments))
            .map_err(|why| Exit::Restart(format!("no consumer could be made: {why}")))?;
        let names = &shared.settings.topics.names;
        let partitions = Partitions::new(Arc::clone(&assignments), wanted, restored, kafka.now());
        Ok(Self {
            kafka,
            shared,
            number,
            bounds,
            consumer,
            assignments,
            partitions,
            topics: FateTopics::new(names),
            dedup_log: names.dedup_log(),
            producer: None,
            in_doubt: None,
            fenced_at: None,
            backoff_until: None,
            aborts: 0,
        })
    }

    /// Works until it is asked to end or must, and leaves the group.
    pub fn run(mut self) -> Exit {
        let exit = self.work();
        let Self {
            consumer,
            producer,
            partitions,
            ..
        } = self;
        drop((producer, partitions));
        consumer.leave();
        exit
    }

    fn work(&mut self) -> Exit {
        let mut batch = Batch::default();
        loop {
            if self.shared.shutdown.is_requested() {
                return Exit::Shutdown;
            }
            if let Err(exit) = self.turn(&mut batch) {
                return exit;
            }
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, batch: &mut Batch) -> Result<(), Exit> {
        let waits = self.backing_off();
        if !waits {
            self.partitions.take_restored(self.kafka, &self.consumer);
        }
        let seen = collect(
            self.kafka,
            &self.consumer,
            &self.assignments,
            (batch, &self.bounds),
            &self.partitions.expected(),
            waits,
        );
        if let Some(why) = seen.fatal {
            return Err(Exit::Restart(why));
        }
        if let Some(why) = self.assignments.failed() {
            return Err(Exit::Restart(format!("a rebalance failed: {why}")));
        }
        self.partitions.after_poll(&self.consumer, batch, &seen);
        let standing = self.partitions.standing();
        self.shared.readiness.set(&condition(self.number), standing);
        if waits {
            return Ok(());
        }
        self.partitions
            .watch(&self.consumer, self.kafka.now())
            .map_err(Exit::Restart)?;
        if self.producer.as_ref().is_some_and(Producer::is_suspect) {
            self.producer = None;
        }
        if self.producer.is_none() {
            // Before the first record already: taking over the name ends what a predecessor left
            // open, and others wait for that.
            self.renew()?;
        }
        if self.producer.is_none() {
            return Ok(());
        }
        if let Some(done) = self.in_doubt.take() {
            self.resolve(batch, done);
        } else if !batch.is_empty() {
            self.commit(batch)?;
        }
        Ok(())
    }

    /// Whether the worker only polls now. Reading is paused meanwhile, so that polling brings
    /// rebalances and no records.
    fn backing_off(&mut self) -> bool {
        let Some(until) = self.backoff_until else {
            return false;
        };
        if self.kafka.now() < until {
            return true;
        }
        self.backoff_until = None;
        if let Err(error) = self.consumer.resume(&self.partitions.reading()) {
            tracing::info!(%error, "resuming");
        }
        false
    }

    fn back_off(&mut self, wait: Duration) {
        self.backoff_until = Some(self.kafka.now() + wait);
        self.partitions.excuse();
        if let Err(error) = self.consumer.pause(&self.partitions.reading()) {
            tracing::info!(%error, "pausing");
        }
    }

    /// Makes the producer, or lets the loop go on polling until it can.
    fn renew(&mut self) -> Result<(), Exit> {
        match self.kafka.producer() {
            Ok(producer) => {
                self.producer = Some(producer);
                self.trouble("producer", None);
                Ok(())
            }
            Err(InitError::Later(why)) => {
                tracing::info!(why, "the producer is not ready");
                self.trouble("producer", Some(format!("not ready: {why}")));
                self.back_off(BACKOFF);
                Ok(())
            }
            Err(InitError::Fenced(why)) => self.fenced(&why),
        }
    }

    fn fenced(&mut self, why: &str) -> Result<(), Exit> {
        tracing::warn!(why, "the producer was fenced: its name was taken over");
        let now = self.kafka.now();
        let before = self.fenced_at.replace(now);
        if before.is_some_and(|before| now - before < FENCED_TWICE) {
            return Err(Exit::Restart(
                "fenced twice in a minute: another process may run under this name".into(),
            ));
        }
        Ok(())
    }

    fn trouble(&self, part: &str, what: Option<String>) {
        let name = format!("worker-{}-{part}", self.number);
        self.shared.readiness.set(&name, what.map_or(Ok(()), Err));
    }

    /// Judges and commits the batch; what is not committed stays in it.
    fn commit(&mut self, batch: &mut Batch) -> Result<(), Exit> {
        if self.partitions.begins_elsewhere(&self.consumer, batch) {
            return Ok(());
        }
        let Some(mut producer) = self.producer.take() else {
            return Ok(());
        };
        let in_force = self.shared.current.get();
        let rules = Rules {
            settings: &in_force.settings,
            credentials: in_force.credentials.snapshot(),
            router: &in_force.router,
        };
        // Once a batch: what was collected before the question is answered by it.
        let asked = Cell::new(false);
        let is_outdated = || !asked.replace(true) && self.shared.current.is_newer_than(&in_force);
        let context = Context {
            kafka: self.kafka,
            consumer: &self.consumer,
            rules: &rules,
            is_outdated: &is_outdated,
            topics: &self.topics,
            dedup_log: &self.dedup_log,
            partitions: self.shared.settings.topics.partitions.unsigned_abs(),
        };
        let memory = self.partitions.memories();
        let (ended, done) = transact(&mut producer, &context, batch, &memory);
        let mut keep = true;
        match ended {
            Ended::Committed => {
                self.learn(&done);
                *batch = Batch::default();
                self.aborts = 0;
                self.trouble("transaction", None);
            }
            Ended::Aborted { .. } if nothing_before_halts(batch, &done) => {
                self.stop_halted(&done);
                *batch = Batch::default();
            }
            Ended::Aborted { why, trouble } => self.aborted(&why, trouble),
            Ended::Outdated => {
                tracing::debug!("a source is not known yet: the batch waits for the settings file");
                self.back_off(BACKOFF);
            }
            Ended::Lost => {
                tracing::info!("the assignment was lost before the commit");
                self.partitions.forget();
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
                self.aborted(&why, false);
            }
        }
        if keep {
            self.producer = Some(producer);
        }
        Ok(())
    }

    fn aborted(&mut self, why: &str, trouble: bool) {
        self.aborts += 1;
        // What fails again and again does not pass by itself, whatever its code says.
        if trouble || self.aborts >= ABORTS_IN_A_ROW {
            tracing::error!(
                why,
                "the transaction was aborted, and will be until this is mended"
            );
            self.trouble("transaction", Some(why.to_owned()));
            self.back_off(BACKOFF_LONG);
        } else {
            tracing::info!(why, "the transaction was aborted and is tried again");
            self.back_off(BACKOFF_SHORT);
        }
    }

    /// Counts and remembers what is committed.
    fn learn(&mut self, done: &Done) {
        for (labels, &count) in &done.counts {
            self.shared.metrics.count(labels, count);
        }
        for (source, &count) in &done.unverified {
            self.shared.metrics.unverified(source, count);
        }
        for (&partition, (end, entries)) in &done.learned {
            self.partitions.learn(partition, *end, entries);
        }
        self.stop_halted(done);
    }

    fn stop_halted(&mut self, done: &Done) {
        for (&partition, halt) in &done.halted {
            self.partitions
                .stop(&self.consumer, partition, &halt.to_string());
        }
    }

    /// After a commit in doubt: the committed offsets say whether the batch went through. All of it
    /// did or nothing, so a partition that is still owned speaks for all.
    fn resolve(&mut self, batch: &mut Batch, mut done: Done) {
        let asked: Vec<i32> = done.learned.keys().copied().collect();
        let committed = match self.consumer.committed(&asked) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::info!(%error, "asking for the committed offsets again");
                self.in_doubt = Some(done);
                self.back_off(BACKOFF);
                return;
            }
        };
        // A partition that came back in another epoch was restored, speaks for itself, and says
        // nothing of this batch.
        let (epochs, parts) = (&done.epochs, &batch.parts);
        done.learned.retain(|partition, _| {
            let part = parts.get(partition);
            part.is_some_and(|part| epochs.get(partition) == Some(&part.epoch))
        });
        let through = done
            .learned
            .iter()
            .any(|(partition, (to, _))| committed.get(partition) == Some(to));
        if through {
            tracing::info!("the commit in doubt went through");
            // Records that were polled since are read again: the batch and the memory must meet.
            let ends = done.ends();
            self.learn(&done);
            batch.advance(&ends);
        } else {
            tracing::info!("the commit in doubt did not go through: the batch is tried again");
        }
    }
}

/// Whether each part of a batch begins with a record that may not be judged: then there is nothing to
/// commit, and nothing to try again.
fn nothing_before_halts(batch: &Batch, done: &Done) -> bool {
    let halted = |partition| done.halted.contains_key(partition);
    done.learned.is_empty() && batch.parts.keys().all(halted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::Part;
    use crate::pipeline::Halt;

    #[test]
    fn a_halt_speaks_for_its_own_partition_and_for_nothing_that_was_judged() {
        let part = || Part {
            epoch: 1,
            from: 5,
            follows: 5,
            records: Vec::new(),
        };
        let mut batch = Batch::default();
        batch.parts.insert(0, part());
        let mut done = Done::default();
        assert!(!nothing_before_halts(&batch, &done));
        done.halted.insert(0, Halt { version: 2 });
        assert!(nothing_before_halts(&batch, &done));
        // Another partition's records are in the batch: an abort must not drop them.
        batch.parts.insert(1, part());
        assert!(!nothing_before_halts(&batch, &done));
        batch.parts.remove(&1);
        // Records before the halt were judged, and are not committed.
        done.learned.insert(0, (7, Vec::new()));
        assert!(!nothing_before_halts(&batch, &done));
    }
}
