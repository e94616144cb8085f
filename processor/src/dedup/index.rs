//! What a partition remembers: the events of the last windows, in generations by append time.
//!
//! The keys of all generations lie in one table, so that a lookup is one look however many generations
//! there are. A generation is forgotten whole, at once; the room of its keys is given back behind that,
//! a shard of the table at a time. A key costs 12 of its bytes, 4 bytes of time and the table's slack: 19
//! to 39 bytes.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;
use sluice_schemas::dedup_log::Entry;
use sluice_schemas::identity::Fingerprint;

use super::memory::{Memory, Share};
use super::shards::Shards;

/// How many generations the longest window spans. More of them free memory in smaller steps, and cost
/// a pass over all keys each.
const GENERATIONS_A_WINDOW: u32 = 4;

/// How many keys may be swept for each that is inserted, after a generation was forgotten. A batch of
/// 5,000 then pays for some 300,000, which is some milliseconds, and the sweep is over when a
/// sixty-fourth as many keys as there are have come.
const SWEPT_AN_INSERT: usize = 64;

/// How far the clocks of two brokers may be apart, in seconds: append times of one partition may go
/// back by that much when its leader changes, so a generation is kept for that long beyond its window.
pub const CLOCK_SLACK_SECONDS: u32 = 15 * 60;

/// A fingerprint is the head of a SHA-256, so its first 8 bytes are as good as any hash of it.
#[derive(Default)]
pub struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        let length = bytes.len().min(8);
        first[..length].copy_from_slice(&bytes[..length]);
        self.0 = u64::from_le_bytes(first);
    }

    // The length that arrays put before their bytes says nothing.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type Table<V> = HashMap<Fingerprint, V, BuildHasherDefault<FingerprintHasher>>;

/// The last event of an entity that is deduplicated by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Events are numbered as they come, which is the order of their raw offsets.
    order: u64,
    /// The event's fingerprint.
    pub identity: Fingerprint,
    /// The fingerprint of (source, MAC).
    pub mac: Fingerprint,
    /// The raw record's append time, whole seconds since 1970.
    pub appended: u32,
}

#[derive(Debug, Default)]
struct Generation {
    /// Append time divided by the generation's length.
    number: u32,
    /// How many keys have their latest event in it.
    keys: usize,
    entities: Table<Last>,
}

/// The dedup index of one raw partition.
#[derive(Debug)]
pub struct DedupIndex {
    window: u32,
    length: u32,
    newest: u32,
    order: u64,
    /// The append time at which the oldest generation begins: what is older is forgotten.
    keep_from: u32,
    keys: Shards,
    // Newest number first.
    generations: VecDeque<Generation>,
    sweep: Sweep,
    /// What it takes of the process's account, as last counted.
    share: Share,
}

/// How far the room of forgotten keys is given back.
#[derive(Debug)]
struct Sweep {
    /// The next shard to look at; after the last there is nothing to give back.
    shard: usize,
    /// How many keys may be looked at now.
    credit: usize,
}

impl DedupIndex {
    /// An empty index for windows up to `window` seconds.
    pub fn new(window: u32) -> Self {
        Self {
            window,
            length: (window / GENERATIONS_A_WINDOW).max(1),
            newest: 0,
            order: 0,
            keep_from: 0,
            keys: Shards::default(),
            generations: VecDeque::new(),
            sweep: Sweep {
                shard: Shards::count(),
                credit: 0,
            },
            share: Share::default(),
        }
    }

    /// An empty index whose bytes count in an account, whenever [`DedupIndex::count`] is called.
    pub fn counted(window: u32, memory: &Arc<Memory>) -> Self {
        let mut index = Self::new(window);
        index.share = Share::of(memory);
        index.count();
        index
    }

    /// Counts its bytes in the account. Not part of an insert: it looks at each shard.
    pub fn count(&mut self) {
        self.share.set(self.bytes());
    }

    /// The latest append time at which this identity made an event, if that is still remembered.
    #[inline]
    pub fn event(&self, identity: &Fingerprint) -> Option<u32> {
        let appended = self.keys.get(identity)?;
        // The sweep may not have come to it yet.
        (appended >= self.keep_from).then_some(appended)
    }

    /// The entity's last event: the one with the highest raw offset, whatever its append time.
    pub fn last(&self, entity: &Fingerprint) -> Option<Last> {
        self.generations
            .iter()
            .filter_map(|generation| generation.entities.get(entity).copied())
            .max_by_key(|last| last.order)
    }

    /// Learns an event that is committed. Events come in the order of their raw offsets.
    pub fn insert(&mut self, entry: &Entry) {
        let order = self.order;
        self.order += 1;
        if entry.appended > self.newest {
            self.newest = entry.appended;
            self.forget();
        }
        self.sweep(SWEPT_AN_INSERT);
        if entry.appended < self.keep_from {
            // Older than any record that may still ask for it.
            return;
        }
        if let Some(sequence) = &entry.sequence {
            let last = Last {
                order,
                identity: entry.identity,
                mac: sequence.mac,
                appended: entry.appended,
            };
            let generation = self.generation(entry.appended);
            generation.entities.insert(sequence.entity, last);
        }
        match self.keys.insert(&entry.identity, entry.appended) {
            None => self.generation(entry.appended).keys += 1,
            Some(before) => self.moved(before, entry.appended),
        }
    }

