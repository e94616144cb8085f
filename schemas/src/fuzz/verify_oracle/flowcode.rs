//! Flowcode, read a second time: Standard Webhooks.

use serde_json::json;

use super::shared::{Parsed, Request, compare, replaced, single, unbase64, write};
use crate::fuzz::input::Input;
use crate::fuzz::signing::{RECEIVED, Source};
use crate::raw::Headers;
use crate::reason::Reason;

/// Both families of headers.
const FAMILIES: [&str; 2] = ["webhook", "svix"];

/// The members that are read: none may stand twice.
const KEYS: [&str; 5] = ["type", "event_type", "eventType", "event", "timestamp"];

/// The most entries that are checked by a public key.
const MOST_PUBLIC: usize = 8;

/// How the options and one entry of a signature header are read: the bytes of a `v1` entry, else none.
type Entry = (Vec<u8>, Vec<u8>);

pub fn run(input: &mut Input<'_>) {
    let accepted = input.pick(&["auto", "webhook", "svix"]);
    let max_age = input.pick(&[300, 0]);
    let (signing, way) = (input.pick(&FAMILIES), input.pick(&[1, 0, 2, 3]));
    let mut headers = Vec::new();
    for name in [
        "webhook-id",
        "webhook-timestamp",
        "svix-id",
        "svix-timestamp",
    ] {
        let values = input.line().split(|byte| *byte == b'|');
        let values = values.filter(|value| *value != b"-");
        headers.extend(values.map(|value| (name.to_owned(), value.to_vec())));
    }
    let signature = input.line();
    let body = input.rest();
    let settings = json!({"headers": accepted, "max_age": format!("{max_age}s")});
    let source = Source::new("flowcode", settings).expect("good options");
    let first = |name: &str| {
        let found = headers.iter().find(|(other, _)| other.ends_with(name));
        found.map(|(_, value)| value.as_slice()).unwrap_or_default()
    };
    let mac = Source::mac(&[first("-id"), b".", first("-timestamp"), b".", body]);
    let signature = replaced(signature, &write(&mac, way));
    if signature != b"-" {
        headers.push((format!("{signing}-signature"), signature));
    }
    let request = Request {
        headers: Headers(headers),
        body,
        token: false,
    };
    let decided = decide(accepted, max_age, &request);
    compare(&source, &request, Some(decided.map(|()| Some("v1"))));
}

fn decide(accepted: &str, max_age: i128, request: &Request<'_>) -> Result<(), Reason> {
    let values = |family: &str, name: &str| -> Vec<&[u8]> {
        let name = format!("{family}-{name}");
        let all = request.headers.0.iter().filter(|(other, _)| *other == name);
        all.map(|(_, value)| value.as_slice()).collect()
    };
    let stands = |family: &&str| {
        ["id", "timestamp", "signature"]
            .iter()
            .any(|name| !values(family, name).is_empty())
    };
    let signed = FAMILIES
        .iter()
        .any(|family| !values(family, "signature").is_empty());
    let present: Vec<&str> = FAMILIES.into_iter().filter(stands).collect();
    let family = match present[..] {
        [_, _] if signed => return Err(Reason::SignatureMalformed),
        [one] if accepted == "auto" || accepted == one => one,
        _ => return Err(Reason::SignatureMissing),
    };
    let value = single(&values(family, "signature"))?;
    let id = match values(family, "id")[..] {
        [id] if !id.is_empty()
            && id
                .iter()
                .all(|byte| byte.is_ascii_graphic() && *byte != b'.') =>
        {
            id
        }
        _ => return Err(Reason::SignatureMalformed),
    };
    let macs = macs(value)?;
    let time = match values(family, "timestamp")[..] {
        [] => return Err(Reason::TimestampMissing),
        [time] if !time.is_empty() && time.iter().all(u8::is_ascii_digit) => time,
        _ => return Err(Reason::TimestampMalformed),
    };
    let mac = Source::mac(&[id, b".", time, b".", request.body]);
    if !macs.iter().any(|other| other[..] == mac) {
        return Err(Reason::SignatureMismatch);
    }
    let seconds = String::from_utf8_lossy(time)
        .parse::<i64>()
        .unwrap_or(i64::MAX);
    if max_age > 0 && (i128::from(seconds) - i128::from(RECEIVED)).abs() > max_age {
        return Err(Reason::TimestampStale);
    }
    Parsed::of(request.body, &KEYS).fault.map_or(Ok(()), Err)
}

/// The MACs of a signature header: its `v1` entries that decode.
fn macs(value: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
    let words = value.split(|byte| *byte == b' ' || *byte == b'\t');
    let all: Vec<Entry> = words.flat_map(entries).collect();
    let decoded = |version: &str, length: usize| -> Vec<Vec<u8>> {
        let of = all.iter().filter(|(found, _)| found == version.as_bytes());
        let bytes = of.filter_map(|(_, text)| unbase64(text, true));
        bytes.filter(|bytes| bytes.len() == length).collect()
    };
    let (macs, public) = (decoded("v1", 32), decoded("v1a", 64).len());
    let other = |(version, text): &Entry| version != b"v1" && version != b"v1a" && !text.is_empty();
    if public > MOST_PUBLIC || macs.is_empty() && public == 0 && !all.iter().any(other) {
        return Err(Reason::SignatureMalformed);
    }
    Ok(macs)
}

/// The entries of a word, which a proxy may have folded: versions and signatures take turns, and what is a
/// version that is known begins an entry wherever it stands.
fn entries(word: &[u8]) -> Vec<Entry> {
    let parts: Vec<&[u8]> = word.split(|byte| *byte == b',').collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 1 < parts.len() {
        let (version, text) = (parts[at], parts[at + 1]);
        let is_entry = version.starts_with(b"v") && text != b"v1" && text != b"v1a";
        if is_entry {
            found.push((version.to_vec(), text.to_vec()));
        }
        at += 1 + usize::from(is_entry);
    }
    found
}
