//! A hash table of keys and times, of which a look takes one line of the cache nearly always.
//!
//! Four keys with their times fill a line of 64 bytes. What does not fit goes to the next line, and the line
//! that was full is marked: so a key that is not there is known by one line too. A general hash map has its
//! marks and its entries in two places, which among twenty million keys is two waits for memory. Keys
//! are not taken out one by one, so a mark never outlives its reason.

/// What is kept of a fingerprint: its first 96 bits, which with the time make 16 bytes. Of 20 million keys
/// and a new one, two are taken for one with a chance of 2.5 in 10^22; a sender who wants that of one
/// that is not his must try 2^96 bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Key {
    /// Of which the upper half chooses the line: the head of a SHA-256 needs no other hash.
    pub head: u64,
    /// Its two upper bits must be the same in all keys of a table that are the same otherwise.
    pub tail: u32,
}

impl Key {
    /// Of a fingerprint. Two numbers, that go from hand to hand in registers.
    #[inline]
    pub fn of(fingerprint: &[u8; 16]) -> Self {
        let bits = u128::from_le_bytes(*fingerprint);
        Self {
            head: (bits & 0xffff_ffff_ffff_ffff) as u64,
            tail: (bits >> 64 & 0xffff_ffff) as u32,
        }
    }
}

const SLOTS: usize = 4;

/// In the place of a tail's upper bit: there is a key here.
const TAKEN: u32 = 1 << 31;

/// In the place of the next bit, of a line's first tail: keys of this line are in the next one.
const GOES_ON: u32 = 1 << 30;

/// Three of five slots are taken at most: then one line in eight goes on in the next.
const FULL: (usize, usize) = (3, 5);

#[repr(align(64))]
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    tails: [u32; SLOTS],
    heads: [u64; SLOTS],
    appended: [u32; SLOTS],
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    lines: Box<[Line]>,
    keys: usize,
}

impl Table {
    /// The time of a key.
    #[inline]
    pub fn get(&self, key: Key) -> Option<u32> {
        let (line, slot) = self.find(key)?;
        Some(self.lines[line].appended[slot])
    }

    /// Adds a key, or raises its time; the time that it had.
    pub fn put(&mut self, key: Key, appended: u32) -> Option<u32> {
        if let Some((line, slot)) = self.find(key) {
            let time = &mut self.lines[line].appended[slot];
            let before = *time;
            *time = before.max(appended);
            return Some(before);
        }
        if self.keys >= room(self.lines.len()) {
            // By a quarter: the fewer slots are free, the less memory is; the more steps, the more work.
            let lines = self.lines.len();
            self.rebuild(lines + (lines / 4).max(2), |_| true);
        }
        self.add(key.head, key.tail & !GOES_ON | TAKEN, appended);
        None
    }

    /// Makes room for more keys at once.
    pub fn reserve(&mut self, more: usize) {
        let lines = lines_for(self.keys + more);
        if lines > self.lines.len() {
            self.rebuild(lines, |_| true);
        }
    }

