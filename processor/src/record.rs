//! A raw record as the processor holds it, and how large a record is for Kafka.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;

/// A raw record, out of the client's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Raw's partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When the broker appended it, milliseconds since 1970.
    pub appended_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// The body, byte for byte.
    pub value: Vec<u8>,
    /// Its Kafka headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The bytes that it holds.
    pub fn size(&self) -> usize {
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            name.len() + value.as_ref().map_or(0, Vec::len)
        };
        let headers: usize = self.headers.iter().map(header).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.len() + headers
    }

    /// The last value of a header, which is the one that counts in Kafka.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|(found, _)| found == name)
            .and_then(|(_, value)| value.as_deref())
    }
}

/// Kafka headers in their order; a header may have no value.
pub type Headers<'a> = Vec<(&'a str, Option<Cow<'a, [u8]>>)>;

/// What Kafka adds to key, value and headers of a record that stands alone in a batch, at most, in
/// bytes: 61 for the batch, the rest for the record's own lengths.
const RECORD_OVERHEAD: usize = 128;

/// What a header costs in addition to its name and value, at most, in bytes: two lengths as varints.
const HEADER_OVERHEAD: usize = 10;

/// How large a record is for `max.message.bytes`, at most, in bytes and before compression.
pub fn record_size(key: Option<&[u8]>, value: &[u8], headers: &Headers<'_>) -> usize {
    let header = |(name, value): &(&str, Option<Cow<'_, [u8]>>)| {
        name.len() + value.as_ref().map_or(0, |value| value.len()) + HEADER_OVERHEAD
    };
    RECORD_OVERHEAD
        + key.map_or(0, <[u8]>::len)
        + value.len()
        + headers.iter().map(header).sum::<usize>()
}
