//! Records of version 1, which releases up to 0.2.0 wrote, as they are read.
//!
//! A mark of 7 bytes and version u8; check, 8 bytes of a SHA-256 over all that follows; number u64; time of
//! receipt i64; then header `request`, `traceparent`, key and body, each with its length u32 before it.
//! Anybody can make the check, so that it proves nothing to salvage.

use serde_json::Value;
use sluice_schemas::identity::sha256;

/// What every record begins with, of whatever version.
pub const MARK: &[u8; 7] = b"sluice\xf5";

/// Bytes of the check.
pub const CHECK: usize = 8;

/// Where the part begins that the check covers, with the number.
pub const CHECKED: usize = MARK.len() + 1 + CHECK;

/// What stands before the parts.
pub const HEAD: usize = CHECKED + 8 + 8;

/// Parts, each with its length.
pub const PARTS: usize = 4;

/// A whole record: its number, its time of receipt, its parts.
pub fn decode(bytes: &[u8]) -> Option<(u64, i64, [&[u8]; PARTS])> {
    let checked = bytes.get(CHECKED..)?;
    let (check, number, received_at) = claimed(bytes)?;
    if *check != sha256(checked)[..CHECK] {
        return None;
    }
    Some((number, received_at, parts(bytes)?))
}

/// The source of a record, by its form alone.
pub fn source_of(bytes: &[u8]) -> Option<String> {
    let [request, ..] = parts(bytes)?;
    source(request)
}

fn source(request: &[u8]) -> Option<String> {
    let request: Value = serde_json::from_slice(request).ok()?;
    Some(request.get("source")?.as_str()?.to_owned())
}

/// The parts, where they are there and nothing more.
fn parts(bytes: &[u8]) -> Option<[&[u8]; PARTS]> {
    let mut rest = bytes.get(HEAD..)?;
    let mut parts = [rest; PARTS];
    for part in &mut parts {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        (*part, rest) = after.split_at_checked(length)?;
    }
    rest.is_empty().then_some(parts)
}

/// What a head says of its record: check, number, time of receipt.
pub fn claimed(head: &[u8]) -> Option<(&[u8], u64, i64)> {
    let check = head.get(CHECKED - CHECK..CHECKED)?;
    let (number, rest) = head.get(CHECKED..)?.split_first_chunk()?;
    let (received_at, _) = rest.split_first_chunk()?;
    let received_at = i64::from_be_bytes(*received_at);
    Some((check, u64::from_be_bytes(*number), received_at))
}
