//! Identities by number, from a seed: as evenly spread as the heads of hashes that real ones are, and
//! much cheaper, so that 20 million of them can be made again wherever they are needed.

use sluice_schemas::dedup_log::Entry;
use sluice_schemas::identity::Fingerprint;

/// Numbered identities, spread evenly over a window by their append times.
#[derive(Debug, Clone, Copy)]
pub struct Identities {
    /// Another seed, other identities.
    pub seed: u64,
    /// How many there are.
    pub count: u64,
    /// The append time of the last one, seconds since 1970.
    pub newest: u32,
    /// How long before it the first one was appended, in seconds.
    pub window: u32,
}

impl Identities {
    /// The nth; numbers at or above the count are identities as well, of which nothing is known.
    pub fn identity(&self, n: u64) -> Fingerprint {
        let start = self.seed.wrapping_mul(0xd134_2543_de82_ef95);
        let (a, b) = (split_mix(start ^ (2 * n)), split_mix(start ^ (2 * n + 1)));
        ((u128::from(a) << 64) | u128::from(b)).to_be_bytes()
    }

    /// The nth as the dedup-log has it.
    pub fn entry(&self, n: u64) -> Entry {
        let behind = u128::from(self.count.saturating_sub(n + 1)) * u128::from(self.window);
        let behind = u32::try_from(behind / u128::from(self.count.max(1))).unwrap_or(u32::MAX);
        Entry {
            identity: self.identity(n),
            appended: self.newest.saturating_sub(behind),
            sequence: None,
        }
    }

    /// A number of chance for each number, the same for the same seed.
    pub fn chance(&self, n: u64) -> u64 {
        split_mix(split_mix(self.seed) ^ n)
    }
}

/// `SplitMix64`, of which each step is one-to-one: numbers that differ stay different.
fn split_mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_differ_and_end_now() {
        let some = Identities {
            seed: 7,
            count: 1_000,
            newest: 1_000_000,
            window: 3_600,
        };
        let all: std::collections::BTreeSet<Fingerprint> =
            (0..2_000).map(|n| some.identity(n)).collect();
        assert_eq!(all.len(), 2_000);
        assert_eq!(some.entry(999).appended, 1_000_000);
        assert!((996_400..996_410).contains(&some.entry(0).appended));
        let other = Identities { seed: 8, ..some };
        assert_ne!(other.identity(5), some.identity(5));
    }
}
