//! Bringing the spool to Kafka: in its order, at a pace, and out of the spool only once all in-sync
//! replicas have it.

mod aside;

mod hold;

mod outcome;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::publish::{BATCH_BYTES, Delivered, Hold, Publish, Refused, Undelivered};
use crate::spool::record::RecordError;
use crate::spool::{Halt, Removal, Spool, SpooledRecord, is_older};
use crate::token_bucket::TokenBucket;
use sluice_service::telemetry::Repeated;

/// Records in flight at once: some thousandths of a second's worth, so that one broker's
/// round trip does not slow the rest.
const MAX_IN_FLIGHT: usize = 1_000;

/// Their bytes, at most one record more.
const MAX_IN_FLIGHT_BYTES: u64 = 8 << 20;

/// Records read from the disk at once.
const READ: usize = 250;

/// Their bytes.
const READ_BYTES: usize = 1 << 20;

/// Records that are removed from the store at once while many are left: each time costs two fsyncs.
const REMOVE_BATCH: usize = 500;

/// How long removals wait for a whole batch.
const REMOVE_AFTER: Duration = Duration::from_millis(100);

/// The pause after a failed delivery or read.
const SEND_RETRY_DELAY: Duration = Duration::from_millis(500);

/// How often to look for work where no notification comes.
const SPOOL_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long new requests go to the spool again after that was not enough: twice as long each time, from
/// the first of these to the second. Where brokers are slow, waiting would cost more than the disk.
const HOLD_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The pause before a record that raw finds too large is tried again: twice as long each time, from the first
/// of these to the second.
const HALT_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A record in flight.
struct InFlight {
    number: u64,
    size: u64,
    source: Arc<str>,
    received_at: i64,
    /// It alone is in flight, so that what the brokers say is said of it.
    alone: bool,
    reply: oneshot::Receiver<Result<Delivered, Undelivered>>,
}

impl InFlight {
    /// To be removed once Kafka has it.
    fn removal(&self) -> Removal {
        Removal {
            number: self.number,
            size: self.size,
            source: Arc::clone(&self.source),
            quarantine: None,
        }
    }
}

/// Brings one spool to Kafka.
pub struct Drain<P> {
    spool: Arc<Spool>,
    publisher: Arc<P>,
    /// The number after the last that was read.
    next: u64,
    opened: u64,
    read: VecDeque<SpooledRecord>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    removals: Vec<Removal>,
    last_removal: Instant,
    /// `drain_rate`, and what was not used of the last tenth of a second.
    pace: TokenBucket,
    /// What holds the next record until somebody acts.
    halted: Option<Halt>,
    /// Records before this number are sent one at a time: with others in one batch some were too large.
    alone_before: u64,
    /// Records that wait aside, from the first to the last number of each run, and how many are not logged
    /// yet.
    aside: BTreeMap<u64, u64>,
    new_aside: u64,
    asides: Repeated,
    /// When a record that raw finds too large is tried again, and how long the pause after that is.
    retry: Option<Instant>,
    halt_backoff: Duration,
    halts: Repeated,
    /// When Kafka last took a record.
    last_delivery: Option<Instant>,
    /// When new requests began to wait, and when they may do so again.
    held: Option<Instant>,
    hold_from: Option<Instant>,
    hold_backoff: Duration,
}

impl<P: Publish> Drain<P> {
    /// A drain that has read nothing yet. The publisher must never give up a record for want of time: a
    /// later one of the same key would overtake it.
    pub fn new(spool: Arc<Spool>, publisher: Arc<P>) -> Self {
        let rate = spool.settings().drain_rate;
        let pace = TokenBucket::new(rate.into(), (rate / 10).max(1).into(), Instant::now());
        Self {
            opened: spool.opened(),
            spool,
            publisher,
            next: 0,
            read: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            removals: Vec::new(),
            last_removal: Instant::now(),
            pace,
            halted: None,
            alone_before: 0,
            aside: BTreeMap::new(),
            new_aside: 0,
            asides: Repeated::default(),
            retry: None,
            halt_backoff: HALT_BACKOFF.0,
            halts: Repeated::default(),
            last_delivery: None,
            held: None,
            hold_from: None,
            hold_backoff: HOLD_BACKOFF.0,
        }
    }

