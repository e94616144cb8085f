//! Requests on disk while Kafka is away: fsynced before their 200, and brought to Kafka in their order.
//!
//! As long as there is anything here, whatever comes goes behind it ([`Way::Spool`]), so that the order
//! in which requests were acknowledged is that of the raw topic. One thread writes ([`writer`]), many
//! requests to one fsync; [`crate::drain`] reads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_schemas::service::settings;
use thiserror::Error;
use tokio::sync::{Notify, oneshot, watch};

use crate::buffers::Permit;
use crate::metrics::SpoolMetrics;
use crate::publish::Record;

pub mod record;

pub mod store;

mod salvage;

mod state;

mod writer;

use record::{RecordError, Stored};
use state::Shared;
use store::{Store, StoreError, cost};

/// How few records may be left for new requests to wait until they are gone, instead of lining up
/// behind them: what Kafka takes in some hundredths of a second.
const FEW: u64 = 256;

/// Which way a request goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To Kafka: there is nothing here.
    Broker,
    /// Here, behind what is here already.
    Spool,
    /// Neither, for a moment: the last records are on their way to Kafka.
    Wait,
}

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoRoom {
    /// `max_bytes` are used, or the disk is full.
    #[error("the spool is full")]
    Full,
    /// The oldest record is older than `max_age`.
    #[error("the oldest record in the spool is older than max_age")]
    TooOld,
    /// The store does not work.
    #[error("the spool does not work")]
    Broken,
}

/// The record may be on disk or not: nobody may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the record was not made durable")]
pub struct NotDurable;

/// A record that needs to be here no longer.
#[derive(Debug)]
pub struct Gone {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub size: u64,
    /// Why it is set aside instead of being forgotten: Kafka does not want it, or it cannot be read.
    pub refused: Option<String>,
}

/// A record as the drain finds it.
#[derive(Debug)]
pub struct Found {
    /// Its number: the order of all.
    pub number: u64,
    /// Its bytes.
    pub size: u64,
    /// What it is.
    pub stored: Result<Stored, RecordError>,
}

enum Command {
    Put {
        bytes: Vec<u8>,
        reply: oneshot::Sender<Result<(), NotDurable>>,
        // The right to hold the bytes, given back once they are written.
        _permit: Option<Arc<Permit>>,
    },
    Remove {
        gone: Vec<Gone>,
        done: oneshot::Sender<()>,
    },
}

/// The spool. Dropped, it writes what it has been given and closes.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    commands: Mutex<Option<Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether what came at `received_at` is older than `age`. Both times are microseconds since 1970.
pub fn is_older(received_at: i64, now: i64, age: Duration) -> bool {
    u128::try_from(now.saturating_sub(received_at)).is_ok_and(|old| old > age.as_micros())
}

