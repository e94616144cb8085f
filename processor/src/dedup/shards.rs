//! The table of identities: for each the append time of its latest event.
//!
//! It is cut into shards by bits of the key, and each is a hash table that grows when it is full. They
//! are of different widths, so that they do not grow together: old and new are there at once for one
//! of them alone, and the slack of all stays about the same.
//!
//! What a restore reads is only put down, for some shards side by side together, and becomes part of
//! their hash tables when one of them is first written to: twenty million inserts in random order take
//! long. It is put down in few places, for keys strewn one by one over a thousand miss every cache; it is
//! never moved, for an allocator that gives back what growing vectors leave, and asks for it anew, was
//! seen to have ten times as much memory cleared as there were notes; and it lies in large pieces, whose
//! room serves the tables once they are free.

use sluice_schemas::identity::Fingerprint;

use super::table::{Key, Table};

/// At 20 million keys a shard has some 20,000, which is less than a core's second cache: it grows, or is
/// made of what was put down, in half a millisecond.
const SHARDS: usize = 1024;

/// How many shards side by side have their notes together: at 20 million keys some 160,000 of them,
/// which are looked through in a quarter of a millisecond and indexed in ten.
const SHARDS_A_GROUP: usize = 8;

const GROUPS: usize = SHARDS / SHARDS_A_GROUP;

/// How many notes the first piece of a group has room for; each next one has room for twice as many, up
/// to 1 MiB, which is more than a table of theirs takes.
const PIECE: std::ops::RangeInclusive<usize> = 32..=65_536;

/// How many notes of a group are gathered before they are written to their piece: some lines of the cache
/// at once, for one by one the processor waits for each of a hundred places in memory.
const GATHERED: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
struct Note {
    head: u64,
    tail: u32,
    appended: u32,
}

impl Note {
    fn key(&self) -> Key {
        Key {
            head: self.head,
            tail: self.tail,
        }
    }
}

/// Notes in the order of their coming.
#[derive(Debug, Default)]
struct Notes {
    pieces: Vec<Vec<Note>>,
    gathered: [Note; GATHERED],
    count: usize,
}

impl Notes {
    fn push(&mut self, note: Note) {
        self.gathered[self.count % GATHERED] = note;
        self.count += 1;
        if self.count.is_multiple_of(GATHERED) {
            self.put_down();
        }
    }

    fn put_down(&mut self) {
        let room = match self.pieces.last_mut() {
            Some(piece) if piece.capacity() - piece.len() >= GATHERED => {
                return piece.extend_from_slice(&self.gathered);
            }
            None => *PIECE.start(),
            Some(piece) => (2 * piece.capacity()).min(*PIECE.end()),
        };
        let mut piece = Vec::with_capacity(room);
        piece.extend_from_slice(&self.gathered);
        self.pieces.push(piece);
    }

