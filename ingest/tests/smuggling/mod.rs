//! Requests that two servers in a row could read in two ways, each with another one hidden behind it.

use crate::support::Ingest;

/// What comes of a request and of the one that stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 400 and closed, with nothing on raw.
    Refused,
    /// The first alone, and closed: what stands behind it is not read.
    Alone,
    /// Both, for there is one way to read them.
    Both,
}
use Outcome::{Alone, Both, Refused};

/// A name, what stands between the target and the end of the head, the body, and what comes of it.
pub const CASES: &[(&str, &str, &str, Outcome)] = &[
    ("plain", "content-length: 1\r\n", "A", Both),
    (
        "obs-fold",
        "x: a\r\n b\r\ncontent-length: 1\r\n",
        "A",
        Refused,
    ),
    (
        "bare CR",
        "x: a\rb: c\r\ncontent-length: 1\r\n",
        "A",
        Refused,
    ),
    ("NUL", "x: a\0b\r\ncontent-length: 1\r\n", "A", Refused),
    ("space in a name", "content-length : 1\r\n", "A", Refused),
    // A server may end lines so, and may take one length that was said twice (RFC 9112, sections 2.2
    // and 6.3). hyper does both, and shows neither to us.
    ("bare LF", "content-length: 1\n", "A", Both),
    (
        "equal lengths",
        "content-length: 1\r\ncontent-length: 1\r\n",
        "A",
        Both,
    ),
    (
        "unequal lengths",
        "content-length: 1\r\ncontent-length: 2\r\n",
        "A",
        Refused,
    ),
    ("list of lengths", "content-length: 1, 1\r\n", "A", Refused),
    ("signed length", "content-length: +1\r\n", "A", Refused),
    (
        "hexadecimal length",
        "content-length: 0x1\r\n",
        "A",
        Refused,
    ),
    (
        "length past 64 bits",
        "content-length: 18446744073709551617\r\n",
        "A",
        Refused,
    ),
    ("chunked", "transfer-encoding: chunked\r\n", CHUNK, Both),
    ("Chunked", "transfer-encoding: Chunked\r\n", CHUNK, Both),
    (
        "xchunked",
        "transfer-encoding: xchunked\r\n",
        CHUNK,
        Refused,
    ),
    (
        "chunked, identity",
        "transfer-encoding: chunked, identity\r\n",
        CHUNK,
        Refused,
    ),
    (
        "gzip, chunked",
        "transfer-encoding: gzip, chunked\r\n",
        CHUNK,
        Refused,
    ),
    (
        "chunked twice",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        CHUNK,
        Refused,
    ),
    (
        "chunked, chunked",
        "transfer-encoding: chunked, chunked\r\n",
        CHUNK,
        Refused,
    ),
    // Chunks win (RFC 9112, section 6.3), and the connection ends.
    (
        "length and chunks",
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
        CHUNK,
        Alone,
    ),
    (
        "chunks and length",
        "transfer-encoding: chunked\r\ncontent-length: 6\r\n",
        CHUNK,
        Alone,
    ),
    (
        "chunk extension",
        "transfer-encoding: chunked\r\n",
        "1;a=b\r\nA\r\n0\r\n\r\n",
        Both,
    ),
    (
        "LF in a chunk extension",
        "transfer-encoding: chunked\r\n",
        "1;\nA\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "LF behind a chunk's size",
        "transfer-encoding: chunked\r\n",
        "1\nA\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "signed chunk",
        "transfer-encoding: chunked\r\n",
        "+1\r\nA\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunk past 64 bits",
        "transfer-encoding: chunked\r\n",
        "10000000000000001\r\nA\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunk without an end",
        "transfer-encoding: chunked\r\n",
        "1\r\nAB\r\n0\r\n\r\n",
        Refused,
    ),
];

const CHUNK: &str = "1\r\nA\r\n0\r\n\r\n";

#[test]
fn a_request_is_read_in_one_way_or_not_at_all() {
    let ingest = Ingest::start();
    let hidden = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nS";
    for (name, head, body, expected) in CASES {
        let mut sender = ingest.connect();
        sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n");
        sender.write(&format!("{head}\r\n{body}"));
        sender.write(hidden);
        let answer = String::from_utf8(sender.rest()).unwrap();
        let statuses: Vec<&str> = answer
            .split("HTTP/1.1 ")
            .skip(1)
            .filter_map(|one| one.get(..3))
            .collect();
        let taken = std::mem::take(&mut *ingest.publisher.published.lock().unwrap());
        let values: Vec<&[u8]> = taken.iter().map(|one| one.value.as_slice()).collect();
        let (status, value): (&[&str], &[&[u8]]) = match expected {
            Refused => (&["400"], &[]),
            Alone => (&["200"], &[b"A"]),
            Both => (&["200", "200"], &[b"A", b"S"]),
        };
        assert_eq!(
            (statuses.as_slice(), values.as_slice()),
            (status, value),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_http_1_1_has_no_chunks() {
    let ingest = Ingest::start();
    for head in [
        "POST /v1/hooks/site HTTP/1.0\r\ntransfer-encoding: chunked\r\n",
        "POST /v1/hooks/site\r\n",
        "POST /v1/hooks/site HTTP/2.0\r\n",
    ] {
        let mut sender = ingest.connect();
        sender.write(&format!("{head}\r\n{CHUNK}"));
        let answer = String::from_utf8(sender.rest()).unwrap();
        assert!(answer.contains(" 400 "), "{head}: {answer}");
    }
    assert!(ingest.published().is_empty());
}
