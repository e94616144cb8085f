//! The table of identities: for each the append time of its latest event.
//!
//! It is cut into shards by bits of the key. One shard grows at a time, and one at a time gives back the room
//! of forgotten keys: so no batch waits for a pass over all keys.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use sluice_schemas::identity::Fingerprint;

/// At 20 million keys a shard has some 20,000, which grow or are swept in about a millisecond.
const SHARDS: usize = 1024;

/// A key and its time, in 16 bytes: the key is the first 96 bits of a fingerprint. Of 20 million keys and a
/// new one, two are the same with a chance of 2.5 in 10^22; a sender who wants to meet another one's key must
/// try 2^96 bodies.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The head of a SHA-256 needs no other hash.
    head: u64,
    tail: u32,
    appended: u32,
}

impl Slot {
    #[inline]
    fn new(fingerprint: &Fingerprint, appended: u32) -> Self {
        let bits = u128::from_le_bytes(*fingerprint);
        Self {
            head: (bits & 0xffff_ffff_ffff_ffff) as u64,
            tail: (bits >> 64 & 0xffff_ffff) as u32,
            appended,
        }
    }

    /// The shard of the key: by bits that its place in the shard does not depend on.
    #[inline]
    fn shard(&self) -> usize {
        (self.tail >> (u32::BITS - SHARDS.ilog2())) as usize
    }

    #[inline]
    fn has_key_of(&self, other: &Self) -> bool {
        self.head == other.head && self.tail == other.tail
    }
}

/// The table.
#[derive(Debug)]
pub struct Shards(Vec<HashTable<Slot>>);

impl Default for Shards {
    fn default() -> Self {
        Self(vec![HashTable::new(); SHARDS])
    }
}

impl Shards {
    /// How many shards there are.
    pub const fn count() -> usize {
        SHARDS
    }

    /// The latest time of a key.
    #[inline]
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<u32> {
        let wanted = Slot::new(fingerprint, 0);
        let found = self.0[wanted.shard()].find(wanted.head, |slot| slot.has_key_of(&wanted));
        found.map(|slot| slot.appended)
    }

    /// Adds a key, or raises its time; returns the time that it had.
    pub fn insert(&mut self, fingerprint: &Fingerprint, appended: u32) -> Option<u32> {
        let new = Slot::new(fingerprint, appended);
        let table = &mut self.0[new.shard()];
        match table.entry(new.head, |slot| slot.has_key_of(&new), |slot| slot.head) {
            Entry::Occupied(mut known) => {
                let time = &mut known.get_mut().appended;
                let before = *time;
                *time = before.max(appended);
                Some(before)
            }
            Entry::Vacant(vacant) => {
                vacant.insert(new);
                None
            }
        }
    }

    /// How many keys a shard holds, forgotten ones too.
    pub fn shard_len(&self, shard: usize) -> usize {
        self.0[shard].len()
    }

    /// Removes what was appended before `keep_from` from a shard, and gives its room back.
    pub fn sweep(&mut self, shard: usize, keep_from: u32) {
        let table = &mut self.0[shard];
        table.retain(|slot| slot.appended >= keep_from);
        // With room for an eighth more, so that it does not grow at once.
        table.shrink_to(table.len() + table.len() / 8, |slot| slot.head);
    }

    /// How many bytes the tables take.
    pub fn bytes(&self) -> usize {
        let tables = self.0.capacity() * size_of::<HashTable<Slot>>();
        tables + self.0.iter().map(HashTable::allocation_size).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Keys as they are, heads of SHA-256.
    fn key(n: u64) -> Fingerprint {
        let mut key = [0; 16];
        let digest = sluice_schemas::identity::sha256(&n.to_be_bytes());
        key.copy_from_slice(&digest[..16]);
        key
    }

    #[test]
    fn a_key_costs_at_most_48_bytes_at_any_time_of_growing() {
        let mut shards = Shards::default();
        for n in 0..400_000u64 {
            shards.insert(&key(n), 1);
            if n >= 200_000 && n % 1_000 == 0 {
                let known = usize::try_from(n).expect("small") + 1;
                // A shard that grows has its old and its new table for a moment.
                let peak = shards.bytes() + shards.bytes() / SHARDS * 3;
                assert!(peak <= known * 48, "{peak} bytes for {known} keys");
            }
        }
        assert!((0..400_000).all(|n| shards.get(&key(n)) == Some(1)));
        assert!((400_000..500_000).all(|n| shards.get(&key(n)).is_none()));
    }

    proptest! {
        /// Few distinct keys, in several shards; some differ in their head alone, some in their tail alone.
        #[test]
        fn it_is_a_map_of_latest_times(
            steps in proptest::collection::vec((0u8..2, 0u8..8, 0u8..40, 0u32..100), 0..400),
            keep_from in 0u32..100,
        ) {
            let key = |shard, tail, head| {
                let mut key = [0; 16];
                (key[11], key[8], key[7]) = (shard, tail, head);
                key
            };
            let mut shards = Shards::default();
            let mut model: HashMap<Fingerprint, u32> = HashMap::new();
            for (shard, tail, head, appended) in steps {
                let key = key(shard, tail, head);
                prop_assert_eq!(shards.insert(&key, appended), model.get(&key).copied());
                let latest = model.entry(key).or_default();
                *latest = appended.max(*latest);
            }
            for swept in [false, true] {
                if swept {
                    (0..SHARDS).for_each(|shard| shards.sweep(shard, keep_from));
                    model.retain(|_, appended| *appended >= keep_from);
                }
                for key in (0..2).flat_map(|s| (0..8).flat_map(move |t| (0..40).map(move |h| key(s, t, h)))) {
                    prop_assert_eq!(shards.get(&key), model.get(&key).copied());
                }
            }
            let left: usize = (0..SHARDS).map(|shard| shards.shard_len(shard)).sum();
            prop_assert_eq!(left, model.len());
        }
    }
}
