//! A worker: one OS thread with one consumer and one transactional producer, in a loop.
//!
//! collect (the only poll) → look at what is still owned → transact → apply. Partitions that are
//! newly assigned are restored on a second thread ([`crate::engine::restore`]).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use sluice_schemas::settings::Settings;
use sluice_service::admin::Readiness;
use sluice_service::kafka::statistics::ClientStatistics;
use sluice_service::telemetry::Repeated;
use tokio_util::sync::CancellationToken;

use crate::dedup::memory::Memory;
use crate::engine::batch::{Batch, Bounds};
use crate::engine::collect::collect;
use crate::engine::outcome::BatchResult;
use crate::engine::partitions::Partitions;
use crate::engine::restore::{Restored, Wanted};
use crate::engine::size::Size;
use crate::kafka::assignment::Assignments;
use crate::kafka::base::Base;
use crate::kafka::{Consumer, InitError, Kafka, Producer};
use crate::metrics::{Metrics, Replaced};
use crate::pipeline::outgoing::FateTopics;
use crate::positions::Positions;
use crate::rules::RulesHandle;
use crate::spans::Spans;

mod unconfirmed;

mod state;

mod commit;

mod confirm;

mod settle;

mod stability;

mod observe;

mod room;

mod trials;

mod run;

pub use run::{Threads, run};

use state::{Room, Settling, Shown, Stability};
use trials::Trials;
use unconfirmed::Unconfirmed;

/// How long the worker waits while a coordinator is away.
const BACKOFF: Duration = Duration::from_millis(500);

/// How long the worker tries to commit what it has read when it can read no more,
const LAST_BATCH: Duration = Duration::from_secs(10);

/// and how long it waits in between.
const LAST_BATCH_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Fenced twice within this time means that somebody else runs under the same name.
const FENCED_TWICE: Duration = Duration::from_secs(60);

/// What all workers of a process share.
pub struct Shared {
    /// The settings of the start: names, numbers and the windows that the dedup indexes are made for.
    pub settings: Arc<Settings>,
    /// Kafka's part of them, with its secrets.
    pub base: Arc<Base>,
    /// What batches are judged under.
    pub current: Arc<RulesHandle>,
    /// What is counted.
    pub metrics: Metrics,
    /// What the dedup indexes of all workers take.
    pub memory: Arc<Memory>,
    /// What the clients of Kafka report to.
    pub statistics: ClientStatistics,
    /// Where the owned partitions will be judged from, for the lag.
    pub positions: Arc<Positions>,
    /// Where spans go.
    pub spans: Spans,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Asked for by a signal.
    pub shutdown: CancellationToken,
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
    /// Cancelled when it is to end.
    end: CancellationToken,
    size: Size,
    consumer: K::Consumer,
    assignments: Arc<Assignments>,
    partitions: Partitions,
    topics: FateTopics,
    dedup_log: String,
    producer: Option<K::Producer>,
    /// Why the next producer replaces one.
    replaces: Option<Replaced>,
    /// The producer is gone in the middle of a commit: this is what it leaves if it went through.
    in_doubt: Option<BatchResult>,
    /// Asks what is visible of what was written.
    reader: Option<K::Reader>,
    reader_failures: u32,
    /// Commits that were answered, and not seen to be visible yet.
    unconfirmed: Unconfirmed,
    /// Why no transaction may begin, until all that is open under the worker's name is decided.
    settling: Option<Settling>,
    stability: Stability,
    room: Room,
    trials: Trials,
    fenced_at: Option<Instant>,
    backoff_until: Option<Instant>,
    /// Aborts since the last commit.
    aborts: u32,
    abort_log: Repeated,
    producer_log: Repeated,
    settle_log: Repeated,
    /// What the metrics say of the worker.
    shown: Shown,
}

/// The worker's end of the channels to its restorer, which ends with them.
pub struct Channels {
    /// Partitions to restore.
    pub wanted: Sender<Wanted>,
    /// Partitions that were looked after.
    pub restored: Receiver<Restored>,
}

