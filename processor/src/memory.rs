//! What a partition remembers: the events of the last windows, in generations by append time.
//!
//! A generation is freed whole, so forgetting costs nothing a key. A key costs its 16 bytes, 4 bytes
//! of time and the table's slack: 24 to 42 bytes.

#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;
use sluice_schemas::dedup_log::Entry;
use sluice_schemas::identity::Fingerprint;

/// How many generations the longest window spans. More of them free memory in smaller steps and cost
/// a probe each at every lookup.
const GENERATIONS_A_WINDOW: u32 = 4;

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
    keys: Table<u32>,
    entities: Table<Last>,
}

/// The memory of one raw partition.
#[derive(Debug)]
pub struct Memory {
    window: u32,
    length: u32,
    newest: u32,
    order: u64,
    // Newest number first.
    generations: VecDeque<Generation>,
}

impl Memory {
    /// An empty memory for windows up to `window` seconds.
    pub fn new(window: u32) -> Self {
        Self {
            window,
            length: (window / GENERATIONS_A_WINDOW).max(1),
            newest: 0,
            order: 0,
            generations: VecDeque::new(),
        }
    }

    /// The latest append time at which this identity made an event, if that is still remembered.
    pub fn event(&self, identity: &Fingerprint) -> Option<u32> {
        self.generations
            .iter()
            .filter_map(|generation| generation.keys.get(identity).copied())
            .max()
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
        let Some(generation) = self.generation(entry.appended) else {
            return;
        };
        generation.keys.insert(entry.identity, entry.appended);
        if let Some(sequence) = &entry.sequence {
            let last = Last {
                order,
                identity: entry.identity,
                mac: sequence.mac,
                appended: entry.appended,
            };
            generation.entities.insert(sequence.entity, last);
        }
    }

    /// How many identities are remembered.
    pub fn len(&self) -> usize {
        self.generations
            .iter()
            .map(|generation| generation.keys.len())
            .sum()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn keep_from(&self) -> u32 {
        self.newest
            .saturating_sub(self.window)
            .saturating_sub(CLOCK_SLACK_SECONDS)
    }

    fn forget(&mut self) {
        let oldest = self.keep_from() / self.length;
        while self
            .generations
            .back()
            .is_some_and(|generation| generation.number < oldest)
        {
            self.generations.pop_back();
        }
    }

    fn generation(&mut self, appended: u32) -> Option<&mut Generation> {
        let number = appended / self.length;
        if number < self.keep_from() / self.length {
            // Older than any record that may still ask for it.
            return None;
        }
        let at = self
            .generations
            .iter()
            .position(|generation| generation.number <= number)
            .unwrap_or(self.generations.len());
        if self
            .generations
            .get(at)
            .is_none_or(|generation| generation.number != number)
        {
            let generation = Generation {
                number,
                ..Generation::default()
            };
            self.generations.insert(at, generation);
        }
        self.generations.get_mut(at)
    }
}

/// What a batch adds to one partition's memory, before it is committed.
#[derive(Debug, Default)]
pub struct Pending {
    entries: Vec<Entry>,
    keys: Table<usize>,
    entities: Table<usize>,
}

impl Pending {
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
mod tests {
    use sluice_schemas::dedup_log::SequenceEntry;

    use super::*;

    const HOUR: u32 = 3600;

    fn plain(identity: u8, appended: u32) -> Entry {
        Entry {
            identity: [identity; 16],
            appended,
            sequence: None,
        }
    }

    #[test]
    fn what_a_window_may_ask_for_is_there_and_older_generations_are_freed() {
        let mut memory = Memory::new(4 * HOUR);
        let start = 1_000 * HOUR;
        for hour in 0..100u8 {
            memory.insert(&plain(hour, start + u32::from(hour) * HOUR));
            for back in 0..=4.min(hour) {
                assert!(memory.event(&[hour - back; 16]).is_some(), "{hour} {back}");
            }
        }
        assert!(memory.len() <= 7, "{}", memory.len());
        assert_eq!(memory.event(&[50; 16]), None);
    }

    #[test]
    fn append_times_that_go_back_are_kept_and_the_last_event_is_by_offset() {
        let mut memory = Memory::new(4 * HOUR);
        let now = 1_000 * HOUR;
        let entry = |mac: u8, appended| Entry {
            identity: [mac; 16],
            appended,
            sequence: Some(SequenceEntry {
                entity: [9; 16],
                mac: [mac; 16],
            }),
        };
        memory.insert(&entry(1, now));
        // The leader changed, and the new one's clock is ten minutes behind.
        memory.insert(&entry(2, now - 600));
        assert_eq!(memory.last(&[9; 16]).expect("there").mac, [2; 16]);
        assert_eq!(memory.event(&[2; 16]), Some(now - 600));
    }

    #[test]
    fn the_latest_event_of_an_identity_counts() {
        let mut memory = Memory::new(4 * HOUR);
        memory.insert(&plain(1, 1_000 * HOUR));
        memory.insert(&plain(1, 1_005 * HOUR));
        assert_eq!(memory.event(&[1; 16]), Some(1_005 * HOUR));
    }

    #[test]
    fn a_batch_sees_its_own_events_before_they_are_committed() {
        let mut pending = Pending::default();
        pending.insert(plain(1, 5));
        assert_eq!(pending.event(&[1; 16]), Some(5));
        assert_eq!(pending.event(&[2; 16]), None);
        assert_eq!(pending.last(&[1; 16]), None);
        assert_eq!(pending.into_entries(), [plain(1, 5)]);
    }
}
