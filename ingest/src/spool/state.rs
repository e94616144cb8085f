//! What is in the spool, which way requests go by that, and whether there is room.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sluice_schemas::service::settings;
use tokio::sync::{Notify, watch};

use super::store::{Store, Totals, cost};
use super::{Gone, NoRoom, Way, is_older};
use crate::metrics::SpoolMetrics;

/// How long after a full disk another record is tried, where nothing was taken out meanwhile.
const DISK_FULL: Duration = Duration::from_secs(5);

/// What the spool, its writer and its drain share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: settings::Spool,
    pub(super) drain_older: AtomicBool,
    pub(super) state: Mutex<State>,
    pub(super) way: watch::Sender<Way>,
    pub(super) store: RwLock<Option<Arc<Store>>>,
    pub(super) metrics: SpoolMetrics,
    /// There is something new to drain.
    pub(super) more: Notify,
}

/// What is in the spool, and whether more may come.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Records here or on their way here, without those that Kafka has.
    pub(super) records: u64,
    /// What they take of the disk.
    pub(super) bytes: u64,
    /// Of those that Kafka has, how many the store still has, and what they take there.
    pub(super) leaving: (u64, u64),
    /// Records set aside.
    pub(super) refused: u64,
    /// When the oldest came, microseconds since 1970.
    pub(super) oldest: Option<i64>,
    /// Why the store does not work.
    pub(super) broken: Option<String>,
    /// It will not work again in this process: a failed write or fsync leaves in the system's cache what
    /// is not on the disk, and a store opened on that would promise what it cannot keep.
    pub(super) given_up: bool,
    /// When the disk had no room for a group, if nothing was taken out since.
    pub(super) disk_full: Option<Instant>,
    /// Counts how often the store was opened: what was read of one before may be wrong.
    pub(super) opened: u64,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the way and the gauges up to the state. Under its lock, so that both change as one.
    pub(super) fn show(&self, state: &State) {
        let way = *self.way.borrow();
        let next = match (state.records, way) {
            (0, _) => Way::Broker,
            (_, Way::Broker) => Way::Spool,
            (_, other) => other,
        };
        if next != way {
            self.way.send_replace(next);
        }
        self.metrics
            .holds(state.records, state.bytes, state.refused, state.oldest);
    }

    /// Kafka has these, or does not want them.
    pub(super) fn forget(&self, gone: &[Gone], oldest: Option<i64>) {
        let refused = gone.iter().filter(|gone| gone.refused.is_some()).count() as u64;
        let mut state = self.state();
        state.refused += refused;
        let (count, bytes) = (gone.len() as u64, cost_of(gone));
        state.forget(count, bytes);
        state.leaving = (state.leaving.0 + count, state.leaving.1 + bytes);
        if state.records > 0 && oldest.is_some() {
            state.oldest = oldest;
        }
        self.show(&state);
        drop(state);
        self.metrics.drained(gone.len() as u64 - refused);
    }

    /// The store does not have these any more either.
    pub(super) fn left(&self, gone: &[Gone]) {
        let mut state = self.state();
        state.leaving.0 = state.leaving.0.saturating_sub(gone.len() as u64);
        state.leaving.1 = state.leaving.1.saturating_sub(cost_of(gone));
    }

    pub(super) fn store(&self) -> Option<Arc<Store>> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.clone()
    }

    pub(super) fn use_store(&self, store: Option<Arc<Store>>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
    }
}

impl State {
    /// Takes over what an opened store has, but for what Kafka has too.
    pub(super) fn recover(&mut self, totals: &Totals, oldest: Option<i64>) {
        self.records = totals.records.saturating_sub(self.leaving.0);
        self.bytes = totals.bytes.saturating_sub(self.leaving.1);
        self.refused = totals.refused;
        self.oldest = oldest;
        self.broken = None;
        self.opened += 1;
    }

    pub(super) fn forget(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.records == 0 {
            self.oldest = None;
        }
    }

    pub(super) fn room(
        &self,
        settings: &settings::Spool,
        size: u64,
        now: i64,
    ) -> Result<(), NoRoom> {
        if self.broken.is_some() {
            return Err(NoRoom::Broken);
        }
        let disk_full = self.disk_full.is_some_and(|at| at.elapsed() < DISK_FULL);
        if disk_full || self.bytes + cost(size) > settings.max_bytes {
            return Err(NoRoom::Full);
        }
        if self
            .oldest
            .is_some_and(|oldest| is_older(oldest, now, settings.max_age))
        {
            return Err(NoRoom::TooOld);
        }
        Ok(())
    }
}

/// What records take of the disk.
fn cost_of(gone: &[Gone]) -> u64 {
    gone.iter().map(|gone| cost(gone.size)).sum()
}
