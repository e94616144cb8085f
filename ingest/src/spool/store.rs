//! The store under the spool: one file of redb, whose every commit is fsynced.
//!
//! redb, and neither fjall nor its own one-fsync commit: those two were seen to open a damaged file
//! without the last records and without an error (figures in docs/measurements.md).

use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, TableDefinition,
};
use thiserror::Error;

use super::held::{Held, cost};
use super::record;
use super::types::Removal;

/// The records by their numbers.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// The quarantine: the record, and why. Its name on disk is of version 1.
const QUARANTINE: TableDefinition<'_, u64, (&[u8], &str)> = TableDefinition::new("refused");

/// What must be right whatever records are there, by [`NEXT`] and the others.
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");

/// The number of the next record: none is given twice.
const NEXT: &str = "next";

/// What all records take of the disk.
const BYTES: &str = "bytes";

/// The extension of a file until it is whole.
const NEW: &str = "new";

/// What redb keeps of the file in memory, in bytes.
const CACHE: usize = 4 << 20;

/// Why the store does not do what it should.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder or the file cannot be used.
    #[error("{0}: {1}")]
    Unusable(PathBuf, io::Error),
    /// Another process has it open.
    #[error("another process has it open")]
    InUse,
    /// The store or the disk under it failed.
    #[error("{0}")]
    Failed(#[from] redb::Error),
    /// There is no thread for it.
    #[error("there is no thread for it: {0}")]
    NoThread(#[from] io::Error),
}

impl StoreError {
    /// Whether another process has it: that may end soon.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse)
    }

    /// Whether the file was read, and is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Failed(redb::Error::Corrupted(_)) => true,
            Self::Failed(redb::Error::Io(error)) => matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }

    /// Whether there was no room on the disk.
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.kind(), Some(StorageFull | QuotaExceeded))
    }

    /// Whether the file is not there.
    pub fn is_gone(&self) -> bool {
        self.kind() == Some(io::ErrorKind::NotFound)
    }

    fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Unusable(_, error) | Self::Failed(redb::Error::Io(error)) => Some(error.kind()),
            _ => None,
        }
    }
}

/// Every kind of redb's errors is one to us.
macro_rules! failed {
    ($($kind:ty),*) => {
        $(impl From<$kind> for StoreError {
            fn from(error: $kind) -> Self {
                Self::Failed(error.into())
            }
        })*
    };
}

failed!(
    StorageError,
    redb::TransactionError,
    redb::TableError,
    redb::CommitError,
    redb::SetDurabilityError,
    redb::CompactionError
);

fn opening(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse,
        error => StoreError::Failed(error.into()),
    }
}

/// What is in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records to be brought to Kafka.
    pub records: u64,
    /// What they take of the disk.
    pub bytes: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// The number of the next record.
    pub next: u64,
}

/// What is changed at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch<'a> {
    /// New records under their numbers.
    pub puts: &'a [(u64, Vec<u8>)],
    /// Records to be removed or quarantined.
    pub removals: &'a [Removal],
    /// Numbers of records that leave the quarantine.
    pub released: &'a [u64],
    /// The quarantine of another store.
    pub quarantined: &'a [Quarantined],
}

/// A record in quarantine: its number, itself, and why.
pub type Quarantined = (u64, Vec<u8>, String);

/// An open store.
#[derive(Debug)]
pub struct Store {
    database: Database,
    file: PathBuf,
}

