//! What can be saved of a damaged store: records are looked for by their mark, and each must be proved by the
//! folder's key, for a body may have records in it too.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::free;
use super::key::Key;
use super::record;
use super::store::{Batch, Quarantined, Store, StoreError};
use super::types::is_older;
use crate::clock;

pub mod find;

use find::{Bytes, Found, Place, find};

/// Records written to the new store at once.
const GROUP: usize = 200;

/// Their bytes, at most one record more.
const GROUP_BYTES: usize = 8 << 20;

/// Why a record is in quarantine that was found and not proved.
const UNPROVED: &str = "it was found in a damaged file, and spool.key does not prove it";

/// What was saved, and where the rest lies.
#[derive(Debug)]
pub struct Saved {
    /// Records in the new store.
    pub records: u64,
    /// Records in its quarantine, for nothing proves them.
    pub quarantined: u64,
    /// Whole records that are older than `max_age`, and were left.
    pub older: u64,
    /// Claims to be a record that were not looked at.
    pub unchecked: u64,
    /// The damaged file under its new name.
    pub left: PathBuf,
}

/// Makes a new store of what is found whole in the damaged one, which stays next to it for the operator. The
/// first record in it gets the number `first`. What the key does not prove is quarantined.
///
/// A record that was removed long ago may still lie in the file, and comes again as a duplicate; records
/// older than `max_age` do not.
///
/// # Errors
/// Where the file cannot be read or the new store cannot be written. Nothing is lost by that: the
/// damaged file keeps its name until the new one is whole.
pub fn salvage(
    damaged: &Path,
    first: u64,
    key: &Key,
    max_age: Duration,
) -> Result<Saved, StoreError> {
    let unusable = |error| StoreError::Unusable(damaged.to_owned(), error);
    let now = clock::now();
    let file = File::open(damaged).map_err(unusable)?;
    let keeps = |received_at| !is_older(received_at, now, max_age);
    let found = find(&file, key, &keeps).map_err(unusable)?;
    let places = found.proved.values().chain(found.unproved.values());
    let bytes: u64 = places.map(|place| place.length).sum();
    // In pages of powers of two. A disk that does not report it is tried.
    if free(damaged).is_some_and(|free| free < 2 * bytes) {
        return Err(unusable(io::ErrorKind::StorageFull.into()));
    }
    let left = damaged.with_extension(format!("damaged-{}.redb", now / 1_000_000));
    rebuild(damaged, &file, &found, first, key)
        .and_then(|()| std::fs::hard_link(damaged, &left).map_err(unusable))
        .and_then(|()| Store::name_new(damaged))
        .inspect_err(|_| Store::remove_new(damaged))?;
    Ok(Saved {
        records: found.proved.len() as u64,
        quarantined: found.unproved.len() as u64,
        older: found.older,
        unchecked: found.unchecked,
        left,
    })
}

/// The new store, still without its name.
fn rebuild(
    damaged: &Path,
    file: &File,
    found: &Found,
    first: u64,
    key: &Key,
) -> Result<(), StoreError> {
    let unusable = |error| StoreError::Unusable(damaged.to_owned(), error);
    let store = Store::make_new(damaged)?;
    let mut group = Group::default();
    let mut next = first;
    for place in found.proved.values() {
        let mut bytes = read(file, *place).map_err(unusable)?;
        record::seal(next, key, &mut bytes);
        group.bytes += bytes.len();
        group.puts.push((next, bytes));
        next += 1;
        group.write(&store, false)?;
    }
    for place in found.unproved.values() {
        // As it was found, to be looked at.
        let bytes = read(file, *place).map_err(unusable)?;
        group.bytes += bytes.len();
        group.quarantined.push((next, bytes, UNPROVED.to_owned()));
        next += 1;
        group.write(&store, false)?;
    }
    group.write(&store, true)
}

fn read(file: &File, place: Place) -> io::Result<Vec<u8>> {
    let length = usize::try_from(place.length).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, place.at)?;
    Ok(bytes)
}

/// What is written at once.
#[derive(Default)]
struct Group {
    puts: Vec<(u64, Vec<u8>)>,
    quarantined: Vec<Quarantined>,
    bytes: usize,
}

impl Group {
    /// Writes it where it is large enough or the last.
    fn write(&mut self, store: &Store, last: bool) -> Result<(), StoreError> {
        let records = self.puts.len() + self.quarantined.len();
        if records < GROUP && self.bytes < GROUP_BYTES && !last {
            return Ok(());
        }
        store.commit(&Batch {
            puts: &self.puts,
            quarantined: &self.quarantined,
            ..Batch::default()
        })?;
        *self = Self::default();
        Ok(())
    }
}
