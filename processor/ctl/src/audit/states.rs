//! What is known of each raw record of a partition, in two bits for each offset.

/// How many offsets a word holds.
const PER_WORD: usize = 32;

/// What is known of an offset of raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No record was read there.
    Absent,
    /// A record without a fate.
    Open,
    /// A record with its fate.
    Ended,
    /// A record with more than one fate.
    Twice,
}

/// The states of the offsets of a partition, from one on.
#[derive(Debug)]
pub struct States {
    from: i64,
    words: Vec<u64>,
}

impl States {
    /// Of the offsets from `from` to before `end`, all absent.
    pub fn new(from: i64, end: i64) -> Self {
        let span = usize::try_from(end.saturating_sub(from)).unwrap_or_default();
        Self {
            from,
            words: vec![0; span.div_ceil(PER_WORD)],
        }
    }

    /// Its word, and its place there.
    fn at(&self, offset: i64) -> Option<(usize, usize)> {
        let n = usize::try_from(offset.checked_sub(self.from)?).ok()?;
        let word = n / PER_WORD;
        (word < self.words.len()).then_some((word, n % PER_WORD * 2))
    }

    /// The state of an offset; one that is not of this range is absent.
    pub fn get(&self, offset: i64) -> State {
        let bits = self
            .at(offset)
            .map_or(0, |(word, shift)| (self.words[word] >> shift) & 3);
        match bits {
            0 => State::Absent,
            1 => State::Open,
            2 => State::Ended,
            _ => State::Twice,
        }
    }

    /// Sets the state of an offset, if it is of this range.
    pub fn set(&mut self, offset: i64, state: State) {
        let bits = match state {
            State::Absent => 0,
            State::Open => 1,
            State::Ended => 2,
            State::Twice => 3,
        };
        if let Some((word, shift)) = self.at(offset) {
            self.words[word] = self.words[word] & !(3 << shift) | bits << shift;
        }
    }

    /// The first and the last offset before `end` that are open.
    pub fn open(&self, end: i64) -> Option<(i64, i64)> {
        // Both bits of a word at once: open is 01.
        let open = |word: u64| word & !(word >> 1) & 0x5555_5555_5555_5555;
        let offset = |word: usize, bit: u32| {
            let n = word * PER_WORD + usize::try_from(bit).unwrap_or_default() / 2;
            self.from
                .saturating_add(i64::try_from(n).unwrap_or(i64::MAX))
        };
        let found = |(word, bits): (usize, &u64)| (open(*bits) != 0).then_some((word, open(*bits)));
        let (word, bits) = self.words.iter().enumerate().find_map(found)?;
        let first = offset(word, bits.trailing_zeros());
        let (word, bits) = self.words.iter().enumerate().rev().find_map(found)?;
        let last = offset(word, bits.ilog2());
        (first < end).then_some((first, last.min(end - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offset_has_a_state_of_its_own() {
        let mut states = States::new(1_000, 1_100);
        assert_eq!(states.open(i64::MAX), None);
        let all = [State::Absent, State::Open, State::Ended, State::Twice];
        for n in 0..100 {
            states.set(1_000 + n, all[usize::try_from(n % 4).expect("small")]);
        }
        for n in 0..100 {
            assert_eq!(
                states.get(1_000 + n),
                all[usize::try_from(n % 4).expect("small")]
            );
        }
        for outside in [999, 0, -1, i64::MIN, 1_200, i64::MAX] {
            states.set(outside, State::Open);
            assert_eq!(states.get(outside), State::Absent, "{outside}");
        }
        assert_eq!(states.open(i64::MAX), Some((1_001, 1_097)));
        assert_eq!(states.open(1_050), Some((1_001, 1_049)));
        assert_eq!(states.open(1_001), None);
        states.set(1_001, State::Ended);
        assert_eq!(states.open(i64::MAX), Some((1_005, 1_097)));
        assert_eq!(States::new(5, 5).get(5), State::Absent);
        assert_eq!(States::new(5, 3).get(4), State::Absent);
    }
}
