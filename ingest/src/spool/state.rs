//! What is in the spool, where requests are written because of that, and whether there is room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard, RwLock};
use sluice_schemas::settings::{self, Settings};
use tokio::sync::{Notify, watch};

use super::files::{self, Content, Folder};
use super::held::{Held, Shares, cost};
use super::store::{Store, StoreError};
use super::types::{NoRoom, Removal, WritePath};
use crate::metrics::SpoolMetrics;

/// How long after a full disk another record is tried, where nothing was removed meanwhile.
const DISK_FULL_RETRY_DELAY: Duration = Duration::from_secs(5);

/// What the spool, its writer and its drain share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: settings::Spool,
    pub(super) drain_older: AtomicBool,
    pub(super) shares: ArcSwap<Shares>,
    pub(super) state: Mutex<State>,
    pub(super) write_path: watch::Sender<WritePath>,
    pub(super) folder: Folder,
    /// The file that takes new records.
    pub(super) live: u64,
    /// The files that are open: that one, and one that is drained before it.
    pub(super) stores: RwLock<BTreeMap<u64, Arc<Store>>>,
    pub(super) metrics: SpoolMetrics,
    /// There is something new to drain.
    pub(super) more: Notify,
}

/// What is in the spool, and whether more may come.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Inherited files that are not scanned yet, with the bytes they take of the disk.
    pub(super) unscanned: BTreeMap<u64, u64>,
    /// Inherited files that are scanned: what they held then.
    pub(super) inherited: BTreeMap<u64, Content>,
    /// Why an unscanned file cannot be read before the next start, and with it nothing that came later.
    pub(super) unreadable: Option<String>,
    /// Records here or on their way here, without those that Kafka has and those of unscanned files.
    pub(super) here: Held,
    /// Older than `max_age`: they stay where they are, and nothing waits behind them.
    pub(super) aside: Held,
    /// Of those that Kafka has, what the store still has.
    pub(super) removing: Held,
    /// Records in quarantine.
    pub(super) quarantined: u64,
    /// When the oldest came, microseconds since 1970.
    pub(super) oldest: Option<i64>,
    /// Why the store does not work.
    pub(super) broken: Option<String>,
    /// It will not work again in this process: a failed write or fsync leaves in the system's cache what
    /// is not on the disk, and a store opened on that would promise what it cannot keep.
    pub(super) given_up: bool,
    /// When the disk had no room for a group, if nothing was removed since.
    pub(super) disk_full: Option<Instant>,
    /// Counts how often the store was opened: what was read before may be outdated.
    pub(super) opened: u64,
}

impl Shared {
    pub(super) fn new(
        settings: &settings::Spool,
        folder: Folder,
        live: u64,
        state: State,
        metrics: SpoolMetrics,
    ) -> Self {
        let shared = Self {
            settings: settings.clone(),
            drain_older: AtomicBool::new(settings.drain_older),
            shares: ArcSwap::default(),
            state: Mutex::default(),
            write_path: watch::Sender::new(WritePath::Broker),
            folder,
            live,
            stores: RwLock::default(),
            metrics,
            more: Notify::new(),
        };
        shared.show(&state);
        *shared.state() = state;
        shared.more.notify_one();
        shared
    }

