//! What records take of the disk, by their source, and how much each source may take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_schemas::settings::{self, Settings};

use super::types::{NoRoom, Removal};
use crate::byte_budget::share_of;

/// The part of `max_bytes` that sources with a guard alone may take, where there are others: a quarter.
const RESERVED: u64 = 4;

/// Values up to this size share a page of 4 KiB.
const SMALL: u64 = 1_900;

/// What a record of so many bytes takes of the disk, at most: small ones share pages with a quarter of
/// slack, each larger one has a run of pages whose number is a power of two.
pub fn cost(size: u64) -> u64 {
    if size <= SMALL {
        size + size / 4 + 64
    } else {
        (size + 128).next_power_of_two()
    }
}

/// A number of records, and what they take of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    pub records: u64,
    pub bytes: u64,
    /// The bytes by source. A source that cannot be read of its record has no name.
    sources: BTreeMap<Arc<str>, u64>,
}

impl Held {
    /// Counts a record of a source, which has so many bytes.
    pub fn add_record(&mut self, source: &str, size: u64) {
        self.records += 1;
        self.bytes += cost(size);
        self.add_bytes(source, cost(size));
    }

    fn add_bytes(&mut self, source: &str, bytes: u64) {
        match self.sources.get_mut(source) {
            Some(there) => *there += bytes,
            None => drop(self.sources.insert(source.into(), bytes)),
        }
    }

    /// Counts removed records.
    pub fn add_removed(&mut self, removals: &[Removal]) {
        for removal in removals {
            self.add_record(&removal.source, removal.size);
        }
    }

    /// Counts what another has too.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        for (source, bytes) in &other.sources {
            self.add_bytes(source, *bytes);
        }
    }

    /// Takes off what another has.
    pub fn subtract(&mut self, other: &Self) {
        self.records = self.records.saturating_sub(other.records);
        self.bytes = self.bytes.saturating_sub(other.bytes);
        for (source, bytes) in &other.sources {
            if let Some(there) = self.sources.get_mut(source) {
                *there = there.saturating_sub(*bytes);
            }
        }
        self.sources.retain(|_, bytes| *bytes > 0);
    }

    /// What the records of a source take.
    pub fn of(&self, source: &str) -> u64 {
        self.sources.get(source).copied().unwrap_or(0)
    }
}

/// How much each source may take. By default there is one source, which may take all.
#[derive(Debug, Default)]
pub struct Shares {
    /// What one may take.
    of_one: Option<u64>,
    /// What all may take together before a source without a guard takes no more.
    unguarded: Option<u64>,
    guarded: BTreeSet<String>,
}

impl Shares {
    /// By the sources that are answered. `max_bytes` is that with which the spool was opened.
    pub fn new(settings: &Settings, spool: &settings::Spool, max_bytes: u64) -> Self {
        let sources = || settings.sources.values().filter(|source| source.enabled);
        let guarded: BTreeSet<String> = sources()
            .filter(|source| source.is_guarded())
            .map(|source| source.name.clone())
            .collect();
        let count = sources().count();
        let mixed = !guarded.is_empty() && guarded.len() < count;
        Self {
            of_one: (count > 1).then(|| share_of(max_bytes, spool.source_share)),
            unguarded: mixed.then_some(max_bytes - max_bytes / RESERVED),
            guarded,
        }
    }

    /// Whether a source may put a record of this size. `own` is what its records take, `used` what all
    /// take. Where a source has
    /// nothing here, one record fits whatever its share.
    pub fn allow(&self, source: &str, size: u64, own: u64, used: u64) -> Result<(), NoRoom> {
        let over = |used: u64, bound: Option<u64>| {
            used > 0 && bound.is_some_and(|bound| used + cost(size) > bound)
        };
        if over(own, self.of_one) || !self.guarded.contains(source) && over(used, self.unguarded) {
            return Err(NoRoom::Share);
        }
        Ok(())
    }
}
