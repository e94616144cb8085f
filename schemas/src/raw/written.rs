//! The header [`REQUEST`](super::REQUEST) from a request. Nearly no text in it has a character that JSON
//! escapes, so each is looked at in runs of bytes and copied whole; what has one is written by the library.

use serde::Serialize;
use uuid::Uuid;

use super::types::{RawRequest, VERSION};

/// What most encoded requests fit into, in bytes.
const ENCODED_BYTES: usize = 1024;

/// The request as JSON.
pub fn request(request: &RawRequest) -> Vec<u8> {
    let RawRequest {
        id,
        source,
        provider,
        received_at,
        method,
        target,
        peer,
        token,
        ack,
        headers,
    } = request;
    let mut json = Vec::with_capacity(ENCODED_BYTES);
    member("{\"v\":", &VERSION, &mut json);
    let mut digits = Uuid::encode_buffer();
    let id = id.hyphenated().encode_lower(&mut digits);
    quoted(",\"id\":", id.as_bytes(), &mut json);
    text(",\"source\":", source, &mut json);
    text(",\"provider\":", provider, &mut json);
    member(",\"received_at\":", received_at, &mut json);
    text(",\"method\":", method, &mut json);
    text(",\"target\":", target, &mut json);
    member(",\"peer\":", peer, &mut json);
    member(",\"token\":", token, &mut json);
    member(",\"ack\":", ack, &mut json);
    let mut before = ",\"headers\":[[";
    for (name, value) in &headers.0 {
        text(before, name, &mut json);
        latin1(",", value, &mut json);
        before = "],[";
    }
    let end: &[u8] = if headers.0.is_empty() {
        b",\"headers\":[]}"
    } else {
        b"]]}"
    };
    json.extend_from_slice(end);
    json
}

/// What the library writes, and what stands before it.
fn member(before: &str, value: &impl Serialize, json: &mut Vec<u8>) {
    json.extend_from_slice(before.as_bytes());
    // Writing to memory cannot fail, and no type here is a map with keys that are not text.
    #[expect(clippy::expect_used, clippy::allow_attributes_without_reason)]
    serde_json::to_writer(json, value).expect("a member is always JSON");
}

fn text(before: &str, text: &str, json: &mut Vec<u8>) {
    if has(text.as_bytes(), is_escaped) {
        member(before, &text, json);
    } else {
        quoted(before, text.as_bytes(), json);
    }
}

/// Bytes as text, each byte a code point, so that any byte survives JSON.
fn latin1(before: &str, bytes: &[u8], json: &mut Vec<u8>) {
    if has(bytes, |byte| is_escaped(byte) || !byte.is_ascii()) {
        let text: String = bytes.iter().copied().map(char::from).collect();
        member(before, &text, json);
    } else {
        quoted(before, bytes, json);
    }
}

fn quoted(before: &str, text: &[u8], json: &mut Vec<u8>) {
    json.extend_from_slice(before.as_bytes());
    json.push(b'"');
    json.extend_from_slice(text);
    json.push(b'"');
}

fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Whether any byte is of a kind. All are looked at, so that the compiler takes many at once.
fn has(bytes: &[u8], is_of_kind: impl Fn(u8) -> bool) -> bool {
    bytes
        .iter()
        .fold(false, |has, byte| has | is_of_kind(*byte))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::raw::{Ack, Headers};

    /// The request as the library writes all of it.
    #[derive(Serialize)]
    struct ByTheLibrary<'a> {
        v: u64,
        id: Uuid,
        source: &'a str,
        provider: &'a str,
        received_at: i64,
        method: &'a str,
        target: &'a str,
        peer: IpAddr,
        token: bool,
        ack: Ack,
        headers: Vec<(&'a str, String)>,
    }

    fn by_the_library(request: &RawRequest) -> Vec<u8> {
        let pairs = request.headers.0.iter();
        let chars = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect();
        let json = serde_json::to_vec(&ByTheLibrary {
            v: VERSION,
            id: request.id,
            source: &request.source,
            provider: &request.provider,
            received_at: request.received_at,
            method: &request.method,
            target: &request.target,
            peer: request.peer,
            token: request.token,
            ack: request.ack,
            headers: pairs
                .map(|(name, value)| (name.as_str(), chars(value)))
                .collect(),
        });
        json.expect("a request is always JSON")
    }

    proptest! {
        #[test]
        fn it_is_as_the_library_writes_it(
            texts in proptest::array::uniform4("[ -~]{0,40}|.{0,40}|[\0-\u{a0}]{0,40}"),
            pairs in proptest::collection::vec(
                ("[a-z-]{0,30}|.{0,9}", prop_oneof![
                    "[ -~]{0,70}".prop_map(String::into_bytes),
                    proptest::collection::vec(any::<u8>(), 0..70),
                ]),
                0..9,
            ),
            (id, received_at, peer, token) in any::<(u128, i64, IpAddr, bool)>(),
        ) {
            let [source, provider, method, target] = texts;
            let written = RawRequest {
                id: Uuid::from_u128(id),
                source,
                provider,
                received_at,
                method,
                target,
                peer,
                token,
                ack: if token { Ack::Broker } else { Ack::Spool },
                headers: Headers(pairs),
            };
            prop_assert_eq!(request(&written), by_the_library(&written));
        }
    }
}
