//! Salvage of a damaged spool: nothing that a sender wrote is read as a record, each record that was not
//! damaged is found, and the work is bounded by the size of the file.

use sluice_schemas::fuzz::input::Input;

use crate::publish::Record;
use crate::spool::key::Key;
use crate::spool::record::{self, MARK};
use crate::spool::salvage::find::find;

const RECEIVED: i64 = 1_700_000_000_000_000;

/// How many bits may be flipped.
const FLIPS: usize = 4;

/// Records begin at multiples of this, in bytes.
const PAGE: usize = 64;

/// Which bits of the file are flipped, by number; then the bodies that were put, a line each. In a body stand
/// for themselves all bytes but these: 1 is a record of version 1, 2 of version 2 under another key, each of
/// the number that follows as a letter; 3 is a mark; 4 and 5 are as many heads of each version as the letter
/// says times 16, which claim what lies behind them.
pub fn fuzz_spool_salvage(bytes: &[u8]) {
    let Some(mut input) = Input::new(bytes) else {
        return;
    };
    let flips = String::from_utf8_lossy(input.line()).into_owned();
    let flips = flips.split(' ').filter_map(|bit| bit.parse().ok());
    let flips: Vec<usize> = flips.take(FLIPS).collect();
    let key = Key::new(&[7; 32]);
    let (mut file, mut put) = (vec![0; PAGE], Vec::new());
    for number in 0.. {
        if input.is_empty() {
            break;
        }
        let record = sealed(number, &key, &body(input.line()));
        file.extend_from_slice(&record);
        file.resize(file.len().next_multiple_of(PAGE), 0);
        put.push(record);
    }
    for bit in &flips {
        let bit = bit % (file.len() * 8);
        file[bit / 8] ^= 1 << (bit % 8);
    }
    let found = find(file.as_slice(), &key, &|_| true).expect("bytes can be read");
    for ((number, _), place) in &found.proved {
        let at = usize::try_from(place.at).expect("within the file");
        let record = &file[at..at + usize::try_from(place.length).expect("within the file")];
        let known = usize::try_from(*number)
            .ok()
            .and_then(|number| put.get(number));
        let same = known.is_some_and(|put| put == record);
        assert!(
            same,
            "record {number} at {at} was not put: {:?}",
            String::from_utf8_lossy(record)
        );
    }
    let whole = put.len().saturating_sub(flips.len());
    assert!(
        found.proved.len() >= whole,
        "{} of {} records are found",
        found.proved.len(),
        put.len()
    );
    let bound = 8 * file.len() as u64;
    assert!(
        found.hashed <= bound,
        "{} bytes are hashed, and {bound} may be",
        found.hashed
    );
}

/// A record as the spool writes it.
fn sealed(number: u64, key: &Key, body: &[u8]) -> Vec<u8> {
    let record = Record {
        key: b"k",
        value: body,
        request: b"{\"v\":1}",
        traceparent: "",
    };
    let mut bytes = record::encode(&record, "site", RECEIVED);
    record::seal(number, key, &mut bytes);
    bytes
}

/// A record of version 1, as anybody can make it.
fn version_1(number: u64, body: &[u8]) -> Vec<u8> {
    let mut checked = [number.to_be_bytes(), RECEIVED.to_be_bytes()].concat();
    for part in [b"{\"v\":99}".as_slice(), b"", b"k", body] {
        checked.extend(u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
        checked.extend_from_slice(part);
    }
    let check = sluice_schemas::identity::sha256(&checked);
    [MARK.as_slice(), &[1], &check[..8], &checked].concat()
}

/// A body, its bytes 1 to 5 replaced.
fn body(line: &[u8]) -> Vec<u8> {
    let other = Key::new(&[9; 32]);
    let (mut body, mut bytes) = (Vec::new(), line.iter().copied());
    while let Some(byte) = bytes.next() {
        let mut letter = || u64::from(bytes.next().unwrap_or(b'a').wrapping_sub(b'a'));
        match byte {
            1 => body.extend(version_1(letter(), b"planted")),
            2 => body.extend(sealed(letter(), &other, b"planted")),
            3 => body.extend(MARK),
            4 | 5 => {
                for _ in 0..letter() * 16 {
                    body.extend(head(byte == 4));
                }
            }
            other => body.push(other),
        }
    }
    body
}

/// A head without its parts, of which the last is long.
fn head(is_version_1: bool) -> Vec<u8> {
    let lengths = if is_version_1 { 4 } else { 5 };
    let mut head = if is_version_1 {
        let mut record = version_1(0, b"");
        record.truncate(32);
        record
    } else {
        let mut record = sealed(0, &Key::new(&[9; 32]), b"");
        record.truncate(record::HEAD - 4 * lengths);
        record
    };
    head.resize(head.len() + 4 * (lengths - 1), 0);
    head.extend(1500_u32.to_be_bytes());
    head
}