    /// Takes out all keys of earlier times and gives their room back.
    pub fn keep_from(&mut self, earliest: u32) {
        let kept = |appended| appended >= earliest;
        let count = self.taken().filter(|slot| kept(slot.2)).count();
        if count < self.keys {
            // With room for an eighth more, so that it does not grow at once.
            self.rebuild(lines_for(count + count / 8), kept);
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// How many bytes they take.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Line and slot of a key.
    #[inline]
    fn find(&self, key: Key) -> Option<(usize, usize)> {
        let (head, tail) = (key.head, key.tail & !GOES_ON | TAKEN);
        let mut at = self.home(head);
        loop {
            let line = self.lines.get(at)?;
            // All four at once, without a branch: the less there is to guess, the more looks wait for
            // their memory side by side.
            let mut same = 0;
            for (slot, of_slot) in line.tails.iter().enumerate() {
                same |= u32::from(of_slot & !GOES_ON == tail) << slot;
            }
            while same != 0 {
                let slot = same.trailing_zeros() as usize % SLOTS;
                if line.heads[slot] == head {
                    return Some((at, slot));
                }
                same &= same - 1;
            }
            if line.tails[0] & GOES_ON == 0 {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Adds a key that is not there, to a table that has room.
    fn add(&mut self, head: u64, tail: u32, appended: u32) {
        self.keys += 1;
        let mut at = self.home(head);
        loop {
            let line = &mut self.lines[at];
            if let Some(slot) = line.tails.iter().position(|tail| tail & TAKEN == 0) {
                line.tails[slot] = tail;
                line.heads[slot] = head;
                line.appended[slot] = appended;
                return;
            }
            line.tails[0] |= GOES_ON;
            at = self.next(at);
        }
    }

    /// Puts the keys of these times into so many new lines, which have room for them.
    fn rebuild(&mut self, lines: usize, kept: impl Fn(u32) -> bool) {
        let new = Self {
            lines: vec![Line::default(); lines].into(),
            keys: 0,
        };
        let old = std::mem::replace(self, new);
        for (head, tail, appended) in old.taken().filter(|slot| kept(slot.2)) {
            self.add(head, tail, appended);
        }
    }

    /// What the slots hold: head, tail with its mark, and time.
    fn taken(&self) -> impl Iterator<Item = (u64, u32, u32)> {
        let slots = |line: &Line| {
            let Line {
                tails,
                heads,
                appended,
            } = *line;
            (0..SLOTS).map(move |at| (heads[at], tails[at] & !GOES_ON, appended[at]))
        };
        let all = self.lines.iter().flat_map(slots);
        all.filter(|(_, tail, _)| tail & TAKEN != 0)
    }

    /// The line in which a key is looked for first: heads in their order are lines in theirs.
    fn home(&self, head: u64) -> usize {
        (((head >> 32) * self.lines.len() as u64) >> 32) as usize
    }

    fn next(&self, line: usize) -> usize {
        let next = line + 1;
        if next == self.lines.len() { 0 } else { next }
    }
}

/// For how many keys so many lines are.
fn room(lines: usize) -> usize {
    lines * SLOTS * FULL.0 / FULL.1
}

fn lines_for(keys: usize) -> usize {
    (keys * FULL.1).div_ceil(SLOTS * FULL.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn key(head: u64, tail: u32) -> Key {
        let mut fingerprint = [0; 16];
        fingerprint[..8].copy_from_slice(&head.to_le_bytes());
        fingerprint[8..12].copy_from_slice(&tail.to_le_bytes());
        Key::of(&fingerprint)
    }

    #[test]
    fn an_empty_one_has_nothing() {
        let mut table = Table::default();
        assert_eq!(table.get(key(u64::MAX, u32::MAX)), None);
        table.keep_from(7);
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }

    #[test]
    fn as_many_as_it_was_made_for_fit_without_growing() {
        for keys in [1, 2, 3, 11, 12, 13, 1000] {
            let mut table = Table::default();
            table.reserve(keys);
            let before = table.bytes();
            for n in 0..keys as u64 {
                // The same line for all.
                table.put(key(n, 1), 1);
            }
            assert_eq!((table.len(), table.bytes()), (keys, before));
        }
    }

    proptest! {
        /// Few distinct keys, that crowd in the first and the last lines, so that lines go on in others
        /// and from the last in the first.
        #[test]
        fn it_is_a_map_of_latest_times(
            steps in proptest::collection::vec((0u64..60, 0u32..3, 0u32..100), 0..400),
            reserved in 0usize..100,
            earliest in 0u32..100,
        ) {
            let key = |n: u64, tail| key(if n < 30 { n } else { u64::MAX - n }, tail);
            let mut table = Table::default();
            let mut model = HashMap::new();
            table.reserve(reserved);
            for (n, tail, appended) in steps {
                prop_assert_eq!(table.put(key(n, tail), appended), model.get(&(n, tail)).copied());
                let latest = model.entry((n, tail)).or_default();
                *latest = appended.max(*latest);
            }
            for kept in [false, true] {
                if kept {
                    table.keep_from(earliest);
                    model.retain(|_, appended| *appended >= earliest);
                }
                prop_assert_eq!(table.len(), model.len());
                for (n, tail) in (0..60).flat_map(|n| (0..3).map(move |tail| (n, tail))) {
                    prop_assert_eq!(table.get(key(n, tail)), model.get(&(n, tail)).copied());
                }
            }
        }
    }
}
