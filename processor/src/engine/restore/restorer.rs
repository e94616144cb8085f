//! The restorer's thread: one partition after the other, so that none waits for another's broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sluice_schemas::settings::Settings;

use super::partition::Partition;
use super::question::{Outcome, RETRY_DELAY, RestoreHalt, Restored, Wanted};
use crate::dedup::memory::Memory;
use crate::kafka::assignment::Assignments;
use crate::kafka::{Kafka, Reader as _};

/// A partition that cannot be restored for this long is worth an error; after four times as long another.
const WARN_AFTER: Duration = Duration::from_secs(30);

/// What an index that was given up needs is believed for so long.
const NEEDS_FOR: Duration = Duration::from_secs(600);

/// How long an answer is waited for at first that an open transaction may keep: the other partitions wait as
/// long. With each attempt it is twice as long,
const PATIENCE: Duration = Duration::from_secs(1);

/// up to this.
const MOST_PATIENCE: Duration = Duration::from_secs(10);

/// After so many attempts in a row that failed, the clients are replaced.
const FAILURES: u32 = 5;

/// The clients are closed after this time without work.
const IDLE: Duration = Duration::from_secs(30);

/// A partition in the queue of the restorer.
struct Queued {
    wanted: Wanted,
    /// How much its index needs at least, since it was given up: there was no more room for it.
    needs: u64,
    given_up: Instant,
    patience: Duration,
    since: Instant,
    /// How many times [`WARN_AFTER`] must pass before the next error.
    warnings: u32,
}

/// Restores the partitions of one worker. They take turns: one that waits for a broker or for an open
/// transaction does not keep the others.
pub struct Restorer<'a, K: Kafka> {
    kafka: &'a K,
    settings: &'a Settings,
    memory: &'a Arc<Memory>,
    assignments: Arc<Assignments>,
    reader: Option<K::Reader>,
    failures: u32,
    queue: VecDeque<Queued>,
}

impl<'a, K: Kafka> Restorer<'a, K> {
    /// One with nothing to do.
    pub fn new(
        kafka: &'a K,
        settings: &'a Settings,
        memory: &'a Arc<Memory>,
        assignments: Arc<Assignments>,
    ) -> Self {
        Self {
            kafka,
            settings,
            memory,
            assignments,
            reader: None,
            failures: 0,
            queue: VecDeque::new(),
        }
    }

    /// Serves the worker until its channel closes.
    pub fn run(mut self, wanted: &Receiver<Wanted>, restored: &Sender<Restored>) {
        loop {
            let wait = if self.queue.is_empty() {
                IDLE
            } else {
                Duration::ZERO
            };
            match wanted.recv_timeout(wait) {
                Ok(wanted) => {
                    self.want(wanted);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if self.queue.is_empty() => self.reader = None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let done = self.turn();
            if done.is_some_and(|done| restored.send(done).is_err()) {
                return;
            }
        }
    }

    /// Puts a partition at the end of the queue.
    pub fn want(&mut self, wanted: Wanted) {
        // The answer to an earlier question is of no use.
        self.queue
            .retain(|queued| queued.wanted.partition != wanted.partition);
        self.queue.push_back(Queued {
            wanted,
            needs: 0,
            given_up: self.kafka.now(),
            patience: PATIENCE,
            since: self.kafka.now(),
            warnings: 1,
        });
    }

    /// One attempt for the partition whose turn it is.
    pub fn turn(&mut self) -> Option<Restored> {
        let mut next = self.queue.pop_front()?;
        let Wanted {
            partition,
            epoch,
            question,
            ..
        } = next.wanted;
        let room = self.room_for(&next);
        let has_room = room.is_ok();
        let outcome = match room.and_then(|()| self.attempt(next.wanted, next.patience)) {
            Ok(outcome) => outcome,
            Err(RestoreHalt::EpochEnded) => return None,
            Err(RestoreHalt::NeedsOperator(why)) => Outcome::NeedsOperator(why),
            Err(RestoreHalt::Later(why)) => {
                self.later(next, &why);
                return None;
            }
            Err(RestoreHalt::NoRoom(bytes)) => {
                if has_room {
                    next.needs = self.memory.needed(bytes);
                    next.given_up = self.kafka.now();
                }
                let why = format!(
                    "the dedup indexes take {} bytes of {} (processor.dedup_memory), and this one takes \
                     {bytes} at least",
                    self.memory.held(),
                    self.memory.bound().unwrap_or(u64::MAX)
                );
                self.later(next, &why);
                return None;
            }
        };
        Some(Restored {
            partition,
            epoch,
            question,
            took: self.kafka.now() - next.since,
            outcome,
        })
    }

    /// Puts a partition that cannot be restored now at the end of the queue.
    fn later(&mut self, mut queued: Queued, why: &str) {
        let partition = queued.wanted.partition;
        tracing::debug!(partition, error = why, "restoring: asking again");
        let waited = self.kafka.now() - queued.since;
        if waited > WARN_AFTER * queued.warnings {
            queued.warnings *= 4;
            tracing::error!(
                partition,
                error = why,
                seconds = waited.as_secs(),
                "this partition cannot be restored yet"
            );
        }
        queued.patience = (queued.patience * 2).min(MOST_PATIENCE);
        self.queue.push_back(queued);
        self.kafka.sleep(RETRY_DELAY);
    }

    /// Nothing is read for an index that would find no room, as far as is known. After a time that is not
    /// believed any more: what the window has passed is not read.
    fn room_for(&self, queued: &Queued) -> Result<(), RestoreHalt> {
        let Wanted {
            partition, epoch, ..
        } = queued.wanted;
        let believed = self.kafka.now() < queued.given_up + NEEDS_FOR;
        let needs = if believed { queued.needs } else { 0 };
        if self.memory.has_room_for(needs) {
            Ok(())
        } else if self.assignments.holds(partition, epoch) {
            Err(RestoreHalt::NoRoom(queued.needs))
        } else {
            Err(RestoreHalt::EpochEnded)
        }
    }

    /// One attempt. Clients are kept where it fails: most often that is of a transaction or of a broker.
    fn attempt(&mut self, wanted: Wanted, patience: Duration) -> Result<Outcome, RestoreHalt> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.kafka.reader()?,
        };
        let partition = Partition {
            kafka: self.kafka,
            reader: &reader,
            settings: self.settings,
            memory: self.memory,
            assignments: &self.assignments,
            wanted,
            patience,
        };
        let outcome = partition.restore();
        let failed = matches!(outcome, Err(RestoreHalt::Later(_)));
        self.failures = if failed { self.failures + 1 } else { 0 };
        // What it began to read would fill the client's queue.
        let is_idle = outcome.is_ok() || reader.stop().is_ok();
        if is_idle && self.failures < FAILURES {
            self.reader = Some(reader);
        } else {
            self.failures = 0;
        }
        outcome
    }
}
