//! The record of topic `webhooks.dedup-log`: what a transaction added to a partition's dedup index.
//!
//! Layout, big-endian: version u8, from i64, to i64, partitions u32, count u32, then the entries:
//! kind u8 (0 plain, 1 sequence), append time u32 (whole seconds since 1970), identity 16 bytes, and
//! for a sequence entity 16 bytes and MAC 16 bytes.

use thiserror::Error;

use crate::identity::Fingerprint;

/// The version that this build writes, and the newest that it reads.
pub const VERSION: u8 = 1;

/// Kafka header: the raw offset below which every fate was seen to be visible to a `read_committed`
/// reader when the record was written, ASCII decimal. A record without it vouches for its `from` alone.
pub const SEEN: &str = "seen";

/// Kafka header, while a torn transaction is repaired: the raw offset below which records may have a visible
/// fate already although the log does not account for it yet, ASCII decimal. In a record that judged nothing
/// it marks a reposition: the position was set, and nothing is known of the offsets before it. Without it
/// such a record is a checkpoint.
pub const UNTIL: &str = "until";

/// What one transaction added to one partition of raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupRecord {
    /// The raw offset where reading began: the last record's `to`.
    pub from: i64,
    /// The raw offset after the last record that was judged.
    pub to: i64,
    /// Over how many of raw's partitions keys were placed: the dedup index is of use only while that holds.
    pub partitions: u32,
    /// The events of the transaction, in the order of their raw offsets.
    pub entries: Vec<Entry>,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The identity's fingerprint; the event's id is made of it.
    pub identity: Fingerprint,
    /// The raw record's append time, whole seconds since 1970.
    pub appended: u32,
    /// Present where the provider is deduplicated by sequence.
    pub sequence: Option<SequenceEntry>,
}

/// The fingerprints of (source, entity) and of (source, MAC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceEntry {
    /// What the sequence is about.
    pub entity: Fingerprint,
    /// The content, by its MAC.
    pub mac: Fingerprint,
}

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DedupLogError {
    /// A newer release wrote it.
    #[error("the record is of version {0}, and this build reads up to {VERSION}")]
    Newer(u8),
    /// It is not what any release writes.
    #[error("the record cannot be read: {0}")]
    Malformed(&'static str),
}

#[cfg(feature = "testing")]
impl Entry {
    /// An identity by its number: spread as evenly as the heads of hashes, and cheaper.
    pub fn numbered(n: u64, appended: u32) -> Self {
        let (a, b) = (split_mix(2 * n), split_mix(2 * n + 1));
        Self {
            identity: (u128::from(a) << 64 | u128::from(b)).to_be_bytes(),
            appended,
            sequence: None,
        }
    }
}

/// `SplitMix64`, of which each step is one-to-one: numbers that differ stay different.
#[cfg(feature = "testing")]
fn split_mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const HEAD: usize = 1 + 8 + 8 + 4 + 4;
const PLAIN: usize = 1 + 4 + 16;
const SEQUENCE: usize = PLAIN + 32;

impl DedupRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.entries.len() * SEQUENCE);
        bytes.push(VERSION);
        bytes.extend(self.from.to_be_bytes());
        bytes.extend(self.to.to_be_bytes());
        bytes.extend(self.partitions.to_be_bytes());
        #[expect(
            clippy::expect_used,
            reason = "a batch has some thousands of records at most"
        )]
        let count = u32::try_from(self.entries.len()).expect("a batch is bounded");
        bytes.extend(count.to_be_bytes());
        for entry in &self.entries {
            bytes.push(u8::from(entry.sequence.is_some()));
            bytes.extend(entry.appended.to_be_bytes());
            bytes.extend(entry.identity);
            if let Some(sequence) = &entry.sequence {
                bytes.extend(sequence.entity);
                bytes.extend(sequence.mac);
            }
        }
        bytes
    }

    /// Reads what stands before the entries: the record without them.
    pub fn decode_head(bytes: &[u8]) -> Result<Self, DedupLogError> {
        let mut rest = bytes;
        Ok(Self::head(&mut rest)?.0)
    }

    /// Reads a record's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DedupLogError> {
        let mut rest = bytes;
        let (head, count) = Self::head(&mut rest)?;
        if count > rest.len() / PLAIN {
            return Err(DedupLogError::Malformed(
                "it promises more entries than it has",
            ));
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Entry::decode(&mut rest)?);
        }
        if !rest.is_empty() {
            return Err(DedupLogError::Malformed("something follows the last entry"));
        }
        Ok(Self { entries, ..head })
    }

    /// The record without its entries, and how many of them follow.
    fn head(rest: &mut &[u8]) -> Result<(Self, usize), DedupLogError> {
        match *take::<1>(rest)? {
            [VERSION] => {}
            [newer] if newer > VERSION => return Err(DedupLogError::Newer(newer)),
            _ => return Err(DedupLogError::Malformed("there is no version 0")),
        }
        let head = Self {
            from: i64::from_be_bytes(*take(rest)?),
            to: i64::from_be_bytes(*take(rest)?),
            partitions: u32::from_be_bytes(*take(rest)?),
            entries: Vec::new(),
        };
        Ok((head, u32::from_be_bytes(*take(rest)?) as usize))
    }
}

impl Entry {
    fn decode(rest: &mut &[u8]) -> Result<Self, DedupLogError> {
        let [kind] = *take(rest)?;
        Ok(Self {
            appended: u32::from_be_bytes(*take(rest)?),
            identity: *take(rest)?,
            sequence: match kind {
                0 => None,
                1 => Some(SequenceEntry {
                    entity: *take(rest)?,
                    mac: *take(rest)?,
                }),
                _ => return Err(DedupLogError::Malformed("an entry is of no known kind")),
            },
        })
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], DedupLogError> {
    let (head, tail) = rest
        .split_first_chunk::<N>()
        .ok_or(DedupLogError::Malformed("it ends too early"))?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> DedupRecord {
        DedupRecord {
            from: 5,
            to: 9,
            partitions: 12,
            entries: vec![
                Entry {
                    identity: [1; 16],
                    appended: 1_700_000_000,
                    sequence: None,
                },
                Entry {
                    identity: [2; 16],
                    appended: 1_700_000_001,
                    sequence: Some(SequenceEntry {
                        entity: [3; 16],
                        mac: [4; 16],
                    }),
                },
            ],
        }
    }

    #[test]
    fn version_1_still_decodes_and_is_still_written() {
        let golden = include_bytes!("../golden/dedup-log.v1.bin");
        assert_eq!(DedupRecord::decode(golden), Ok(record()));
        assert_eq!(record().encode(), golden);
        let head = DedupRecord {
            entries: Vec::new(),
            ..record()
        };
        assert_eq!(DedupRecord::decode_head(golden), Ok(head));
    }

    #[test]
    fn a_newer_version_is_reported_as_newer_and_not_as_malformed() {
        assert_eq!(DedupRecord::decode(&[2, 9]), Err(DedupLogError::Newer(2)));
        assert!(matches!(
            DedupRecord::decode(&[]),
            Err(DedupLogError::Malformed(_))
        ));
        let mut long = record().encode();
        long.push(0);
        assert!(matches!(
            DedupRecord::decode(&long),
            Err(DedupLogError::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0u8..3) {
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            if let Ok(record) = DedupRecord::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }
}
