//! Requests that two servers in a row could read in two ways, each with another one hidden behind it.

use crate::support::Ingest;

pub mod corpus;

use corpus::{Case, Expect, MORE, PINNED};

/// Cases at once: most wait for a timeout that ends the connection.
const AT_ONCE: usize = 16;

const PATH: &str = "/v1/hooks/site";

#[test]
fn a_request_is_read_in_one_way_or_not_at_all() {
    let ingest = Ingest::start();
    for case in PINNED {
        let mut sender = ingest.connect();
        sender.write_bytes(&case.bytes(PATH, "A", "S"));
        let statuses = statuses(&sender.rest());
        let taken = std::mem::take(&mut *ingest.publisher.published.lock().unwrap());
        let values: Vec<&[u8]> = taken.iter().map(|one| one.value.as_slice()).collect();
        let (status, value): (&[u16], &[&[u8]]) = match case.expect {
            Expect::Refused => (&[400], &[]),
            Expect::Closed(_) => (&[200], &[b"A"]),
            Expect::Twice => (&[200, 200], &[b"A", b"S"]),
            other => panic!("{}: {other:?} is not exact", case.name),
        };
        assert_eq!(
            (statuses.as_slice(), values.as_slice()),
            (status, value),
            "{}",
            case.name
        );
    }
}

#[test]
fn what_servers_read_in_many_ways_is_taken_as_it_was_meant_or_not_at_all() {
    let ingest = Ingest::start();
    for cases in MORE.chunks(AT_ONCE) {
        let bodies = |case: &Case| {
            (
                format!("outer:{}", case.name),
                format!("inner:{}", case.name),
            )
        };
        let send = |case| {
            let (outer, inner) = bodies(case);
            let mut sender = ingest.connect();
            sender.write_bytes(&case.bytes(PATH, &outer, &inner));
            sender
        };
        let senders: Vec<_> = cases.iter().map(send).collect();
        let mut meant = Vec::new();
        for (case, mut sender) in cases.iter().zip(senders) {
            let statuses = statuses(&sender.rest());
            assert_eq!(case.fault(&statuses, true), None);
            let (outer, inner) = bodies(case);
            if statuses.first() == Some(&200) {
                meant.push(case.meant(PATH, &outer, &inner).into_bytes());
            }
            if statuses.len() > 1 {
                meant.push(inner.into_bytes());
            }
        }
        let taken = std::mem::take(&mut *ingest.publisher.published.lock().unwrap());
        let mut taken: Vec<_> = taken.into_iter().map(|one| one.value).collect();
        taken.sort_unstable();
        meant.sort_unstable();
        assert_eq!(taken, meant);
    }
}

/// The status of each answer. Interim answers are passed over.
fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let answers = text.split("HTTP/1.").skip(1);
    let statuses = answers.filter_map(|answer| answer.get(2..5)?.parse().ok());
    statuses.filter(|status| *status >= 200).collect()
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
        sender.write(&format!("{head}\r\n1\r\nA\r\n0\r\n\r\n"));
        let answer = String::from_utf8(sender.rest()).unwrap();
        assert!(answer.contains(" 400 "), "{head}: {answer}");
    }
    assert!(ingest.published().is_empty());
}