    /// How many identities are remembered.
    pub fn len(&self) -> usize {
        self.generations
            .iter()
            .map(|generation| generation.keys)
            .sum()
    }

    /// How many bytes of the process the index takes: what its tables have allocated, room for further keys
    /// included, and what they had before they grew last, which the allocator keeps.
    pub fn bytes(&self) -> usize {
        let generations = self.generations.iter();
        let entities = generations.map(|generation| generation.entities.allocation_size());
        let tables = self.keys.bytes() + entities.sum::<usize>();
        size_of::<Self>() + tables + tables / 2
    }

    /// The append time of the newest event, or that of [`DedupIndex::age`].
    pub const fn newest(&self) -> u32 {
        self.newest
    }

    /// No record that was appended before this time, brokers' clocks apart, will ask any more: generations
    /// that none can ask for are forgotten although no event comes. The room of `swept` keys is looked at, to
    /// be given back, if it has to be.
    pub fn age(&mut self, appended: u32, swept: usize) {
        if appended > self.newest {
            self.newest = appended;
            self.forget();
        }
        self.sweep(swept);
        self.count();
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the generations that no record can ask for any more, each at once and whole.
    fn forget(&mut self) {
        let oldest_needed = self
            .newest
            .saturating_sub(self.window)
            .saturating_sub(CLOCK_SLACK_SECONDS);
        let oldest = oldest_needed / self.length;
        self.keep_from = oldest * self.length;
        while let Some(generation) = self.generations.back()
            && generation.number < oldest
        {
            self.generations.pop_back();
            // Starts again if it was not over: one pass takes all that is forgotten by then.
            self.sweep.shard = 0;
        }
    }

    /// Gives back the room of forgotten keys, in steps of so many keys.
    fn sweep(&mut self, keys: usize) {
        if self.sweep.shard == Shards::count() {
            return;
        }
        self.sweep.credit += keys;
        while self.sweep.shard < Shards::count() {
            let price = self.keys.shard_len(self.sweep.shard);
            let Some(left) = self.sweep.credit.checked_sub(price) else {
                return;
            };
            self.sweep.credit = left;
            self.keys.sweep(self.sweep.shard, self.keep_from);
            self.sweep.shard += 1;
        }
        self.sweep.credit = 0;
    }

    /// A key that was there has an event at another time; the later one of both counts.
    fn moved(&mut self, before: u32, appended: u32) {
        if appended <= before {
            return;
        }
        // One that is forgotten, and not swept yet, is counted nowhere.
        if before >= self.keep_from {
            self.generation(before).keys -= 1;
        }
        self.generation(appended).keys += 1;
    }

    /// The generation of an append time that is not forgotten; it is made if it is not there.
    fn generation(&mut self, appended: u32) -> &mut Generation {
        let number = appended / self.length;
        let of_it = |generation: &Generation| generation.number == number;
        // It is the newest one nearly always.
        if self.generations.front().is_some_and(of_it) {
            return &mut self.generations[0];
        }
        let at = self
            .generations
            .iter()
            .position(|generation| generation.number <= number)
            .unwrap_or(self.generations.len());
        if !self.generations.get(at).is_some_and(of_it) {
            let generation = Generation {
                number,
                ..Generation::default()
            };
            self.generations.insert(at, generation);
        }
        &mut self.generations[at]
    }
}

/// What a batch adds to one partition's dedup index, before it is committed.
#[derive(Debug, Default)]
pub struct BatchOverlay {
    entries: Vec<Entry>,
    keys: Table<usize>,
    entities: Table<usize>,
}

impl BatchOverlay {
    /// The append time at which this identity made an event in this batch.
    pub fn event(&self, identity: &Fingerprint) -> Option<u32> {
        self.keys.get(identity).map(|at| self.entries[*at].appended)
    }

    /// The entity's last event in this batch: identity, MAC and append time.
    pub fn last(&self, entity: &Fingerprint) -> Option<(Fingerprint, Fingerprint, u32)> {
        let entry = &self.entries[*self.entities.get(entity)?];
        let mac = entry.sequence.as_ref()?.mac;
        Some((entry.identity, mac, entry.appended))
    }

    /// Adds an event.
    pub fn insert(&mut self, entry: Entry) {
        let at = self.entries.len();
        self.keys.insert(entry.identity, at);
        if let Some(sequence) = &entry.sequence {
            self.entities.insert(sequence.entity, at);
        }
        self.entries.push(entry);
    }

    /// The events in the order of their raw offsets.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
