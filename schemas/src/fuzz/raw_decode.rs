//! The header `request` of a raw record: no bytes make its reader panic, what is read is written the same,
//! and what is written is read the same.

use std::net::IpAddr;

use uuid::Uuid;

use super::input::Input;
use crate::raw::{Ack, Headers, RawError, RawRequest, VERSION};

/// The header's bytes where they begin with a brace, else what a request is made of, line by line.
pub fn fuzz_raw_decode(bytes: &[u8]) {
    let Some(input) = Input::new(bytes) else {
        return;
    };
    if !bytes.trim_ascii_start().starts_with(b"{") {
        let request = made(input);
        let read = RawRequest::decode(&request.encode());
        assert_eq!(read.as_ref(), Ok(&request), "written and read");
        return;
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let version = json.as_ref().and_then(|json| json["v"].as_u64());
    match RawRequest::decode(bytes) {
        Ok(request) => {
            assert_eq!(
                version,
                Some(VERSION),
                "a version that is not known is read"
            );
            let read = RawRequest::decode(&request.encode());
            assert_eq!(read, Ok(request), "read, written and read again");
        }
        Err(RawError::Newer(newer)) => assert!(newer > VERSION),
        Err(RawError::Malformed(_)) => {}
    }
}

/// A request whose every part comes from the input.
fn made(mut input: Input<'_>) -> RawRequest {
    let mut text = || String::from_utf8_lossy(input.line()).into_owned();
    let (source, provider, method, target) = (text(), text(), text(), text());
    let number = text();
    let number: i128 = number.trim().parse().unwrap_or(-1);
    let id = u128::from_be_bytes(number.to_be_bytes());
    let low = u64::try_from(id & u128::from(u64::MAX)).unwrap_or_default();
    let peer = if id.is_multiple_of(3) {
        IpAddr::from(u32::try_from(low >> 32).unwrap_or_default().to_be_bytes())
    } else {
        IpAddr::from(id.to_be_bytes())
    };
    let mut headers = Vec::new();
    while !input.is_empty() {
        let name = String::from_utf8_lossy(input.until(b':')).into_owned();
        headers.push((name, input.line().to_vec()));
    }
    RawRequest {
        id: Uuid::from_u128(id),
        source,
        provider,
        received_at: low.cast_signed(),
        method,
        target,
        peer,
        token: id.is_multiple_of(2),
        ack: if id.is_multiple_of(5) {
            Ack::Spool
        } else {
            Ack::Broker
        },
        headers: Headers(headers),
    }
}