    /// The shares of changed settings.
    pub(super) fn share(&self, settings: &Settings) {
        // The spool keeps the bounds with which it was opened, but for this share.
        let spool = settings.ingest.spool.as_ref().unwrap_or(&self.settings);
        let shares = Shares::new(settings, spool, self.settings.max_bytes);
        self.shares.store(Arc::new(shares));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Brings the write path and the gauges up to the state. Under its lock, so that both change as one.
    pub(super) fn show(&self, state: &State) {
        let path = *self.write_path.borrow();
        let next = match (state.held(), path) {
            (0, _) => WritePath::Broker,
            (_, WritePath::Broker) => WritePath::Spool,
            (_, other) => other,
        };
        if next != path {
            self.write_path.send_replace(next);
        }
        self.metrics.older(state.aside.records);
        self.metrics
            .holds(state.held(), state.used(), state.quarantined, state.oldest);
    }

    /// Kafka has these records, or refuses them for good.
    pub(super) fn forget(&self, removals: &[Removal], oldest: Option<i64>) {
        let quarantined = removals
            .iter()
            .filter(|removal| removal.quarantine.is_some())
            .count() as u64;
        let mut state = self.state();
        state.quarantined += quarantined;
        let mut removed = Held::default();
        removed.add_removed(removals);
        state.forget(&removed);
        state.removing.add(&removed);
        if state.here.records > 0 && oldest.is_some() {
            state.oldest = oldest;
        }
        self.show(&state);
        drop(state);
        self.metrics.drained(removals.len() as u64 - quarantined);
    }

    /// These records are too old to be sent without the operator's word. `opened` is what the reader saw:
    /// what it read before a change may be counted again.
    pub(super) fn set_aside(&self, records: &[Removal], opened: u64) {
        let mut old = Held::default();
        old.add_removed(records);
        let mut state = self.state();
        if state.opened != opened {
            return;
        }
        state.forget(&old);
        state.aside.add(&old);
        self.show(&state);
    }

    /// What was set aside is to be sent after all, in its order.
    pub(super) fn take_back(&self) {
        let mut state = self.state();
        state.take_back();
        self.show(&state);
        drop(state);
        self.more.notify_one();
    }

    /// These records are removed from the store too.
    pub(super) fn removed(&self, removals: &[Removal]) {
        let mut removed = Held::default();
        removed.add_removed(removals);
        self.state().removing.subtract(&removed);
    }

    pub(super) fn store(&self, file: u64) -> Option<Arc<Store>> {
        let stores = self.stores.read();
        stores.get(&file).cloned()
    }

    pub(super) fn use_store(&self, file: u64, store: Arc<Store>) {
        let mut stores = self.stores.write();
        stores.insert(file, store);
    }

    pub(super) fn close_store(&self, file: u64) -> Option<Arc<Store>> {
        let mut stores = self.stores.write();
        stores.remove(&file)
    }

    /// Closes all; which were open.
    pub(super) fn close_stores(&self) -> Vec<u64> {
        let open = {
            let mut stores = self.stores.write();
            std::mem::take(&mut *stores)
        };
        // Closing writes, and no caller must wait for that.
        open.into_keys().collect()
    }

    /// The files to drain, from the one of this record on, oldest first: as far as they are
    /// scanned.
    pub(super) fn to_drain(&self, from: u64) -> Vec<u64> {
        let state = self.state();
        if state.broken.is_some() {
            return Vec::new();
        }
        let unscanned = state.unscanned.keys().next().copied().unwrap_or(u64::MAX);
        let inherited = state.inherited.range(files::of(from)..).map(|file| *file.0);
        let all = inherited.chain([self.live]);
        all.take_while(|file| *file < unscanned).collect()
    }

    /// A file, open. `None`: it cannot be used any more.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn open(&self, file: u64) -> Result<Option<Arc<Store>>, StoreError> {
        let opened = self.state().opened;
        if let Some(store) = self.store(file) {
            return Ok(Some(store));
        }
        if !self.state().inherited.contains_key(&file) {
            return Ok(None);
        }
        let store = match self.folder.reopen(file) {
            Err(error) if error.is_gone() => {
                self.file_vanished(file);
                return Ok(None);
            }
            store => Arc::new(store?),
        };
        let state = self.state();
        let usable = state.inherited.contains_key(&file) && state.broken.is_none();
        if !usable || state.opened != opened {
            return Ok(None);
        }
        self.use_store(file, Arc::clone(&store));
        drop(state);
        Ok(Some(store))
    }

    /// A file was removed by another process.
    fn file_vanished(&self, file: u64) {
        tracing::error!(
            file,
            "a spool file vanished; its records are lost unless Kafka has them"
        );
        let mut state = self.state();
        state.unscanned.remove(&file);
        // It may have had some of these; the drain finds those that are left.
        state.take_back();
        if let Some(content) = state.inherited.remove(&file) {
            state.forget(&content.held);
            state.quarantined = state.quarantined.saturating_sub(content.totals.quarantined);
        }
        self.show(&state);
    }

    /// Scans the oldest inherited file that is not scanned yet; whether there was one.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn scan_next(&self) -> Result<bool, StoreError> {
        let first = self.state().unscanned.keys().next().copied();
        let Some(file) = first else {
            return Ok(false);
        };
        let content = match self.folder.scan(file) {
            Err(error) if error.is_gone() => {
                self.file_vanished(file);
                return Ok(true);
            }
            store => Content::of(&store?)?,
        };
        let mut state = self.state();
        state.unscanned.remove(&file);
        state.add(&content);
        content.log();
        state.inherited.insert(file, content);
        self.show(&state);
        drop(state);
        self.more.notify_one();
        Ok(true)
    }
}

impl State {
    /// How many records there are. A file that is not read yet counts as one.
    pub(super) fn held(&self) -> u64 {
        self.here.records + self.unscanned.len() as u64
    }

    /// What they take of the disk.
    pub(super) fn used(&self) -> u64 {
        self.here.bytes + self.aside.bytes + self.unscanned.values().sum::<u64>()
    }

    /// Counts what a file holds.
    pub(super) fn add(&mut self, content: &Content) {
        self.here.add(&content.held);
        self.quarantined += content.totals.quarantined;
        self.oldest = match (self.oldest, content.oldest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// Takes over what this process's file and those before it hold, but for what Kafka has too.
    pub(super) fn recover(&mut self, live: &Content) {
        (self.here, self.quarantined) = (Held::default(), 0);
        self.aside = Held::default();
        self.oldest = None;
        let inherited: Vec<Content> = self.inherited.values().cloned().collect();
        for content in inherited.iter().chain([live]) {
            self.add(content);
        }
        let removing = self.removing.clone();
        self.forget(&removing);
        self.broken = None;
        self.opened += 1;
    }

    /// Reading begins again, and what is still too old is set aside once more.
    fn take_back(&mut self) {
        let aside = std::mem::take(&mut self.aside);
        if aside.records > 0 {
            self.here.add(&aside);
            self.opened += 1;
        }
    }

    pub(super) fn forget(&mut self, gone: &Held) {
        self.here.subtract(gone);
        if self.here.records == 0 {
            self.oldest = None;
        }
    }

    pub(super) fn room(&self, settings: &settings::Spool, size: u64) -> Result<(), NoRoom> {
        if self.broken.is_some() {
            return Err(NoRoom::Broken);
        }
        let disk_full = self
            .disk_full
            .is_some_and(|at| at.elapsed() < DISK_FULL_RETRY_DELAY);
        if disk_full || self.used() + cost(size) > settings.max_bytes {
            return Err(NoRoom::Full);
        }
        Ok(())
    }
}
