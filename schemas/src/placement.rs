//! In which partition of raw a key is. All that write to raw place records by this.
//!
//! It is what Java's default partitioner does over [`key_partitions`] partitions, however many raw has: where
//! raw gets more, no key moves, so a retry meets what it repeats.
//!
//! [`key_partitions`]: crate::settings::Topics::key_partitions

/// The partition of a key, of so many over which keys are placed.
pub fn partition(key: &[u8], key_partitions: i32) -> i32 {
    // The sign is cut off, as in Java.
    (murmur2(key) & i32::MAX) % key_partitions.max(1)
}

/// The 32 bits of `MurmurHash2` with Kafka's seed. The lengths of keys fit 32 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the algorithm counts in 32 bits"
)]
fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = SEED ^ key.len() as u32;
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        let word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka's own tests and librdkafka's demand.
    const KNOWN: [(&str, u32); 17] = [
        ("", 0x106e_08d9),
        ("4", 0x5a4b_5ca1),
        ("34", 0x8739_30da),
        ("234", 0xe7c0_09ca),
        ("1234", 0x9fc9_7b14),
        ("kafka", 0xd067_cf64),
        ("giberish123456789", 0x8f55_2b0c),
        ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c),
        ("reAmbleWillBeRemoved,ThePrePartThatIs", 0x4a62_b377),
        ("eAmbleWillBeRemoved,ThePrePartThatIs", 0xe0e4_e09e),
        ("AmbleWillBeRemoved,ThePrePartThatIs", 0x62b8_b43f),
        ("21", (-973_932_308_i32).cast_unsigned()),
        ("foobar", (-790_332_482_i32).cast_unsigned()),
        (
            "a-little-bit-long-string",
            (-985_981_536_i32).cast_unsigned(),
        ),
        (
            "a-little-bit-longer-string",
            (-1_486_304_829_i32).cast_unsigned(),
        ),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            (-58_897_971_i32).cast_unsigned(),
        ),
        ("abc", 479_470_107),
    ];

    #[test]
    fn the_hash_is_kafkas() {
        for (key, hash) in KNOWN {
            assert_eq!(murmur2(key.as_bytes()).cast_unsigned(), hash, "{key:?}");
        }
    }

    #[test]
    fn a_key_is_where_javas_partitioner_puts_it_and_always_within() {
        for (key, hash) in KNOWN {
            for partitions in [1, 2, 3, 12, 13, 10_000] {
                let positive = i64::from(hash & 0x7fff_ffff);
                let found = partition(key.as_bytes(), partitions);
                assert_eq!(i64::from(found), positive % i64::from(partitions));
            }
        }
    }
}
