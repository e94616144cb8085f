//! Requests on disk while Kafka is away: fsynced before their 200, and brought to Kafka in their order.
//!
//! As long as the spool holds a record, new requests go behind it ([`WritePath::Spool`]), so that the order
//! in which requests were acknowledged is that of the raw topic. One thread writes ([`writer`]), many
//! requests to one fsync; [`drain`] reads. Inherited records lie in [`files`] of their
//! own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_schemas::settings::{self, Settings};
use tokio::sync::oneshot;

use crate::byte_budget::Permit;
use crate::metrics::SpoolMetrics;
use crate::publish::Record;

pub mod record;

pub mod key;

pub mod store;

mod types;

mod disk;

mod files;

pub mod salvage;

mod held;

mod quarantine;

mod aside;

mod state;

mod writer;

pub mod drain;

use files::{Content, Folder};
use record::Stored;
use state::{Shared, State};
use store::StoreError;
use types::Command;
pub use types::{
    Halt, INVALID, NoRoom, NotDurable, Released, Removal, SpooledRecord, TOO_LARGE, WritePath,
    is_older,
};

/// At most so many records may be left for new requests to wait until they are on raw, instead of lining up
/// behind them: what Kafka takes in some hundredths of a second.
const HOLD_BELOW: u64 = 256;

/// How long new requests may wait for those.
const HOLD_TIMEOUT: Duration = Duration::from_millis(250);

/// How long until an inherited file that cannot be read is tried again.
const SCAN_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The spool. Dropped, it writes what it has been given and closes.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    commands: Mutex<Option<Sender<Command>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    // Dropped, it ends the thread that scans inherited files.
    closing: Mutex<Option<Sender<()>>>,
}

impl Spool {
    /// Opens the spool and recovers what is in it. Large inherited files are scanned on a
    /// thread of its own, while new requests go behind them.
    ///
    /// # Errors
    /// Where the folder cannot be used: it is not there and cannot be made, another process has it, or
    /// the disk fails.
    pub fn open(settings: &settings::Spool, metrics: SpoolMetrics) -> Result<Self, StoreError> {
        let spool = Self::begin(settings, metrics)?;
        let (closing, closed) = channel();
        let shared = Arc::clone(&spool.shared);
        spool.spawn("spool-scan", move || scan_inherited(&shared, &closed))?;
        *spool.closing.lock() = Some(closing);
        Ok(spool)
    }

