//! The raw record: the request as it came, on its way from ingest to the processor.
//!
//! The record's value is the body, byte for byte; its header [`REQUEST`] is this module's JSON. What
//! is here does no I/O and reads no clock.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::SeqAccess;
use thiserror::Error;
use uuid::Uuid;

mod types;

mod written;

pub use types::{Ack, Headers, RawRequest, Single, VERSION};

/// Kafka header: the request, as JSON in UTF-8.
pub const REQUEST: &str = "request";
/// Kafka header: W3C trace context, of ingest's own trace.
pub const TRACEPARENT: &str = "traceparent";

/// As many headers most requests have at most.
const MOST_HEADERS: usize = 16;

/// Why a record's header [`REQUEST`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RawError {
    /// A newer release wrote it: what it means is not known here, so nobody may judge it.
    #[error("the request header is of version {0}, and this build reads up to {VERSION}")]
    Newer(u64),
    /// It is not what any release writes.
    #[error("the request header cannot be read: {0}")]
    Malformed(String),
}

/// The header as it stands on the wire, to be read.
#[derive(Deserialize)]
struct Wire<'a> {
    v: u64,
    id: Uuid,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    provider: Cow<'a, str>,
    received_at: i64,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    peer: IpAddr,
    token: bool,
    ack: Ack,
    headers: Headers,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// Bytes as text, each byte a code point, so that any byte survives JSON.
struct Latin1(Vec<u8>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Headers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("pairs of a name and a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::with_capacity(MOST_HEADERS);
                while let Some((name, Latin1(value))) = pairs.next_element()? {
                    headers.push((name, value));
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

impl<'de> Deserialize<'de> for Latin1 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Latin1;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text of code points up to U+00FF")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Latin1, E> {
                if text.is_ascii() {
                    return Ok(Latin1(text.as_bytes().to_vec()));
                }
                text.chars()
                    .map(|c| u8::try_from(c).map_err(|_| E::custom("a code point over U+00FF")))
                    .collect::<Result<_, _>>()
                    .map(Latin1)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl RawRequest {
    /// The value of the header [`REQUEST`].
    pub fn encode(&self) -> Vec<u8> {
        written::request(self)
    }

    /// Reads the value of the header [`REQUEST`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RawError> {
        // The version is looked at first, for what a newer one looks like is not known.
        let malformed = |error: serde_json::Error| RawError::Malformed(place(&error));
        // As text its strings need not be looked at one by one.
        let read = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(bytes),
        };
        let wire: Wire<'_> = match read {
            Ok(wire) => wire,
            Err(error) => {
                let Version { v } = serde_json::from_slice(bytes).map_err(malformed)?;
                return Err(if v > VERSION {
                    RawError::Newer(v)
                } else {
                    malformed(error)
                });
            }
        };
        if wire.v > VERSION {
            return Err(RawError::Newer(wire.v));
        }
        if wire.v == 0 {
            return Err(RawError::Malformed("there is no version 0".into()));
        }
        Ok(Self {
            id: wire.id,
            source: wire.source.into_owned(),
            provider: wire.provider.into_owned(),
            received_at: wire.received_at,
            method: wire.method.into_owned(),
            target: wire.target.into_owned(),
            peer: wire.peer,
            token: wire.token,
            ack: wire.ack,
            headers: wire.headers,
        })
    }
}

/// Where a parser stopped, without a word of what it read: bodies and headers are not for logs.
pub(crate) fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "it has another shape",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> RawRequest {
        RawRequest {
            id: Uuid::from_u128(0x0193_5b7a_0000_7000_8000_0000_0000_0001),
            source: "flock-prod".into(),
            provider: "flock".into(),
            received_at: 1_700_000_000_123_456,
            method: "POST".into(),
            target: "/v1/hooks/flock-prod?a=b".into(),
            peer: IpAddr::from([127, 0, 0, 1]),
            token: false,
            ack: Ack::Broker,
            headers: Headers(vec![
                ("x-flock-signature".into(), b"abc".to_vec()),
                ("x-odd".into(), vec![0xff, b'"', 0x80]),
                ("x-odd".into(), b"second".to_vec()),
            ]),
        }
    }

    #[test]
    fn version_1_still_decodes_and_is_still_written() {
        let golden = include_bytes!("../golden/request.v1.json");
        assert_eq!(RawRequest::decode(golden).expect("golden file"), request());
        assert_eq!(
            String::from_utf8(request().encode()).expect("JSON is UTF-8"),
            String::from_utf8_lossy(golden).trim_end()
        );
    }

    #[test]
    fn a_newer_version_and_rubbish_are_different_errors() {
        assert_eq!(RawRequest::decode(br#"{"v":2}"#), Err(RawError::Newer(2)));
        assert_eq!(
            RawRequest::decode(br#"{"v":7,"id":[],"new":{}}"#),
            Err(RawError::Newer(7))
        );
        assert!(matches!(
            RawRequest::decode(br#"{"v":1}"#),
            Err(RawError::Malformed(_))
        ));
        assert!(matches!(
            RawRequest::decode(b""),
            Err(RawError::Malformed(_))
        ));
    }

    #[test]
    fn a_header_twice_is_not_a_header_once() {
        let headers = request().headers;
        assert_eq!(headers.single("x-odd"), Single::Repeated);
        assert_eq!(headers.single("x-flock-signature"), Single::Once(b"abc"));
        assert_eq!(headers.single("x-none"), Single::Absent);
    }

    proptest! {
        #[test]
        fn any_header_value_survives(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut request = request();
            request.headers.0.push(("x-any".into(), value));
            prop_assert_eq!(RawRequest::decode(&request.encode()), Ok(request));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = RawRequest::decode(&bytes);
        }
    }
}