/// The name of the condition under which a worker reports the state of its partitions.
pub fn condition(worker: u32) -> String {
    format!("worker-{worker}-partitions")
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
            end: shared.shutdown.clone(),
            size: Size::new(bounds),
            consumer,
            assignments,
            partitions,
            topics: FateTopics::new(names),
            dedup_log: names.dedup_log(),
            producer: None,
            replaces: None,
            in_doubt: None,
            reader: None,
            reader_failures: 0,
            unconfirmed: Unconfirmed::default(),
            settling: None,
            stability: Stability::default(),
            room: Room::default(),
            trials: Trials::default(),
            fenced_at: None,
            backoff_until: None,
            aborts: 0,
            abort_log: Repeated::default(),
            producer_log: Repeated::default(),
            settle_log: Repeated::default(),
            shown: Shown::default(),
        })
    }

    /// Ends when this is cancelled, which the shutdown of the process must do too.
    fn until(mut self, end: CancellationToken) -> Self {
        self.end = end;
        self
    }

    /// Works until it is asked to end or must, and leaves the group.
    pub fn run(mut self) -> Exit {
        let exit = self.work();
        if exit == Exit::Shutdown {
            self.leave_nothing_open();
        }
        self.no_longer_observed();
        let Self {
            consumer,
            producer,
            partitions,
            ..
        } = self;
        drop((producer, partitions));
        consumer.close();
        exit
    }

    fn work(&mut self) -> Exit {
        let mut batch = Batch::default();
        loop {
            if self.end.is_cancelled() {
                return Exit::Shutdown;
            }
            if let Err(exit) = self.turn(&mut batch) {
                return exit;
            }
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, batch: &mut Batch) -> Result<(), Exit> {
        let mut resumed = self.backoff_until.is_some();
        let waits = self.backing_off();
        if !waits {
            let restored = self.partitions.take_restored(self.kafka, &self.consumer);
            for took in restored {
                resumed = true;
                self.shared.metrics.restored(took);
            }
            self.partitions
                .try_suspended(&self.consumer, self.kafka.now());
        }
        let lacks_room = !waits && self.lacks_room(batch, resumed);
        let seen = collect(
            self.kafka,
            &self.consumer,
            (batch, &self.size.bounds(), self.size.earliest()),
            &self.partitions.expected(),
            waits || lacks_room,
        );
        if let Some(why) = self.assignments.failed() {
            return Err(Exit::Restart(format!("a rebalance failed: {why}")));
        }
        let partitions = self.shared.settings.topics.partitions;
        let beyond = self.assignments.now().into_keys().max();
        if let Some(beyond) = beyond.filter(|beyond| *beyond >= partitions) {
            return Err(self.grown(beyond.unsigned_abs() + 1));
        }
        self.partitions.after_poll(&self.consumer, batch, &seen);
        if let Some(why) = seen.fatal {
            return Err(self.last_batch(batch, why));
        }
        self.observe();
        let readiness = self.partitions.readiness();
        self.shared
            .readiness
            .set(&condition(self.number), readiness);
        if waits {
            return Ok(());
        }
        self.partitions
            .watch(&self.consumer, self.kafka.now())
            .map_err(Exit::Restart)?;
        if self.producer.as_ref().is_some_and(Producer::is_suspect) {
            self.producer = None;
            self.replaces = Some(Replaced::Suspect);
        }
        if self.producer.is_none() {
            // Before the first record already: taking over the name ends what a predecessor left
            // open, and others wait for that.
            self.renew()?;
        }
        if self.producer.is_none() {
            return Ok(());
        }
        self.watch_stability()?;
        if self.producer.is_none() {
            return Ok(());
        }
        if !self.settle(batch)? {
            return Ok(());
        }
        self.confirm();
        if let Some(task) = self.task(batch) {
            self.commit(batch, &task)?;
        }
        Ok(())
    }

    /// The consumer reads no more. What it has read is committed first: the next worker then begins at what
    /// cannot be read, and stops that partition alone.
    fn last_batch(&mut self, batch: &mut Batch, why: String) -> Exit {
        let until = self.kafka.now() + LAST_BATCH;
        while !batch.is_empty() && self.kafka.now() < until {
            if self.producer.is_none()
                && let Err(exit) = self.renew()
            {
                return exit;
            }
            let committed = self.settle(batch).and_then(|settled| {
                self.confirm();
                let task = settled.then(|| self.judging(batch)).flatten();
                task.map_or(Ok(()), |task| self.commit(batch, &task))
            });
            if let Err(exit) = committed {
                return exit;
            }
            self.kafka.sleep(LAST_BATCH_RETRY_DELAY);
        }
        Exit::Restart(why)
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
            tracing::info!(%error, "partitions could not be resumed");
        }
        false
    }

    fn back_off(&mut self, wait: Duration) {
        self.backoff_until = Some(self.kafka.now() + wait);
        self.partitions.excuse();
        if let Err(error) = self.consumer.pause(&self.partitions.reading()) {
            tracing::info!(%error, "partitions could not be paused");
        }
    }

    /// Makes the producer, or lets the loop go on polling until it can.
    fn renew(&mut self) -> Result<(), Exit> {
        match self.kafka.producer() {
            Ok(producer) => {
                self.producer = Some(producer);
                if let Some(cause) = self.replaces.take() {
                    self.shared.metrics.recreated(cause);
                }
                self.producer_log.over();
                self.report("producer", None);
                self.unsettle("a new producer took the name over");
                Ok(())
            }
            Err(InitError::Later(why)) => {
                if let Some(repeated) = self.producer_log.came(Instant::now()) {
                    tracing::info!(error = why, repeated, "the producer is not ready");
                }
                self.report("producer", Some(format!("not ready: {why}")));
                self.back_off(BACKOFF);
                Ok(())
            }
            Err(InitError::Fenced(why)) => self.fenced(&why),
        }
    }

    fn fenced(&mut self, why: &str) -> Result<(), Exit> {
        self.shared.metrics.fenced();
        self.replaces = Some(Replaced::Fenced);
        tracing::warn!(
            error = why,
            "the producer was fenced: its name was taken over"
        );
        let now = self.kafka.now();
        let before = self.fenced_at.replace(now);
        if before.is_some_and(|before| now - before < FENCED_TWICE) {
            return Err(Exit::Restart(
                "fenced twice in a minute: another process may run under this name".into(),
            ));
        }
        Ok(())
    }

    fn report(&self, part: &str, what: Option<String>) {
        let name = format!("worker-{}-{part}", self.number);
        self.shared.readiness.set(&name, what.map_or(Ok(()), Err));
    }
}
