//! The one thread that writes: it commits all waiting records as one group, with fsync, before any reply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::files::{self, Content};
use super::held::Held;
use super::record;
use super::state::Shared;
use super::store::{Batch, Store, StoreError};
use super::types::{Command, NotDurable, Released, Removal};

mod release;

/// The largest group, in bytes: records that come meanwhile are in the next one.
const GROUP_BYTES: usize = 8 << 20;

/// How often a store whose disk was full is opened again.
const REOPEN_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Records in quarantine that are moved from another file at once.
const REFUSED: usize = 16;

/// What stays free on the disk, in bytes: removing records needs room too.
const RESERVE: u64 = 2 << 20;

/// What an empty store may take of the disk before that is given back, in bytes.
const COMPACT_FROM: u64 = 16 << 20;

type Release = (Released, oneshot::Sender<Result<u64, String>>);

type Reply = oneshot::Sender<Result<(), NotDurable>>;

pub struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    /// The number of the next record.
    next: u64,
    /// Removals of a group that failed: the next group applies them.
    owed: Vec<Removal>,
    /// When the store was last tried, if it does not work.
    failed: Option<Instant>,
    /// The files that were open then: their records may be in flight.
    open: BTreeSet<u64>,
}

/// What is written at once.
#[derive(Default)]
struct Group {
    puts: Vec<(Vec<u8>, Reply)>,
    bytes: usize,
    removals: Vec<Removal>,
    done: Vec<oneshot::Sender<()>>,
    releases: Vec<Release>,
}

impl Group {
    fn add(&mut self, command: Command) {
        match command {
            Command::Put { bytes, reply, .. } => {
                self.bytes += bytes.len();
                self.puts.push((bytes, reply));
            }
            Command::Release { released, done } => self.releases.push((released, done)),
            Command::Remove { removals, done } => {
                self.removals.extend(removals);
                self.done.push(done);
            }
        }
    }
}

impl Writer {
    /// A writer whose next record has this number, if the file has had any.
    pub fn new(shared: Arc<Shared>, commands: Receiver<Command>, next: u64) -> Self {
        Self {
            next: next.max(files::first(shared.live)),
            shared,
            commands,
            owed: Vec::new(),
            failed: None,
            open: BTreeSet::new(),
        }
    }