    fn iter(&self) -> impl Iterator<Item = &Note> {
        let last = &self.gathered[..self.count % GATHERED];
        self.pieces.iter().flatten().chain(last)
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The table.
#[derive(Debug)]
pub struct Keys {
    tables: Vec<Table>,
    /// Put down, in the order of the log, and not in the tables yet. A key may stand here twice.
    notes: Vec<Notes>,
    /// How many of them there are in all.
    noted: usize,
}

impl Default for Keys {
    fn default() -> Self {
        let mut tables = Vec::new();
        tables.resize_with(SHARDS, Table::default);
        let mut notes = Vec::new();
        notes.resize_with(GROUPS, Notes::default);
        Self {
            tables,
            notes,
            noted: 0,
        }
    }
}

/// The shard of a key: by bits that its line does not depend on. Widths grow, so that the last shard has
/// five thirds as many keys as the first. In few steps, for the less a look computes, the more of them
/// wait for their memory side by side.
fn shard_of(key: Key) -> usize {
    /// Of the part of all keys that comes before this one: few enough for its square.
    const BITS: u32 = 28;
    const BITS_BELOW: u32 = 2 * BITS + 2 - SHARDS.ilog2();
    let part = u64::from(key.tail >> (u32::BITS - BITS));
    // Of all keys up to the part p, p (5 - p) / 4 of the shards: their share is 4/5 to 4/3 of the even one.
    let four_times = part * ((5 << BITS) - part);
    (four_times >> BITS_BELOW) as usize
}

impl Keys {
    /// The latest time of a key.
    #[inline]
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<u32> {
        let key = Key::of(fingerprint);
        let shard = shard_of(key);
        if self.noted > 0 {
            return self.get_noted(shard, key);
        }
        self.tables[shard].get(key)
    }

    /// The latest time of a key of which notes may tell. Apart from the look, which is to be short.
    #[cold]
    fn get_noted(&self, shard: usize, key: Key) -> Option<u32> {
        let all = self.notes[shard / SHARDS_A_GROUP].iter();
        let of_key = all.filter(|note| note.key() == key);
        let latest = of_key.map(|note| note.appended).max();
        latest.max(self.tables[shard].get(key))
    }

    /// Puts a key down, to be found by a look at all that was put down in its group.
    pub fn note(&mut self, fingerprint: &Fingerprint, appended: u32) {
        let key = Key::of(fingerprint);
        let Key { head, tail } = key;
        let note = Note {
            head,
            tail,
            appended,
        };
        self.notes[shard_of(key) / SHARDS_A_GROUP].push(note);
        self.noted += 1;
    }

    /// Makes what was put down in a group part of its tables. `again` is told of keys that were there
    /// already: the earlier of both times, which does not count any more.
    pub fn index(&mut self, group: usize, mut again: impl FnMut(u32)) {
        let notes = std::mem::take(&mut self.notes[group]);
        self.noted -= notes.count;
        let first = group * SHARDS_A_GROUP;
        let mut counts = [0; SHARDS_A_GROUP];
        for note in notes.iter() {
            counts[shard_of(note.key()) - first] += 1;
        }
        for (table, count) in self.tables[first..].iter_mut().zip(counts) {
            // With room for an eighth more, so that they do not all grow at the next events.
            table.reserve(count + count / 8);
        }
        for note in notes.iter() {
            let table = &mut self.tables[shard_of(note.key())];
            if let Some(before) = table.put(note.key(), note.appended) {
                again(before.min(note.appended));
            }
        }
    }

    /// The group of a key, where something was put down in it.
    pub fn noted_group(&self, fingerprint: &Fingerprint) -> Option<usize> {
        let group = shard_of(Key::of(fingerprint)) / SHARDS_A_GROUP;
        (!self.notes[group].is_empty()).then_some(group)
    }

    /// How many groups there are to index.
    pub const fn groups() -> usize {
        GROUPS
    }

    /// Adds a key to its table, or raises its time; the time that it had there.
    pub fn insert(&mut self, fingerprint: &Fingerprint, appended: u32) -> Option<u32> {
        let key = Key::of(fingerprint);
        self.tables[shard_of(key)].put(key, appended)
    }

    /// How many shards there are to sweep.
    pub const fn shards() -> usize {
        SHARDS
    }

    /// How many keys a shard's table holds, forgotten ones too.
    pub fn shard_len(&self, shard: usize) -> usize {
        self.tables[shard].len()
    }

    /// Gives back the room of what was appended before `keep_from`. What is only put down stays until it
    /// is indexed.
    pub fn sweep(&mut self, shard: usize, keep_from: u32) {
        self.tables[shard].keep_from(keep_from);
    }

    /// How many bytes the tables take.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(Table::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shards_are_of_different_widths() {
        let key = |part: u64| {
            let mut key = [0; 16];
            let bits = u32::try_from(part * u64::from(u32::MAX) / 1_000_000).expect("a part");
            key[8..12].copy_from_slice(&bits.to_le_bytes());
            key
        };
        let mut widths = vec![0; SHARDS];
        for part in 0..=1_000_000 {
            widths[shard_of(Key::of(&key(part)))] += 1;
        }
        // Of a million parts: four fifths of the even share, and four thirds.
        assert!((771..=791).contains(&widths[0]), "{}", widths[0]);
        assert!((1292..=1312).contains(&widths[SHARDS - 1]));
        assert!(widths.iter().all(|width| (771..=1312).contains(width)));
    }

    #[test]
    fn keys_that_differ_in_the_two_upper_bits_alone_are_in_different_shards() {
        for rest in (0..1 << 30).step_by(99_991) {
            let shard = |upper: u32| {
                let mut key = [0; 16];
                key[8..12].copy_from_slice(&(upper << 30 | rest).to_le_bytes());
                shard_of(Key::of(&key))
            };
            assert!(
                (1..4).all(|upper| shard(upper - 1) < shard(upper)),
                "{rest}"
            );
        }
    }

    /// Keys as they are, heads of SHA-256.
    fn key(n: u64) -> Fingerprint {
        let mut key = [0; 16];
        let digest = sluice_schemas::identity::sha256(&n.to_be_bytes());
        key.copy_from_slice(&digest[..16]);
        key
    }

    #[test]
    fn a_key_costs_at_most_48_bytes_at_any_time_of_growing() {
        let mut keys = Keys::default();
        for n in 0..400_000u64 {
            keys.insert(&key(n), 1);
            if n >= 200_000 && n % 1_000 == 0 {
                let known = usize::try_from(n).expect("small") + 1;
                // Beside them the new one of the shard that grows.
                let peak = keys.bytes() + keys.bytes() / SHARDS * 3;
                assert!(peak <= known * 48, "{peak} bytes for {known} keys");
            }
        }
        assert!((0..400_000).all(|n| keys.get(&key(n)) == Some(1)));
        assert!((400_000..500_000).all(|n| keys.get(&key(n)).is_none()));
    }

    proptest! {
        /// Few distinct keys, in several shards.
        #[test]
        fn it_is_a_map_of_latest_times(
            steps in proptest::collection::vec((0u8..2, 0u8..8, 0u8..40, 0u32..100, 0u8..3), 0..400),
            keep_from in 0u32..100,
        ) {
            let key = |shard, head: u8, last| {
                let mut key = [0; 16];
                (key[11], key[1], key[7]) = (shard, head * 32 + 31, last);
                key
            };
            let mut keys = Keys::default();
            let mut model: HashMap<Fingerprint, u32> = HashMap::new();
            for (shard, head, last, appended, how) in steps {
                let key = key(shard, head, last);
                if how == 0 {
                    keys.note(&key, appended);
                } else {
                    if let Some(group) = keys.noted_group(&key) {
                        keys.index(group, |_| {});
                    }
                    prop_assert_eq!(keys.insert(&key, appended), model.get(&key).copied());
                }
                let latest = model.entry(key).or_default();
                *latest = appended.max(*latest);
            }
            for sweep in [false, true] {
                if sweep {
                    (0..GROUPS).for_each(|group| keys.index(group, |_| {}));
                    (0..SHARDS).for_each(|shard| keys.sweep(shard, keep_from));
                    model.retain(|_, appended| *appended >= keep_from);
                }
                for (shard, head, last) in (0..2).flat_map(|s| (0..8).flat_map(move |h| (0..40).map(move |l| (s, h, l)))) {
                    let key = key(shard, head, last);
                    prop_assert_eq!(keys.get(&key), model.get(&key).copied());
                }
            }
            let left: usize = (0..SHARDS).map(|shard| keys.shard_len(shard)).sum();
            prop_assert_eq!(left, model.len());
        }
    }
}