    /// Drains whatever comes, until `shutdown`. Records in flight then are still in the spool, and
    /// are sent again.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.forever() => {}
            () = shutdown.cancelled() => {}
        }
        self.spool.admit_new();
    }

    /// Drains until the spool is empty, but for what waits aside; a record that holds the drain ends it too,
    /// with the reason in one sentence.
    ///
    /// # Errors
    /// Records are left that are not to be drained.
    pub async fn until_empty(mut self) -> Result<(), String> {
        while self.spool.records() > 0 {
            self.step().await;
            if let Some(halt) = self.halted
                && self.in_flight.is_empty()
            {
                return Err(format!("the next record: {}", halt.sentence()));
            }
        }
        Ok(())
    }

    async fn forever(&mut self) {
        loop {
            self.step().await;
        }
    }

    /// Sends what may be sent, and waits for something to come of it.
    async fn step(&mut self) {
        if self.spool.opened() != self.opened {
            self.restart().await;
        }
        self.send().await;
        self.log_aside();
        if let Some(first) = self.in_flight.front_mut() {
            // Bounded, for the pace may allow more meanwhile and the hold must end.
            if let Ok(outcome) =
                tokio::time::timeout(SPOOL_POLL_INTERVAL / 10, &mut first.reply).await
            {
                let outcome = outcome.unwrap_or(Err(Undelivered::Refused));
                self.on_delivery(outcome).await;
            }
        } else if self.read.is_empty() || self.halted.is_some() {
            let _ = tokio::time::timeout(SPOOL_POLL_INTERVAL, self.spool.more()).await;
        } else {
            tokio::time::sleep(SPOOL_POLL_INTERVAL / 10).await;
        }
        self.hold();
    }

    /// Reads and sends, as far as the window and the pace allow.
    async fn send(&mut self) {
        if self.retry.is_some_and(|at| Instant::now() < at) {
            self.halted = Some(Halt::TopicLimit);
            return;
        }
        self.halted = None;
        while self.in_flight.len() < MAX_IN_FLIGHT && self.in_flight_bytes < MAX_IN_FLIGHT_BYTES {
            if self.in_flight.front().is_some_and(|first| first.alone) {
                return;
            }
            if self.read.is_empty() && !self.read_on().await {
                return;
            }
            let Some(found) = self.read.pop_front() else {
                return;
            };
            if let Some(found) = self.send_one(found) {
                self.read.push_front(found);
                return;
            }
        }
    }

    /// Sends a record, quarantines it or sets it aside. Returned, it cannot be sent now.
    fn send_one(&mut self, found: SpooledRecord) -> Option<SpooledRecord> {
        let stored = match &found.stored {
            Ok(stored) => stored,
            Err(RecordError::Newer(_)) => {
                self.halt(Halt::NewerRelease, &Removal::of(&found));
                return Some(found);
            }
            Err(RecordError::Damaged) => {
                self.quarantine(Removal::of(&found), "it is damaged on the disk");
                return None;
            }
        };
        let max_age = self.spool.settings().max_age;
        if is_older(stored.received_at, clock::now(), max_age) && !self.spool.drains_older() {
            self.set_aside(&found);
            return None;
        }
        // A batch is refused as a whole. What may be refused for its size is sent alone, so that nothing
        // behind it overtakes it, and nothing next to it is refused with it.
        let alone = found.size > BATCH_BYTES || found.number < self.alone_before;
        if alone && !self.in_flight.is_empty() {
            return Some(found);
        }
        if !self.pace.take_one(Instant::now()) {
            return Some(found);
        }
        let (reply, replied) = oneshot::channel();
        match self
            .publisher
            .publish(&stored.record(), Hold::new(reply, None))
        {
            Ok(()) => {
                self.in_flight_bytes += found.size;
                self.in_flight.push_back(InFlight {
                    number: found.number,
                    size: found.size,
                    source: Arc::clone(&found.source),
                    received_at: stored.received_at,
                    alone,
                    reply: replied,
                });
                None
            }
            Err(Refused::TooLarge) => {
                self.halt(Halt::TopicLimit, &Removal::of(&found));
                Some(found)
            }
            Err(Refused::QueueFull | Refused::Broken) => Some(found),
        }
    }

    /// Reads some more from the disk; whether there was any.
    async fn read_on(&mut self) -> bool {
        let (spool, from) = (Arc::clone(&self.spool), self.past_aside(self.next));
        let read = tokio::task::spawn_blocking(move || spool.read(from, READ, READ_BYTES));
        let found = match read.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(%error, "the spool cannot be read; the drain tries again");
                tokio::time::sleep(SEND_RETRY_DELAY).await;
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "the spool cannot be read; the drain tries again");
                return false;
            }
        };
        if let Some(last) = found.last() {
            self.next = last.number + 1;
        }
        self.read.extend(found);
        !self.read.is_empty()
    }
}
