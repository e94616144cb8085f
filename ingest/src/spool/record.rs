//! A record as it lies in the spool, big-endian, of version 2 ([`VERSION`]); version 1 is read in [`v1`].
//!
//! A mark of 7 bytes and version u8; tag, 16 bytes of an HMAC-SHA256 over the version and the rest of the
//! head, under the folder's key; SHA-256 over all that follows it; number u64; time of receipt i64
//! (microseconds since 1970); five lengths u32; then source, header `request`, `traceparent`, key and body,
//! as long as those say. That much is the head: 92 bytes before the parts.
//!
//! The SHA-256 finds damage, with a key or without. Mark, number and tag are there so that records can be
//! found in a store that cannot be opened any more: the tag proves the head before any byte of the parts is
//! hashed, and with it the SHA-256 of the parts, so that nothing which a sender wrote is taken for a record.

use std::borrow::Cow;

use sluice_schemas::identity::sha256;
use sluice_schemas::raw::RawRequest;
use thiserror::Error;

use super::key::{Key, TAG, Tag};
use crate::publish::Record;

pub mod v1;

pub use v1::MARK;

/// The version that this build writes, and the newest that it reads.
pub const VERSION: u8 = 2;

/// Where the SHA-256 stands.
const DIGEST: usize = MARK.len() + 1 + TAG;

/// Where the part begins that it covers, with the number.
const CHECKED: usize = DIGEST + 32;

const LENGTHS: usize = CHECKED + 8 + 8;

const PARTS: usize = 5;

/// What stands before the parts.
pub const HEAD: usize = LENGTHS + 4 * PARTS;

/// Bytes that the tag of a head is made of.
pub const TAGGED: usize = 1 + HEAD - DIGEST;

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
        let (found, stored) = Self::of_any_number(bytes)?;
        (found == number)
            .then_some(stored)
            .ok_or(RecordError::Damaged)
    }

    /// The same, with whatever number it was sealed, and that.
    pub fn of_any_number(bytes: &[u8]) -> Result<(u64, Self), RecordError> {
        match bytes.strip_prefix(MARK).and_then(<[u8]>::first) {
            Some(&VERSION) => {}
            Some(1) => return Self::of_version_1(bytes).ok_or(RecordError::Damaged),
            Some(&newer) if newer > VERSION => return Err(RecordError::Newer(newer)),
            _ => return Err(RecordError::Damaged),
        }
        let stored = Self::whole(bytes).ok_or(RecordError::Damaged)?;
        let head = Head::of(bytes).ok_or(RecordError::Damaged)?;
        Ok((head.number, stored))
    }

    fn of_version_1(bytes: &[u8]) -> Option<(u64, Self)> {
        let (number, received_at, parts) = v1::decode(bytes)?;
        Some((number, Self::new(received_at, parts)?))
    }

    fn new(received_at: i64, [request, traceparent, key, value]: [&[u8]; 4]) -> Option<Self> {
        Some(Self {
            received_at,
            request: request.to_vec(),
            traceparent: std::str::from_utf8(traceparent).ok()?.to_owned(),
            key: key.to_vec(),
            value: value.to_vec(),
        })
    }

    fn whole(bytes: &[u8]) -> Option<Self> {
        let head = Head::of(bytes)?;
        if head.digest != sha256(bytes.get(CHECKED..)?) {
            return None;
        }
        let [_, request, traceparent, key, value] = head.parts(bytes)?;
        Self::new(head.received_at, [request, traceparent, key, value])
    }
}

/// What stands before the parts of a record of this version.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// What the folder's key gives for it.
    pub tag: Tag,
    /// SHA-256 over the rest.
    pub digest: [u8; 32],
    /// The record's number.
    pub number: u64,
    /// Its time of receipt.
    pub received_at: i64,
    lengths: [u32; PARTS],
}

