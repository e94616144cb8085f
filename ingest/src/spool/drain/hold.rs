//! Letting new requests wait for the spool's last records.

use std::time::Instant;

use super::{Drain, HOLD_BACKOFF, SPOOL_POLL_INTERVAL};
use crate::publish::Publish;
use crate::spool::HOLD_TIMEOUT;

impl<P: Publish> Drain<P> {
    /// Under steady traffic the spool would never be empty: for its last records new requests wait.
    pub(super) fn hold(&mut self) {
        let now = Instant::now();
        match self.held {
            None => {
                let flows = self
                    .last_delivery
                    .is_some_and(|at| at.elapsed() < SPOOL_POLL_INTERVAL);
                let may = self.hold_from.is_none_or(|from| now >= from);
                if flows && may && self.spool.hold_new() {
                    self.held = Some(now);
                }
            }
            Some(_) if self.spool.records() == 0 => {
                self.held = None;
                self.hold_backoff = HOLD_BACKOFF.0;
            }
            Some(since) if since.elapsed() > HOLD_TIMEOUT => {
                self.spool.admit_new();
                self.held = None;
                self.hold_from = Some(now + self.hold_backoff);
                self.hold_backoff = (2 * self.hold_backoff).min(HOLD_BACKOFF.1);
            }
            Some(_) => {}
        }
    }
}
