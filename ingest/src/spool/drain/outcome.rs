//! What became of the records that were sent.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{
    Drain, HALT_BACKOFF, InFlight, MAX_IN_FLIGHT, REMOVE_AFTER, REMOVE_BATCH, SEND_RETRY_DELAY,
};
use crate::publish::{Delivered, Publish, Undelivered};
use crate::spool::{Halt, INVALID, Removal};

impl<P: Publish> Drain<P> {
    /// The outcome of the first record in flight, and of all behind it whose outcome is known.
    pub(super) async fn on_delivery(&mut self, mut outcome: Result<Delivered, Undelivered>) {
        let mut failed = false;
        while let Some(first) = self.in_flight.pop_front() {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(first.size);
            match outcome {
                Ok(Delivered { .. }) => self.delivered(first.removal()),
                Err(Undelivered::TooLarge) => {
                    self.too_large(&first);
                    failed = true;
                }
                Err(Undelivered::Invalid) => self.quarantine(first.removal(), INVALID),
                Err(Undelivered::TimedOut | Undelivered::Refused) => failed = true,
            }
            let Some(next) = self.in_flight.front_mut() else {
                break;
            };
            outcome = match next.reply.try_recv() {
                Ok(outcome) => outcome,
                Err(oneshot::error::TryRecvError::Empty) => break,
                Err(oneshot::error::TryRecvError::Closed) => Err(Undelivered::Refused),
            };
        }
        let oldest = self.in_flight.front().map(|first| first.received_at);
        self.remove_delivered(oldest);
        if failed {
            tokio::time::sleep(SEND_RETRY_DELAY).await;
            self.restart().await;
        }
    }

    /// Waits for all records in flight, and begins again at the oldest record that is left.
    pub(super) async fn restart(&mut self) {
        while let Some(first) = self.in_flight.pop_front() {
            let (removal, number) = (first.removal(), first.number);
            match first.reply.await {
                Ok(Ok(Delivered { .. })) => self.delivered(removal),
                Ok(Err(Undelivered::TooLarge)) => {
                    self.alone_before = self.alone_before.max(number + 1);
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        self.in_flight_bytes = 0;
        // All that Kafka has must be out of the store before it is read again, or it would be sent and
        // counted once more; also where there is nothing new, for what was asked for before comes first. A
        // store that fails meanwhile says so at once, and takes these out before it is read.
        let removed = self.spool.remove(std::mem::take(&mut self.removals), None);
        let _ = removed.await;
        let opened = self.spool.opened();
        if self.opened != opened {
            // They are counted among the others again.
            self.aside.clear();
        }
        self.opened = opened;
        self.read.clear();
        self.next = 0;
    }

    fn remove_delivered(&mut self, oldest: Option<i64>) {
        let few = self.in_flight.len() < MAX_IN_FLIGHT / 2;
        let enough =
            self.removals.len() >= REMOVE_BATCH || self.last_removal.elapsed() >= REMOVE_AFTER;
        if !self.removals.is_empty() && (few || enough) {
            self.last_removal = Instant::now();
            // Durable whenever the next group is: until then a crash would send these once more.
            drop(
                self.spool
                    .remove(std::mem::take(&mut self.removals), oldest),
            );
        }
    }

    /// A record that Kafka refuses for good must not block the others. It stays in the store.
    pub(super) fn quarantine(&self, mut removal: Removal, why: &str) {
        tracing::error!(
            number = removal.number,
            error = why,
            "a spooled record is quarantined and will not be sent: operator action required"
        );
        removal.quarantine = Some(why.to_owned());
        drop(self.spool.remove(vec![removal], None));
    }

    fn delivered(&mut self, removal: Removal) {
        let now = Instant::now();
        self.last_delivery = Some(now);
        self.removals.push(removal);
        if self.retry.take().is_some() {
            self.halt_backoff = HALT_BACKOFF.0;
            self.halts.over();
            self.spool.halted(None);
            tracing::info!("the drain goes on");
        }
    }

    /// Raw does not take a batch of this size. Records of it that were not sent alone are, before anything is
    /// said of one of them.
    fn too_large(&mut self, first: &InFlight) {
        if first.alone {
            self.halt(Halt::TopicLimit, &first.removal());
        } else {
            self.alone_before = self.alone_before.max(first.number + 1);
        }
    }

    /// The drain stops before a record, for what was acknowledged is not set aside because of a setting.
    pub(super) fn halt(&mut self, halt: Halt, record: &Removal) {
        let now = Instant::now();
        self.halted = Some(halt);
        if halt == Halt::TopicLimit {
            self.retry = Some(now + self.halt_backoff);
            self.halt_backoff = (2 * self.halt_backoff).min(HALT_BACKOFF.1);
        }
        self.spool.halted(Some(halt));
        if let Some(repeated) = self.halts.came(now) {
            tracing::error!(
                number = record.number,
                bytes = record.size,
                waiting = self.spool.records(),
                error = halt.sentence(),
                repeated,
                "the drain of the spool waits before a record: operator action required"
            );
        }
    }
}
