//! `X-Forwarded-For` against a plain reading: all lines in one, counted from the right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{HeaderMap, HeaderValue};
use sluice_schemas::fuzz::input::Input;

use crate::http::peers::forwarded_for;

/// A letter for the depth, and the header's lines.
pub fn fuzz_forwarded_for(bytes: &[u8]) {
    let Some(mut input) = Input::new(bytes) else {
        return;
    };
    let depth = input.choice(8);
    let lines: Vec<&[u8]> = input.rest().split(|byte| *byte == b'\n').collect();
    let mut headers = HeaderMap::new();
    headers.insert("forwarded", HeaderValue::from_static("for=9.9.9.9"));
    for line in &lines {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            return;
        };
        headers.append("x-forwarded-for", value);
    }
    let all = lines.join(&b',');
    let entries: Vec<&[u8]> = all.split(|byte| *byte == b',').collect();
    let entry = entries
        .len()
        .checked_sub(depth)
        .filter(|at| *at < entries.len());
    let plain = entry.and_then(|at| address(std::str::from_utf8(entries[at]).ok()?.trim()));
    let found = forwarded_for(&headers, depth);
    assert_eq!(found, plain, "{depth} from the right of {headers:?}");
}

/// An address alone, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let v6 = |text: &str| {
        let address: Ipv6Addr = text.parse().ok()?;
        Some(
            address
                .to_ipv4_mapped()
                .map_or(IpAddr::V6(address), IpAddr::V4),
        )
    };
    let is_port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.parse::<u16>().is_ok()
    };
    let v4 = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']')?;
        let good = behind.is_empty() || is_port(behind.strip_prefix(':')?);
        // A zone stands in an address with a port alone.
        let (inside, zone) = match inside.split_once('%').filter(|_| !behind.is_empty()) {
            Some((inside, zone)) => (inside, Some(zone)),
            None => (inside, None),
        };
        let is_zone = |zone: &str| {
            let digits = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_digit());
            digits && zone.parse::<u32>().is_ok()
        };
        let good = good && zone.is_none_or(is_zone);
        let alone = || v4(inside).filter(|_| behind.is_empty());
        return v6(inside).filter(|_| good).or_else(alone);
    }
    let with_port = || {
        let (address, port) = text.rsplit_once(':')?;
        v4(address).filter(|_| is_port(port))
    };
    v4(text).or_else(|| v6(text)).or_else(with_port)
}