impl Spool {
    /// Opens the store and recovers what is in it.
    ///
    /// # Errors
    /// Where the folder cannot be used: it is not there and cannot be made, another process has it, or
    /// the store is damaged.
    pub fn open(settings: &settings::Spool, metrics: SpoolMetrics) -> Result<Self, StoreError> {
        let store = match Store::open(&settings.dir) {
            Err(error) if error.is_damage() => Self::save(settings, &metrics, &error)?,
            opened => opened?,
        };
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            drain_older: AtomicBool::new(settings.drain_older),
            state: Mutex::default(),
            way: watch::Sender::new(Way::Broker),
            store: RwLock::default(),
            metrics,
            more: Notify::new(),
        });
        let (commands, received) = channel();
        let thread = Self::writer(&shared, store, received)?;
        Ok(Self {
            shared,
            commands: Mutex::new(Some(commands)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// A new store of what is whole in a damaged one.
    fn save(
        settings: &settings::Spool,
        metrics: &SpoolMetrics,
        damage: &StoreError,
    ) -> Result<Store, StoreError> {
        metrics.failed();
        let saved = salvage::salvage(&settings.dir, settings.max_age)?;
        tracing::error!(
            %damage,
            records = saved.records,
            left = %saved.left.display(),
            "the spool is damaged: what is whole in it was saved, and what may be lost is in the file that is left"
        );
        Store::open(&settings.dir)
    }

    fn writer(
        shared: &Arc<Shared>,
        store: Store,
        commands: Receiver<Command>,
    ) -> Result<JoinHandle<()>, StoreError> {
        let writer = writer::Writer::new(Arc::clone(shared), commands);
        let writer = writer.begin(store)?;
        std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(|| writer.run())
            .map_err(StoreError::from)
    }

    /// Which way a request goes; waits for the moment in which that is not decided.
    pub async fn way(&self) -> Way {
        let way = *self.shared.way.borrow();
        if way != Way::Wait {
            return way;
        }
        let mut changes = self.shared.way.subscribe();
        // The sender lives as long as this does.
        let decided = changes.wait_for(|way| *way != Way::Wait).await;
        decided.map_or(Way::Spool, |way| *way)
    }

    /// Takes a record. The reply comes when it is on the disk.
    pub fn put(
        &self,
        record: &Record<'_>,
        received_at: i64,
        permit: Option<Arc<Permit>>,
    ) -> Result<oneshot::Receiver<Result<(), NotDurable>>, NoRoom> {
        let bytes = record::encode(record, received_at);
        let size = bytes.len() as u64;
        let (reply, replied) = oneshot::channel();
        let command = Command::Put {
            bytes,
            reply,
            _permit: permit,
        };
        let mut state = self.shared.state();
        state.room(&self.shared.settings, size, received_at)?;
        // Under the lock: the order of numbers is that of these calls.
        if !self.send(command) {
            return Err(NoRoom::Broken);
        }
        state.records += 1;
        state.bytes += cost(size);
        state.oldest.get_or_insert(received_at);
        self.shared.show(&state);
        Ok(replied)
    }

    fn send(&self, command: Command) -> bool {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands
            .as_ref()
            .is_some_and(|commands| commands.send(command).is_ok())
    }

    /// Whether a record of the usual size would be taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self, now: i64) -> Result<(), String> {
        let state = self.shared.state();
        let why = match state.room(&self.shared.settings, 64 * 1024, now) {
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

    /// How many records are here.
    pub fn records(&self) -> u64 {
        self.shared.state().records
    }

    /// How many records are set aside.
    pub fn refused(&self) -> u64 {
        self.shared.state().refused
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &settings::Spool {
        &self.shared.settings
    }

    /// Whether records older than `max_age` are brought to Kafka too.
    pub fn drains_older(&self) -> bool {
        self.shared.drain_older.load(Ordering::Relaxed)
    }

    /// A person's word on what is older than `max_age`.
    pub fn drain_older(&self, drain: bool) {
        self.shared.drain_older.store(drain, Ordering::Relaxed);
    }

    /// Waits until there may be something new to drain.
    pub async fn more(&self) {
        self.shared.more.notified().await;
    }

    /// Counts how often the store was opened: after a change, reading begins anew at the oldest record.
    pub fn opened(&self) -> u64 {
        self.shared.state().opened
    }

    /// The durable records from a number on, in order: as many as come to `bytes`, one at least where
    /// there is one. Blocks for the disk.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn read(&self, from: u64, records: usize, bytes: usize) -> Result<Vec<Found>, StoreError> {
        let Some(store) = self.shared.store() else {
            return Ok(Vec::new());
        };
        let found = store.read(from, records, bytes)?;
        let found = found.into_iter().map(|(number, bytes)| Found {
            number,
            size: bytes.len() as u64,
            stored: Stored::decode(number, &bytes),
        });
        Ok(found.collect())
    }

    /// Kafka has these, or does not want them: they are taken out, and the receiver hears when that is
    /// durable. `oldest` is the time of receipt of the oldest that is left, if known.
    pub fn remove(&self, gone: Vec<Gone>, oldest: Option<i64>) -> oneshot::Receiver<()> {
        let (done, waits) = oneshot::channel();
        // Counted now: who waits for the last records need not wait for the disk too.
        self.shared.forget(&gone, oldest);
        self.send(Command::Remove { gone, done });
        waits
    }

    /// When few records are left, lets new requests wait until those are gone: under steady traffic
    /// there would always be some. Whether they wait now.
    pub fn hold_new(&self) -> bool {
        let state = self.shared.state();
        let few = state.broken.is_none() && (1..=FEW).contains(&state.records);
        if few && *self.shared.way.borrow() == Way::Spool {
            self.shared.way.send_replace(Way::Wait);
        }
        few
    }

    /// Lets new requests go here again: the last records did not reach Kafka in time.
    pub fn admit_new(&self) {
        let state = self.shared.state();
        if *self.shared.way.borrow() == Way::Wait {
            let way = if state.records == 0 {
                Way::Broker
            } else {
                Way::Spool
            };
            self.shared.way.send_replace(way);
        }
    }

    /// Writes what it has been given and closes the store. Blocks.
    pub fn close(&self) {
        let commands = self
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(commands);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the spool's thread did not end well");
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