    /// The same, but inherited files are scanned before this returns.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_whole(
        settings: &settings::Spool,
        metrics: SpoolMetrics,
    ) -> Result<Self, StoreError> {
        let spool = Self::begin(settings, metrics)?;
        while spool.shared.scan_next()? {}
        Ok(spool)
    }

    fn begin(settings: &settings::Spool, metrics: SpoolMetrics) -> Result<Self, StoreError> {
        let folder = Folder::take(settings, metrics.clone())?;
        let (live, store, unscanned) = folder.begin()?;
        let content = Content::of(&store)?;
        content.log();
        let mut state = State {
            unscanned,
            ..State::default()
        };
        state.add(&content);
        let shared = Arc::new(Shared::new(settings, folder, live, state, metrics));
        shared.use_store(live, Arc::new(store));
        let (commands, received) = channel();
        let spool = Self {
            shared: Arc::clone(&shared),
            commands: Mutex::new(Some(commands)),
            threads: Mutex::default(),
            closing: Mutex::default(),
        };
        let writer = writer::Writer::new(shared, received, content.totals.next);
        spool.spawn("spool", || writer.run())?;
        Ok(spool)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Where a request is written; waits while requests are held, for twice the time that the drain gives
    /// the last records at most: the drain itself may wait for brokers that do not answer.
    pub async fn write_path(&self) -> WritePath {
        let path = *self.shared.write_path.borrow();
        if path != WritePath::Hold {
            return path;
        }
        let mut changes = self.shared.write_path.subscribe();
        let decided = changes.wait_for(|path| *path != WritePath::Hold);
        // The sender lives as long as this does.
        if let Ok(Ok(path)) = tokio::time::timeout(2 * HOLD_TIMEOUT, decided).await {
            return *path;
        }
        // For all that wait.
        self.admit_new();
        WritePath::Spool
    }

    /// Writes a record of a source. The reply comes when it is on the disk.
    pub fn put(
        &self,
        record: &Record<'_>,
        source: &str,
        received_at: i64,
        permit: Option<Arc<Permit>>,
    ) -> Result<oneshot::Receiver<Result<(), NotDurable>>, NoRoom> {
        let bytes = record::encode(record, source, received_at);
        let size = bytes.len() as u64;
        let (reply, replied) = oneshot::channel();
        let command = Command::Put {
            bytes,
            reply,
            _permit: permit,
        };
        let mut state = self.shared.state();
        state.room(&self.shared.settings, size)?;
        let shares = self.shared.shares.load();
        let own = state.here.of(source) + state.aside.of(source);
        shares.allow(source, size, own, state.used())?;
        // Under the lock: the order of numbers is that of these calls.
        if !self.send(command) {
            return Err(NoRoom::Broken);
        }
        state.here.add_record(source, size);
        state.oldest.get_or_insert(received_at);
        self.shared.show(&state);
        Ok(replied)
    }

    fn send(&self, command: Command) -> bool {
        let commands = self.commands.lock();
        commands
            .as_ref()
            .is_some_and(|commands| commands.send(command).is_ok())
    }

    /// Whether a record of the usual size would be taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.shared.state();
        if let Some(unreadable) = &state.unreadable {
            return Err(format!("the spool cannot be read: {unreadable}"));
        }
        let why = match state.room(&self.shared.settings, 64 * 1024) {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        Err(match &state.broken {
            Some(broken) => format!("{why}: {broken}"),
            None => why.to_string(),
        })
    }

    /// Whether its disk failed, so that it takes nothing more until the next start.
    pub fn given_up(&self) -> bool {
        self.shared.state().given_up
    }

    /// How many records are here to be drained. A file that is not read yet counts as one.
    pub fn records(&self) -> u64 {
        self.shared.state().held()
    }

    /// How many records are in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.shared.state().quarantined
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &settings::Spool {
        &self.shared.settings
    }

    /// The shares of the sources, and how much is reserved for those with a guard. Until it is called, there
    /// are no bounds by source.
    pub fn share(&self, settings: &Settings) {
        self.shared.share(settings);
    }

    /// What holds the drain, if anything does.
    pub fn halted(&self, halt: Option<Halt>) {
        self.shared.metrics.halted(halt);
    }

    /// Waits until there may be something new to drain.
    pub async fn more(&self) {
        self.shared.more.notified().await;
    }

    /// Counts how often the store was opened: after a change, reading begins again at the oldest record.
    pub fn opened(&self) -> u64 {
        self.shared.state().opened
    }

    /// The durable records from a number on, in order: as many as come to `bytes`, one at least where
    /// there is one. Blocks for the disk.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn read(
        &self,
        from: u64,
        records: usize,
        bytes: usize,
    ) -> Result<Vec<SpooledRecord>, StoreError> {
        let mut found = Vec::new();
        for file in self.shared.to_drain(from) {
            let Some(store) = self.shared.open(file)? else {
                break;
            };
            found = store.read(from, records, bytes)?;
            if !found.is_empty() {
                break;
            }
            if file != self.shared.live && store.totals()?.records == 0 {
                // The writer then sees that there is nothing in it.
                let (done, _) = oneshot::channel();
                let removals = Vec::new();
                self.send(Command::Remove { removals, done });
            }
        }
        let found = found.into_iter().map(|(number, bytes)| SpooledRecord {
            number,
            size: bytes.len() as u64,
            source: record::source_of(&bytes).unwrap_or_default().into(),
            stored: Stored::decode(number, &bytes),
        });
        Ok(found.collect())
    }

    /// Kafka has these records, or refuses them for good: they are removed, and the reply comes when that is
    /// durable. `oldest` is the time of receipt of the oldest that is left, if known.
    pub fn remove(&self, removals: Vec<Removal>, oldest: Option<i64>) -> oneshot::Receiver<()> {
        let (done, waits) = oneshot::channel();
        // Counted now: requests that wait for the last records need not wait for the disk too.
        self.shared.forget(&removals, oldest);
        self.send(Command::Remove { removals, done });
        waits
    }

    /// When few records are left, lets new requests wait until those are on raw: under steady traffic
    /// there would always be some. Whether they wait now.
    pub fn hold_new(&self) -> bool {
        let state = self.shared.state();
        let few = state.broken.is_none()
            && state.unscanned.is_empty()
            && (state.inherited.is_empty() || state.aside.records > 0)
            && (1..=HOLD_BELOW).contains(&state.here.records);
        if few && *self.shared.write_path.borrow() == WritePath::Spool {
            self.shared.write_path.send_replace(WritePath::Hold);
        }
        few
    }

    /// Writes new requests to the spool again: the last records did not reach Kafka in time.
    pub fn admit_new(&self) {
        let state = self.shared.state();
        if *self.shared.write_path.borrow() == WritePath::Hold {
            let path = if state.held() == 0 {
                WritePath::Broker
            } else {
                WritePath::Spool
            };
            self.shared.write_path.send_replace(path);
        }
    }

    /// Writes what it has been given and closes the store. Blocks.
    pub fn close(&self) {
        drop(self.commands.lock().take());
        drop(self.closing.lock().take());
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the spool panicked: report this");
            }
        }
    }
}

/// Scans all inherited files, until that is done or the spool is closed.
fn scan_inherited(shared: &Shared, closed: &Receiver<()>) {
    loop {
        let pause = match shared.scan_next() {
            Ok(true) => Duration::ZERO,
            Ok(false) => return,
            Err(error) if error.is_in_use() || error.is_disk_full() => {
                tracing::warn!(%error, "an inherited spool file cannot be read yet; the next attempt follows in 5 s");
                SCAN_RETRY_DELAY
            }
            // Opening writes too, and a failed write is not tried again.
            Err(error) => {
                shared.metrics.failed();
                tracing::error!(
                    %error,
                    "an inherited spool file cannot be read and this process is not ready: check its disk and restart"
                );
                shared.state().unreadable = Some(error.to_string());
                return;
            }
        };
        if closed.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
