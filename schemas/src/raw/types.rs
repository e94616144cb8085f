//! A raw request in memory.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of the header [`REQUEST`](super::REQUEST) that this build writes, and the newest that it
/// reads.
pub const VERSION: u64 = 1;

/// What ingest knows of a request, apart from its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRequest {
    /// UUIDv7, minted at receipt.
    pub id: Uuid,
    /// The name of the source, as in the settings and in the URL.
    pub source: String,
    /// The name of the source's provider.
    pub provider: String,
    /// The time of receipt, microseconds since 1970 (UTC).
    pub received_at: i64,
    /// The HTTP method, upper case.
    pub method: String,
    /// Path and query, the URL's token taken out.
    pub target: String,
    /// The address the request came from.
    pub peer: IpAddr,
    /// The source had a token or required headers, and all matched.
    pub token: bool,
    /// What made the request durable.
    pub ack: Ack,
    /// The headers that are kept.
    pub headers: Headers,
}

/// What made a request durable before it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// All in-sync replicas of the raw topic.
    Broker,
    /// The local spool.
    Spool,
}

/// HTTP headers: names in lower case, values byte for byte, duplicates kept, the values of one name
/// in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Vec<u8>)>);

/// A header that may stand once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Single<'a> {
    /// It is not there.
    Absent,
    /// It is there once.
    Once(&'a [u8]),
    /// It is there more than once.
    Repeated,
}

impl Headers {
    /// All values of a name (lower case), in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(found, _)| found == name)
            .map(|(_, value)| value.as_slice())
    }

    /// The value of a name (lower case) that may stand once at most.
    pub fn single<'a>(&'a self, name: &'a str) -> Single<'a> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (None, _) => Single::Absent,
            (Some(value), None) => Single::Once(value),
            (Some(_), Some(_)) => Single::Repeated,
        }
    }
}
