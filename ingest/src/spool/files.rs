//! The files of the spool's folder. The newest takes new records; those inherited from earlier processes are
//! drained before it, oldest first.
//!
//! A store is read whole before it is used, which takes the longer the larger it is. So that a start
//! does not keep senders waiting, a large file is left as it is, and a new one takes what comes.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use sluice_schemas::settings;

use super::disk;
use super::held::Held;
use super::key::Key;
use super::record::Stored;
use super::salvage;
use super::store::{Store, StoreError, Totals};
use crate::metrics::SpoolMetrics;

/// What is read within some hundredths of a second, in bytes: a larger file takes no new records.
const REUSE_BELOW_BYTES: u64 = 16 << 20;

/// Records of a file are numbered from this many times the file's own number on, so that a number names
/// the file, and their order is that of the files.
const NUMBERS: u32 = 40;

/// The highest number of a file.
const LAST: u64 = (1 << (u64::BITS - NUMBERS)) - 1;

/// Held as long as a process uses the folder.
const LOCK: &str = "spool.lock";

/// The file that has a record.
pub fn of(record: u64) -> u64 {
    record >> NUMBERS
}

/// The number of a file's first record.
pub fn first(file: u64) -> u64 {
    file << NUMBERS
}

/// Where a file is.
pub fn path(dir: &Path, file: u64) -> PathBuf {
    dir.join(match file {
        0 => "spool.redb".to_owned(),
        file => format!("spool.{file}.redb"),
    })
}

/// The files of a folder, oldest first.
fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        if name == "spool.redb" {
            files.push(0);
        }
        let number = name
            .strip_prefix("spool.")
            .and_then(|name| name.strip_suffix(".redb"))
            .and_then(|number| number.parse().ok())
            .filter(|number| (1..=LAST).contains(number));
        files.extend(number);
    }
    files.sort_unstable();
    Ok(files)
}

/// What an open store holds, and when the oldest of it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    pub totals: Totals,
    /// The records by their sources.
    pub held: Held,
    pub oldest: Option<i64>,
}

impl Content {
    /// What a store holds. Reads all of it once more, as opening it did.
    pub fn of(store: &Store) -> Result<Self, StoreError> {
        let first = store.read(0, 1, 1)?.into_iter().next();
        let first = first.and_then(|(number, bytes)| Stored::decode(number, &bytes).ok());
        Ok(Self {
            totals: store.totals()?,
            held: store.held()?,
            oldest: first.map(|first| first.received_at),
        })
    }

    /// Logs it, unless the store is empty.
    pub fn log(&self) {
        let Totals {
            records,
            bytes,
            quarantined,
            ..
        } = self.totals;
        if records > 0 {
            tracing::info!(records, bytes, quarantined, "the spool holds records");
        }
    }
}

/// A user who may write to the folder could have put a link in the lock's place: it is not followed, and
/// nothing is cut.
fn open_lock(path: &Path) -> io::Result<File> {
    // Nonblocking, so that a pipe in its place does not hang the start.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags.bits().cast_signed())
        .mode(0o600)
        .open(path)
}

/// Shuts the folder to others than owner and group, or logs that it is open. The group is Kubernetes' own: an
/// `fsGroup` may always read and write.
fn shut_to_others(dir: &Path) -> io::Result<()> {
    let found = dir.metadata()?;
    let mode = found.permissions().mode() & 0o7777;
    let shut = mode & !0o007;
    if mode == shut {
        return Ok(());
    }
    let shown = format!("{mode:04o}");
    let own = found.uid() == geteuid().as_raw() && has_a_spool_alone(dir)?;
    if own && std::fs::set_permissions(dir, Permissions::from_mode(shut)).is_ok() {
        tracing::info!(
            dir = %dir.display(),
            mode = shown,
            "the spool's folder was open to other users and is shut to them now"
        );
    } else {
        tracing::warn!(
            mode = shown,
            "the spool's folder is open to other users: chmod o-rwx {}",
            dir.display()
        );
    }
    Ok(())
}