    /// Writes until the spool is closed.
    pub fn run(mut self) {
        loop {
            let first = if self.failed.is_some() {
                self.commands.recv_timeout(REOPEN_RETRY_DELAY)
            } else {
                self.commands.recv().map_err(RecvTimeoutError::from)
            };
            // Before anything is counted: an opened store is counted as it is found.
            if !self.shared.state().given_up
                && self
                    .failed
                    .is_some_and(|at| at.elapsed() >= REOPEN_RETRY_DELAY)
            {
                self.reopen();
            }
            let mut group = Group::default();
            match first {
                Ok(command) => group.add(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while group.bytes < GROUP_BYTES
                && let Ok(command) = self.commands.try_recv()
            {
                group.add(command);
            }
            let releases = std::mem::take(&mut group.releases);
            self.write(group);
            for (released, done) in releases {
                let _ = done.send(self.on_release(released));
            }
            if let Err(error) = self.remove_drained_files().and_then(|()| self.compact()) {
                self.fail(&error);
            }
        }
        self.shared.close_stores();
    }

    /// Removes the files before this process's in which there is nothing to drain any more.
    fn remove_drained_files(&self) -> Result<(), StoreError> {
        let Some(live) = self.shared.store(self.shared.live) else {
            return Ok(());
        };
        let files: Vec<u64> = self.shared.state().inherited.keys().copied().collect();
        for file in files {
            let Some(store) = self.shared.store(file) else {
                continue;
            };
            // One whose records wait aside does not keep the others.
            if store.totals()?.records > 0 || !self.take_over_quarantined(&store, &live)? {
                continue;
            }
            // First, so that no reader opens it again.
            self.shared.state().inherited.remove(&file);
            self.shared.close_store(file);
            self.shared.folder.remove(file);
            self.shared.more.notify_one();
        }
        Ok(())
    }

    /// Moves the quarantine of one store to another; whether there was room for that.
    fn take_over_quarantined(&self, from: &Store, to: &Store) -> Result<bool, StoreError> {
        let mut next = 0;
        loop {
            let quarantined = from.quarantined(next, REFUSED)?;
            let Some((last, ..)) = quarantined.last() else {
                return Ok(true);
            };
            next = last + 1;
            let bytes: usize = quarantined.iter().map(|(_, record, _)| record.len()).sum();
            if !self.has_room(bytes as u64) {
                return Ok(false);
            }
            to.commit(&Batch {
                quarantined: &quarantined,
                ..Batch::default()
            })?;
        }
    }

    /// Gives the disk back what an empty spool does not need.
    fn compact(&self) -> Result<(), StoreError> {
        let (empty, full) = {
            let state = self.shared.state();
            let empty = state.held() + state.aside.records == 0;
            (empty, state.disk_full.is_some())
        };
        let live = self.shared.live;
        let Some(store) = self.shared.store(live).filter(|_| empty) else {
            return Ok(());
        };
        if !full && store.on_disk() < COMPACT_FROM {
            return Ok(());
        }
        self.shared.close_store(live);
        // Where a reader still uses the store, the next call compacts it.
        let store = match Arc::try_unwrap(store) {
            Ok(mut store) => {
                store.compact()?;
                Arc::new(store)
            }
            Err(store) => store,
        };
        self.shared.use_store(live, store);
        self.shared.state().disk_full = None;
        Ok(())
    }

    fn write(&mut self, mut group: Group) {
        self.owed.extend(group.removals);
        let store = self.shared.store(self.shared.live);
        let Some(store) = store.filter(|_| self.failed.is_none()) else {
            self.lose(group.puts);
            return;
        };
        if !group.puts.is_empty() && !self.has_room(group.bytes as u64) {
            self.shared.state().disk_full = Some(Instant::now());
            self.lose(std::mem::take(&mut group.puts));
        }
        if group.puts.is_empty() && self.owed.is_empty() {
            return;
        }
        let (mut puts, mut replies) = (Vec::new(), Vec::new());
        let mut next = self.next;
        for (mut bytes, reply) in group.puts {
            record::seal(next, self.shared.folder.key(), &mut bytes);
            puts.push((next, bytes));
            replies.push(reply);
            next += 1;
        }
        let since = Instant::now();
        match self.commit(&store, &puts) {
            Ok(()) => {
                self.next = next;
                self.shared.removed(&self.owed);
                self.owed.clear();
                self.shared.metrics.committed(puts.len(), since.elapsed());
                for reply in replies {
                    // The receiver may be gone; the record is here all the same.
                    let _ = reply.send(Ok(()));
                }
                for done in group.done {
                    let _ = done.send(());
                }
                if !puts.is_empty() {
                    self.shared.more.notify_one();
                }
            }
            Err(error) => {
                drop(store);
                self.fail(&error);
                let puts = puts.into_iter().map(|(_, bytes)| bytes).zip(replies);
                self.lose(puts.collect());
            }
        }
    }

    /// Writes new records, and removes from each file what is owed.
    fn commit(&self, store: &Store, puts: &[(u64, Vec<u8>)]) -> Result<(), StoreError> {
        let mut owed = by_file(&self.owed);
        let removals = owed.remove(&self.shared.live).unwrap_or_default();
        for (file, removals) in owed {
            // A file is removed only when there is nothing left in it.
            if let Some(left) = self.shared.store(file) {
                left.commit(&Batch {
                    removals: &removals,
                    ..Batch::default()
                })?;
            }
        }
        if puts.is_empty() && removals.is_empty() {
            return Ok(());
        }
        store.commit(&Batch {
            puts,
            removals: &removals,
            ..Batch::default()
        })
    }

    /// Whether the disk takes a group, with some room left.
    fn has_room(&self, bytes: u64) -> bool {
        self.shared.folder.has_room(2 * bytes + RESERVE)
    }

    /// Reports that these records were not made durable.
    fn lose(&self, puts: Vec<(Vec<u8>, Reply)>) {
        let mut lost = Held::default();
        for (bytes, _) in &puts {
            let source = record::source_of(bytes).unwrap_or_default();
            lost.add_record(&source, bytes.len() as u64);
        }
        let mut state = self.shared.state();
        state.forget(&lost);
        self.shared.show(&state);
        drop(state);
        for (_, reply) in puts {
            let _ = reply.send(Err(NotDurable));
        }
    }

    /// A write or an fsync failed. Its records are not durable, whatever a second try returns.
    /// After a full disk the store is opened again, and what it then finds is what there is; after
    /// any other failure the content of the disk is unknown, and the spool takes nothing more.
    pub(super) fn fail(&mut self, error: &StoreError) {
        self.open.extend(self.shared.close_stores());
        self.shared.metrics.failed();
        let given_up = !error.is_disk_full();
        if given_up {
            tracing::error!(
                %error,
                "the spool cannot be written and takes no records until the next start: check its disk and restart"
            );
        } else {
            tracing::error!(%error, "the spool's disk is full; requests for the spool get 503 until there is room: make room");
        }
        let mut state = self.shared.state();
        state.broken = Some(error.to_string());
        state.given_up = given_up;
        state.disk_full = error.is_disk_full().then(Instant::now);
        drop(state);
        self.failed = Some(Instant::now());
    }

    fn reopen(&mut self) {
        match self.read_again() {
            Ok(()) => {
                tracing::info!("the spool works again");
                self.failed = None;
                self.open.clear();
            }
            Err(error) => {
                tracing::warn!(%error, "the spool cannot be opened again; the next attempt follows in 1 s");
                self.open.extend(self.shared.close_stores());
                let mut state = self.shared.state();
                state.broken = Some(error.to_string());
                // Only a start may rebuild a damaged file: here some of its records are in flight.
                state.given_up |= error.is_damage();
                self.failed = Some(Instant::now());
            }
        }
    }

    /// Reads all files again whose content is known, and counts what they hold.
    fn read_again(&mut self) -> Result<(), StoreError> {
        let live = self.shared.live;
        let mut owed = by_file(&self.owed);
        let mut files: Vec<u64> = self.shared.state().inherited.keys().copied().collect();
        files.push(live);
        let mut found = BTreeMap::new();
        for file in files {
            let store = self.shared.folder.reopen(file)?;
            // Kafka has these, and the store does not know it yet.
            if let Some(removals) = owed.remove(&file) {
                store.commit(&Batch {
                    removals: &removals,
                    ..Batch::default()
                })?;
            }
            found.insert(file, Content::of(&store)?);
            if file == live || self.open.contains(&file) {
                self.shared.use_store(file, Arc::new(store));
            }
        }
        self.shared.removed(&self.owed);
        self.owed.clear();
        let content = found.remove(&live).unwrap_or_default();
        self.next = content.totals.next.max(files::first(live));
        let mut state = self.shared.state();
        // What became known meanwhile was counted then.
        state.inherited.extend(found);
        state.recover(&content);
        self.shared.show(&state);
        drop(state);
        self.shared.more.notify_one();
        Ok(())
    }
}

/// The removals of each file.
fn by_file(removals: &[Removal]) -> BTreeMap<u64, Vec<Removal>> {
    let mut sorted: BTreeMap<u64, Vec<Removal>> = BTreeMap::new();
    for removal in removals {
        let file = sorted.entry(files::of(removal.number)).or_default();
        file.push(removal.clone());
    }
    sorted
}