impl Head {
    /// The head at the beginning of these bytes, if that many are there. Its version was looked at.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.get(MARK.len() + 1..)?;
        let (tag, rest) = rest.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (received_at, rest) = rest.split_first_chunk()?;
        let mut lengths = [0; PARTS];
        for (length, bytes) in lengths.iter_mut().zip(rest.as_chunks::<4>().0) {
            *length = u32::from_be_bytes(*bytes);
        }
        (bytes.len() >= HEAD).then_some(Self {
            tag: *tag,
            digest: *digest,
            number: u64::from_be_bytes(*number),
            received_at: i64::from_be_bytes(*received_at),
            lengths,
        })
    }

    /// The length of the record that it claims to begin.
    pub fn record_length(&self) -> u64 {
        let parts = self.lengths.iter().map(|length| u64::from(*length));
        HEAD as u64 + parts.sum::<u64>()
    }

    /// The parts of a record, where they are there and nothing more.
    fn parts<'a>(&self, bytes: &'a [u8]) -> Option<[&'a [u8]; PARTS]> {
        let mut rest = bytes.get(HEAD..)?;
        let mut parts = [rest; PARTS];
        for (part, length) in parts.iter_mut().zip(self.lengths) {
            (*part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        }
        rest.is_empty().then_some(parts)
    }
}

/// Where the part of a record begins that its SHA-256 covers.
pub const fn checked() -> u64 {
    CHECKED as u64
}

/// The tag of a head under a key; the bytes begin with the head.
pub fn tag(key: &Key, bytes: &[u8]) -> Option<Tag> {
    let mut tagged = [0; TAGGED];
    tagged[0] = *bytes.get(MARK.len())?;
    tagged[1..].copy_from_slice(bytes.get(DIGEST..HEAD)?);
    Some(key.tag(&tagged))
}

/// The source of a stored record, of any version, by its form alone: it is asked of records that were read of
/// a whole store.
pub fn source_of(bytes: &[u8]) -> Option<Cow<'_, str>> {
    match bytes.strip_prefix(MARK)?.first()? {
        1 => v1::source_of(bytes).map(Cow::Owned),
        &VERSION => {
            let [source, ..] = Head::of(bytes)?.parts(bytes)?;
            std::str::from_utf8(source).ok().map(Cow::Borrowed)
        }
        _ => None,
    }
}

/// The bytes of a source's record that was received at `received_at`, still without a number.
pub fn encode(record: &Record<'_>, source: &str, received_at: i64) -> Vec<u8> {
    let parts = [
        source.as_bytes(),
        record.request,
        record.traceparent.as_bytes(),
        record.key,
        record.value,
    ];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(HEAD + length);
    bytes.extend(MARK);
    bytes.push(VERSION);
    bytes.resize(CHECKED + 8, 0);
    bytes.extend(received_at.to_be_bytes());
    for part in parts {
        // A record is some ten MiB at most: it was measured before it came here.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
    }
    for part in parts {
        bytes.extend(part);
    }
    bytes
}

/// A record that was quarantined, in the form of now.
#[derive(Debug)]
pub struct Renewed {
    /// Its source.
    pub source: String,
    /// When the request came, microseconds since 1970.
    pub received_at: i64,
    /// Its bytes, still without a number.
    pub bytes: Vec<u8>,
}

/// Makes a record of one that was quarantined. `None`: it is damaged, or a processor of this release could
/// not read its request.
pub fn renewed(bytes: &[u8]) -> Option<Renewed> {
    let (_, stored) = Stored::of_any_number(bytes).ok()?;
    let source = RawRequest::decode(&stored.request).ok()?.source;
    let bytes = encode(&stored.record(), &source, stored.received_at);
    Some(Renewed {
        source,
        received_at: stored.received_at,
        bytes,
    })
}