/// Whether nothing in a folder is of others: where root names a folder of the system, that must stay open.
fn has_a_spool_alone(dir: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        if !entry?.file_name().as_encoded_bytes().starts_with(b"spool.") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The folder of a spool, for this process alone.
#[derive(Debug)]
pub struct Folder {
    settings: settings::Spool,
    metrics: SpoolMetrics,
    key: Key,
    // Unlocked when it is closed.
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is not there, for this user alone, and takes it.
    ///
    /// # Errors
    /// Another process has it, or it cannot be used.
    pub fn take(settings: &settings::Spool, metrics: SpoolMetrics) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::Unusable(settings.dir.clone(), error);
        // Its files are bodies of requests, whatever the umask of the process.
        let mut own = DirBuilder::new();
        own.recursive(true).mode(0o700);
        own.create(&settings.dir).map_err(unusable)?;
        shut_to_others(&settings.dir).map_err(unusable)?;
        let lock = open_lock(&settings.dir.join(LOCK)).map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse,
            TryLockError::Error(error) => unusable(error),
        })?;
        let used = !list(&settings.dir).map_err(unusable)?.is_empty();
        let key = Key::of_folder(&settings.dir, used).map_err(unusable)?;
        Ok(Self {
            settings: settings.clone(),
            metrics,
            key,
            _lock: lock,
        })
    }

    /// The key under which records are written.
    pub fn key(&self) -> &Key {
        &self.key
    }

    fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// The number of the file for new records, that file open, and those that were left, with the bytes
    /// they take of the disk.
    ///
    /// # Errors
    /// The folder or the newest file cannot be used.
    pub fn begin(&self) -> Result<(u64, Store, BTreeMap<u64, u64>), StoreError> {
        let unusable = |error| StoreError::Unusable(self.dir().to_owned(), error);
        let mut inherited = BTreeMap::new();
        for file in list(self.dir()).map_err(unusable)? {
            let found = path(self.dir(), file).metadata().map_err(unusable)?;
            inherited.insert(file, found.blocks() * 512);
        }
        let newest = inherited
            .last_key_value()
            .map(|(file, bytes)| (*file, *bytes));
        let Some((newest, bytes)) = newest else {
            return Ok((0, self.open(0)?, inherited));
        };
        if bytes > REUSE_BELOW_BYTES && newest < LAST {
            match self.open(newest + 1) {
                Ok(store) => return Ok((newest + 1, store, inherited)),
                Err(error) if error.is_disk_full() => {}
                Err(error) => return Err(error),
            }
        }
        inherited.remove(&newest);
        Ok((newest, self.open(newest)?, inherited))
    }

    /// Opens a file again that was read before: what it holds has not changed but by us.
    ///
    /// # Errors
    /// It cannot be used; where it is damaged, the next start saves what is whole.
    pub fn reopen(&self, file: u64) -> Result<Store, StoreError> {
        Store::open_there(&path(self.dir(), file))
    }

    /// Opens a file that was left, for the first time. Of a damaged one a new one is made, with what can
    /// be saved: this renumbers records, so no record of this file may be in flight.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn scan(&self, file: u64) -> Result<Store, StoreError> {
        self.saved(file, Store::open_there)
    }

    /// The same for one that may not be there yet.
    fn open(&self, file: u64) -> Result<Store, StoreError> {
        self.saved(file, Store::open)
    }

    fn saved(
        &self,
        file: u64,
        open: fn(&Path) -> Result<Store, StoreError>,
    ) -> Result<Store, StoreError> {
        let path = path(self.dir(), file);
        match open(&path) {
            Err(damage) if damage.is_damage() => {
                self.metrics.failed();
                let max_age = self.settings.max_age;
                let saved = salvage::salvage(&path, first(file), &self.key, max_age)?;
                tracing::error!(
                    error = %damage,
                    records = saved.records,
                    quarantined = saved.quarantined,
                    older = saved.older,
                    unchecked = saved.unchecked,
                    damaged_file = %saved.left.display(),
                    "the spool is damaged; the records that spool.key proves were saved, whole ones that it does not prove are quarantined, and all others are in the damaged file alone: keep it"
                );
                open(&path)
            }
            opened => opened,
        }
    }

    /// Removes a file of which all is elsewhere. One that cannot be removed is found empty by the next
    /// start.
    pub fn remove(&self, file: u64) {
        let path = path(self.dir(), file);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "an empty spool file cannot be removed; the next start removes it");
        }
    }

    /// Whether the disk has so many bytes left. A disk that does not report it is tried.
    pub fn has_room(&self, bytes: u64) -> bool {
        disk::free(self.dir()).is_none_or(|free| free >= bytes)
    }
}
