//! What can be saved of a damaged store: records are looked for by their mark, each proved by its check.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::free;
use super::record::{self, MARK, Stored};
use super::store::{Batch, Store, StoreError};
use super::types::is_older;
use crate::clock;

/// How much of the file is looked through at once, in bytes.
const WINDOW: usize = 16 << 20;

/// How far windows overlap, in bytes: over the longest record there is.
const OVERLAP: usize = 8 << 20;

/// Records written to the new store at once.
const GROUP: usize = 200;

/// Where whole records lie, by their numbers: offset and length.
type Located = BTreeMap<u64, (u64, usize)>;

/// What was saved, and where the rest lies.
#[derive(Debug)]
pub struct Saved {
    /// Records in the new store.
    pub records: u64,
    /// The damaged file under its new name.
    pub left: PathBuf,
}

/// Makes a new store of what is found whole in the damaged one, which stays next to it for the operator. The
/// first record in it gets the number `first`.
///
/// A record that was removed long ago may still lie in the file, and comes again as a duplicate; records
/// older than `max_age` do not.
///
/// # Errors
/// Where the file cannot be read or the new store cannot be written. Nothing is lost by that: the
/// damaged file keeps its name until the new one is whole.
pub fn salvage(damaged: &Path, first: u64, max_age: Duration) -> Result<Saved, StoreError> {
    let unusable = |error| StoreError::Unusable(damaged.to_owned(), error);
    let now = clock::now();
    let file = File::open(damaged).map_err(unusable)?;
    let found = find(&file, now, max_age).map_err(unusable)?;
    let bytes: usize = found.values().map(|(_, length)| length).sum();
    // In pages of powers of two. A disk that does not report it is tried.
    if free(damaged).is_some_and(|free| free < 2 * bytes as u64) {
        return Err(unusable(io::ErrorKind::StorageFull.into()));
    }
    let left = damaged.with_extension(format!("damaged-{}.redb", now / 1_000_000));
    rebuild(damaged, &file, &found, first)
        .and_then(|()| std::fs::hard_link(damaged, &left).map_err(unusable))
        .and_then(|()| Store::name_new(damaged))
        .inspect_err(|_| Store::remove_new(damaged))?;
    Ok(Saved {
        records: found.len() as u64,
        left,
    })
}

/// The new store, still without its name.
fn rebuild(damaged: &Path, file: &File, found: &Located, first: u64) -> Result<(), StoreError> {
    let store = Store::make_new(damaged)?;
    let mut puts = Vec::new();
    for (next, (at, length)) in (first..).zip(found.values()) {
        let mut bytes = vec![0; *length];
        file.read_exact_at(&mut bytes, *at)
            .map_err(|error| StoreError::Unusable(damaged.to_owned(), error))?;
        record::seal(next, &mut bytes);
        puts.push((next, bytes));
        if puts.len() == GROUP {
            write(&store, &mut puts)?;
        }
    }
    write(&store, &mut puts)
}

fn write(store: &Store, puts: &mut Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
    store.commit(&Batch {
        puts,
        ..Batch::default()
    })?;
    puts.clear();
    Ok(())
}

/// Looks through the file.
fn find(file: &File, now: i64, max_age: Duration) -> io::Result<Located> {
    let length = file.metadata()?.len();
    let finder = memchr::memmem::Finder::new(MARK);
    let mut found = BTreeMap::new();
    let mut window = vec![0; WINDOW];
    let mut start = 0;
    while start < length {
        let here = usize::try_from(length - start)
            .unwrap_or(WINDOW)
            .min(WINDOW);
        let bytes = &mut window[..here];
        file.read_exact_at(bytes, start)?;
        for at in finder.find_iter(bytes) {
            if let Some((number, stored, size)) = Stored::find(&bytes[at..])
                && !is_older(stored.received_at, now, max_age)
            {
                found.insert(number, (start + at as u64, size));
            }
        }
        start += (WINDOW - OVERLAP) as u64;
    }
    Ok(found)
}