impl Store {
    /// Opens the store in a file, or makes it.
    ///
    /// # Errors
    /// Where that cannot be done, another process has it, or it is damaged.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        let there = file.try_exists();
        if !there.map_err(|error| StoreError::Unusable(file.to_owned(), error))? {
            // Whole before it has its name: an empty file would be taken for a new store.
            let made = Self::make_new(file).map(drop);
            made.and_then(|()| Self::name_new(file)).inspect_err(|_| {
                Self::remove_new(file);
            })?;
        }
        Self::open_there(file)
    }

    /// Opens the store in a file.
    ///
    /// # Errors
    /// As [`Store::open`], and where there is none.
    pub fn open_there(file: &Path) -> Result<Self, StoreError> {
        // The check reads all of it: what is damaged is found now, and not in the middle of the work.
        let database = Database::builder()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .open(file)
            .map_err(opening)?;
        Ok(Self {
            database,
            file: file.to_owned(),
        })
    }

    /// Makes a new store next to the one that has the name, if any.
    pub(super) fn make_new(file: &Path) -> Result<Self, StoreError> {
        let file = file.with_extension(NEW);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Unusable(file, error));
            }
            _ => {}
        }
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create(&file)
            .map_err(opening)?;
        let store = Self { database, file };
        store.commit(&Batch::default())?;
        Ok(store)
    }

    /// Half a store would take room, where it may be room that is lacking.
    pub(super) fn remove_new(file: &Path) {
        let _ = std::fs::remove_file(file.with_extension(NEW));
    }

    /// The new store takes the name, durably.
    pub(super) fn name_new(file: &Path) -> Result<(), StoreError> {
        std::fs::rename(file.with_extension(NEW), file)
            .and_then(|()| match file.parent() {
                Some(dir) => std::fs::File::open(dir)?.sync_all(),
                None => Ok(()),
            })
            .map_err(|error| StoreError::Unusable(file.to_owned(), error))
    }

    /// Bytes that the file takes of the disk.
    pub fn on_disk(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.file).map_or(0, |file| file.blocks() * 512)
    }

    /// Gives back to the disk what is no longer needed.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn compact(&mut self) -> Result<(), StoreError> {
        self.database.compact()?;
        Ok(())
    }

    /// Changes the store; all of it is durable then, or none is.
    ///
    /// # Errors
    /// Where a write or an fsync failed. The store must not be used any more.
    pub fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Two fsyncs: what the second one names is whole, so that damage found later is damage, and not
        // a write that was never finished.
        transaction.set_two_phase_commit(true);
        {
            let mut records = transaction.open_table(RECORDS)?;
            let mut quarantined = transaction.open_table(QUARANTINE)?;
            let mut totals = transaction.open_table(TOTALS)?;
            let mut bytes = totals.get(BYTES)?.map_or(0, |bytes| bytes.value());
            for (number, record) in batch.puts {
                records.insert(number, record.as_slice())?;
                bytes += cost(record.len() as u64);
            }
            for removal in batch.removals {
                let Some(record) = records.remove(removal.number)? else {
                    // A group that failed may have been written all the same.
                    continue;
                };
                bytes = bytes.saturating_sub(cost(record.value().len() as u64));
                if let Some(why) = &removal.quarantine {
                    quarantined.insert(removal.number, (record.value(), why.as_str()))?;
                }
            }
            for number in batch.released {
                quarantined.remove(number)?;
            }
            for (number, record, why) in batch.quarantined {
                quarantined.insert(number, (record.as_slice(), why.as_str()))?;
            }
            totals.insert(BYTES, bytes)?;
            let put = batch.puts.last().map(|(last, _)| *last);
            // Also past what salvage quarantined, so that no number is given twice.
            let last = put.max(batch.quarantined.last().map(|(last, ..)| *last));
            let next = totals.get(NEXT)?.map_or(0, |next| next.value());
            if let Some(last) = last.filter(|last| *last >= next) {
                totals.insert(NEXT, last + 1)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// What is in the store.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        let transaction = self.database.begin_read()?;
        let totals = transaction.open_table(TOTALS)?;
        let total = |name: &str| -> Result<u64, StorageError> {
            Ok(totals.get(name)?.map_or(0, |total| total.value()))
        };
        Ok(Totals {
            records: transaction.open_table(RECORDS)?.len()?,
            bytes: total(BYTES)?,
            quarantined: transaction.open_table(QUARANTINE)?.len()?,
            next: total(NEXT)?,
        })
    }

    /// The records by their sources. Reads all of them.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn held(&self) -> Result<Held, StoreError> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(RECORDS)?;
        let mut held = Held::default();
        for entry in table.iter()? {
            let (_, stored) = entry?;
            let bytes = stored.value();
            let source = record::source_of(bytes).unwrap_or_default();
            held.add_record(&source, bytes.len() as u64);
        }
        Ok(held)
    }

    /// The records from a number on in their order: as many as there may be and come to `bytes`, but one
    /// at least where there is one.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn read(
        &self,
        from: u64,
        records: usize,
        bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(RECORDS)?;
        let mut found = Vec::new();
        let mut left = bytes;
        for entry in table.range(from..)?.take(records) {
            let (number, record) = entry?;
            found.push((number.value(), record.value().to_vec()));
            match left.checked_sub(record.value().len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Ok(found)
    }

    /// The records in quarantine from a number on, `records` at most.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn quarantined(&self, from: u64, records: usize) -> Result<Vec<Quarantined>, StoreError> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(QUARANTINE)?;
        let mut found = Vec::new();
        for entry in table.range(from..)?.take(records) {
            let (number, quarantined) = entry?;
            let (record, why) = quarantined.value();
            found.push((number.value(), record.to_vec(), why.to_owned()));
        }
        Ok(found)
    }
}
