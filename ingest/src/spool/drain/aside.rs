//! Records that are older than `max_age`: the deduplication may not know their repetitions any more, so they
//! wait on the disk for a person's word. Nothing waits behind them.

use std::time::Instant;

use super::Drain;
use crate::publish::Publish;
use crate::spool::{Removal, SpooledRecord};

impl<P: Publish> Drain<P> {
    /// Leaves a record where it is, and goes on. It is counted once, however often it is read.
    pub(super) fn set_aside(&mut self, found: &SpooledRecord) {
        if self.past_aside(found.number) != found.number {
            return;
        }
        self.spool.set_aside(&[Removal::of(found)], self.opened);
        self.new_aside += 1;
        match self.aside.last_entry() {
            Some(mut run) if *run.get() + 1 == found.number => *run.get_mut() = found.number,
            _ => drop(self.aside.insert(found.number, found.number)),
        }
    }

    /// The number itself, or the one after the run of records aside that it is in.
    pub(super) fn past_aside(&self, number: u64) -> u64 {
        let run = self.aside.range(..=number).next_back();
        run.map_or(number, |(_, last)| number.max(last + 1))
    }

    /// One line for all that were set aside one after the other.
    pub(super) fn log_aside(&mut self) {
        if self.new_aside == 0 {
            return;
        }
        let in_flight = self.in_flight.front().map(|first| first.received_at);
        let next = || self.read.front()?.stored.as_ref().ok();
        self.spool
            .oldest(in_flight.or_else(|| Some(next()?.received_at)));
        if let Some(repeated) = self.asides.came(Instant::now()) {
            tracing::error!(
                records = std::mem::take(&mut self.new_aside),
                aside = self.spool.aside(),
                repeated,
                "spooled records are older than ingest.spool.max_age and wait aside, and all others go on: \
                 decide, then set ingest.spool.drain_older, or run sluice-ingest drain --older where no \
                 process uses the folder"
            );
        }
    }
}