/// Gives an encoded record its number, its SHA-256 and its tag.
pub fn seal(number: u64, key: &Key, bytes: &mut [u8]) {
    if let Some(place) = bytes.get_mut(CHECKED..CHECKED + 8) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    let digest = sha256(bytes.get(CHECKED..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(DIGEST..CHECKED) {
        place.copy_from_slice(&digest);
    }
    let tag = tag(key, bytes).unwrap_or_default();
    if let Some(place) = bytes.get_mut(MARK.len() + 1..DIGEST) {
        place.copy_from_slice(&tag);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(number: u64) -> Vec<u8> {
        let record = Record {
            key: b"msg_1",
            value: b"{}",
            request: b"{\"v\":1,\"source\":\"site\"}",
            traceparent: "00-ab-cd-01",
        };
        let mut bytes = encode(&record, "site", 1_700_000_000_123_456);
        seal(number, &Key::new(&[7; 32]), &mut bytes);
        bytes
    }

    fn parts(stored: &Stored) -> (&[u8], &[u8], &[u8], &str) {
        let record = stored.record();
        (record.key, record.value, record.request, record.traceparent)
    }

    #[test]
    fn version_2_still_decodes_and_is_still_written() {
        let golden = include_bytes!("../../golden/spool.v2.bin");
        assert_eq!(sealed(7), golden);
        let stored = Stored::decode(7, golden).expect("it is whole");
        assert_eq!(stored.received_at, 1_700_000_000_123_456);
        let request = &b"{\"v\":1,\"source\":\"site\"}"[..];
        let expected = (&b"msg_1"[..], &b"{}"[..], request, "00-ab-cd-01");
        assert_eq!(parts(&stored), expected);
        assert_eq!(source_of(golden).as_deref(), Some("site"));
    }

    #[test]
    fn version_1_still_decodes() {
        let golden = include_bytes!("../../golden/spool.v1.bin");
        let stored = Stored::decode(7, golden).expect("it is whole");
        assert_eq!(stored.received_at, 1_700_000_000_123_456);
        let request = &b"{\"v\":1}"[..];
        let expected = (&b"msg_1"[..], &b"{}"[..], request, "00-ab-cd-01");
        assert_eq!(parts(&stored), expected);
        assert_eq!(Stored::decode(8, golden), Err(RecordError::Damaged));
    }

    #[test]
    fn a_changed_byte_another_number_or_a_missing_end_is_damage() {
        let whole = sealed(7);
        assert_eq!(Stored::decode(8, &whole), Err(RecordError::Damaged));
        // The tag is salvage's alone, so that a folder without its key is read.
        let read = |at: &usize| *at != MARK.len() && !(MARK.len() + 1..DIGEST).contains(at);
        for at in (0..whole.len()).filter(read) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert_eq!(Stored::decode(7, &bytes), Err(RecordError::Damaged), "{at}");
            assert_eq!(Stored::decode(7, &whole[..at]), Err(RecordError::Damaged));
        }
        let mut newer = whole;
        newer[MARK.len()] = 3;
        assert_eq!(Stored::decode(7, &newer), Err(RecordError::Newer(3)));
    }

    #[test]
    fn the_tag_covers_the_whole_head_and_depends_on_the_key() {
        let whole = sealed(7);
        let (key, other) = (Key::new(&[7; 32]), Key::new(&[8; 32]));
        let found = Head::of(&whole).expect("a head").tag;
        assert_eq!(tag(&key, &whole), Some(found));
        assert_ne!(tag(&other, &whole), Some(found));
        for at in (DIGEST..HEAD).chain([MARK.len()]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_ne!(tag(&key, &bytes), Some(found), "{at}");
        }
    }

    proptest! {
        #[test]
        fn an_encoded_record_decodes(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 3),
            traceparent in "[0-9a-f-]{0,60}",
            source in "[a-z-]{1,20}",
            received_at: i64,
            number: u64,
        ) {
            let record = Record {
                key: &parts[0],
                value: &parts[1],
                request: &parts[2],
                traceparent: &traceparent,
            };
            let mut bytes = encode(&record, &source, received_at);
            seal(number, &Key::new(&[1; 32]), &mut bytes);
            let stored = Stored::decode(number, &bytes).expect("it is whole");
            prop_assert_eq!(stored.received_at, received_at);
            let found = source_of(&bytes);
            prop_assert_eq!(found.as_deref(), Some(source.as_str()));
            let read = stored.record();
            prop_assert_eq!(
                (read.key, read.value, read.request, read.traceparent),
                (record.key, record.value, record.request, record.traceparent)
            );
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), version in 0_u8..4) {
            prop_assert!(Stored::decode(0, &bytes).is_err());
            let marked = [&MARK[..], &[version], &bytes].concat();
            prop_assert!(Stored::decode(0, &marked).is_err());
            let _ = source_of(&marked);
        }
    }
}
