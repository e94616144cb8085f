//! A record as it lies in the spool.
//!
//! Layout, big-endian: a mark of 7 bytes and version u8; check, 8 bytes of a SHA-256 over all that
//! follows; number u64; time of receipt i64 (microseconds since 1970); then header `request`,
//! `traceparent`, key and body, each with its length u32 before it. Mark, number and check are there so
//! that records can be found in a store that cannot be opened any more.

use sluice_schemas::identity::sha256;
use thiserror::Error;

use crate::publish::Record;

/// The version that this build writes, and the newest that it reads.
const VERSION: u8 = 1;

/// What every record begins with.
pub const MARK: &[u8; 7] = b"sluice\xf5";

const CHECK: usize = 8;

/// Where the part begins that the check covers, with the number.
const CHECKED: usize = MARK.len() + 1 + CHECK;

/// What stands before the four parts.
const HEAD: usize = CHECKED + 8 + 8;

/// A record read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// When the request came, microseconds since 1970.
    pub received_at: i64,
    request: Vec<u8>,
    traceparent: String,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Why a record cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A newer release wrote it.
    #[error("it is of version {0}, and this build reads up to {VERSION}")]
    Newer(u8),
    /// It is not what was written.
    #[error("it is damaged")]
    Damaged,
}

impl Stored {
    /// The record's parts.
    pub fn record(&self) -> Record<'_> {
        Record {
            key: &self.key,
            value: &self.value,
            request: &self.request,
            traceparent: &self.traceparent,
        }
    }

    /// Reads what [`encode`] wrote, sealed with this number.
    pub fn decode(number: u64, bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.strip_prefix(MARK).and_then(<[u8]>::first) {
            Some(&VERSION) => {}
            Some(&newer) if newer > VERSION => return Err(RecordError::Newer(newer)),
            _ => return Err(RecordError::Damaged),
        }
        let found = Self::parts(bytes).filter(|found| found.0 == number && found.2 == bytes.len());
        found.map(|found| found.1).ok_or(RecordError::Damaged)
    }

    /// The whole record at the beginning of `bytes`, if there is one: its number, itself, its length.
    pub fn find(bytes: &[u8]) -> Option<(u64, Self, usize)> {
        let version = bytes.strip_prefix(MARK)?.first()?;
        (*version == VERSION).then(|| Self::parts(bytes)).flatten()
    }

    fn parts(bytes: &[u8]) -> Option<(u64, Self, usize)> {
        let checked = bytes.get(CHECKED..)?;
        let (number, rest) = checked.split_first_chunk::<8>()?;
        let (received_at, mut rest) = rest.split_first_chunk::<8>()?;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (part, after) = after.split_at_checked(length)?;
            rest = after;
            Some(part)
        };
        let (request, traceparent) = (part()?, part()?);
        let (key, value) = (part()?, part()?);
        let length = bytes.len() - rest.len();
        let stored = bytes.get(CHECKED - CHECK..CHECKED)?;
        if stored != check(bytes.get(CHECKED..length)?) {
            return None;
        }
        let stored = Self {
            received_at: i64::from_be_bytes(*received_at),
            request: request.to_vec(),
            traceparent: std::str::from_utf8(traceparent).ok()?.to_owned(),
            key: key.to_vec(),
            value: value.to_vec(),
        };
        Some((u64::from_be_bytes(*number), stored, length))
    }
}

/// The bytes of a record that was received at `received_at`, still without a number.
pub fn encode(record: &Record<'_>, received_at: i64) -> Vec<u8> {
    let parts = [
        record.request,
        record.traceparent.as_bytes(),
        record.key,
        record.value,
    ];
    let length: usize = parts.iter().map(|part| 4 + part.len()).sum();
    let mut bytes = Vec::with_capacity(HEAD + length);
    bytes.extend(MARK);
    bytes.push(VERSION);
    bytes.resize(CHECKED + 8, 0);
    bytes.extend(received_at.to_be_bytes());
    for part in parts {
        // A record is a few MiB at most: it was measured before it came here.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

/// Gives an encoded record its number and its check.
pub fn seal(number: u64, bytes: &mut [u8]) {
    if let Some(place) = bytes.get_mut(CHECKED..CHECKED + 8) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    let check = check(bytes.get(CHECKED..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(CHECKED - CHECK..CHECKED) {
        place.copy_from_slice(&check);
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&sha256(bytes)[..CHECK]);
    check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(number: u64) -> Vec<u8> {
        let record = Record {
            key: b"msg_1",
            value: b"{}",
            request: b"{\"v\":1}",
            traceparent: "00-ab-cd-01",
        };
        let mut bytes = encode(&record, 1_700_000_000_123_456);
        seal(number, &mut bytes);
        bytes
    }

    #[test]
    fn version_1_still_decodes_and_is_still_written() {
        let golden = include_bytes!("../../golden/spool.v1.bin");
        assert_eq!(sealed(7), golden);
        let stored = Stored::decode(7, golden).expect("it is whole");
        assert_eq!(stored.received_at, 1_700_000_000_123_456);
        let record = stored.record();
        assert_eq!(
            (record.key, record.value, record.request, record.traceparent),
            (&b"msg_1"[..], &b"{}"[..], &b"{\"v\":1}"[..], "00-ab-cd-01")
        );
    }

    #[test]
    fn a_changed_byte_another_number_or_a_missing_end_is_damage() {
        let whole = sealed(7);
        assert_eq!(Stored::decode(8, &whole), Err(RecordError::Damaged));
        for at in (0..whole.len()).filter(|at| *at != MARK.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert_eq!(Stored::decode(7, &bytes), Err(RecordError::Damaged), "{at}");
            assert_eq!(Stored::decode(7, &whole[..at]), Err(RecordError::Damaged));
        }
        let mut newer = whole;
        newer[MARK.len()] = 2;
        assert_eq!(Stored::decode(7, &newer), Err(RecordError::Newer(2)));
    }

    proptest! {
        #[test]
        fn an_encoded_record_decodes(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 3),
            traceparent in "[0-9a-f-]{0,60}",
            received_at: i64,
            number: u64,
        ) {
            let record = Record {
                key: &parts[0],
                value: &parts[1],
                request: &parts[2],
                traceparent: &traceparent,
            };
            let mut bytes = encode(&record, received_at);
            seal(number, &mut bytes);
            let stored = Stored::decode(number, &bytes).expect("it is whole");
            prop_assert_eq!(stored.received_at, received_at);
            let read = stored.record();
            prop_assert_eq!(
                (read.key, read.value, read.request, read.traceparent),
                (record.key, record.value, record.request, record.traceparent)
            );
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Stored::decode(0, &bytes).is_err());
        }
    }
}
