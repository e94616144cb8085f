//! The checker on planted violations of each invariant.

use super::*;
use crate::expected::Expected;
use crate::load::ledger::Line;
use sluice_schemas::audit::digest;
use sluice_schemas::audit::testing::{
    NAMES, body as sound_body, event, id, record, request, sound,
};
use sluice_schemas::event::{CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT};
use sluice_schemas::fate::{DUPLICATE_OF, RAW_OFFSET};
use sluice_schemas::raw::REQUEST;

/// What becomes of the bodies of the sound records.
fn expected(body: &str) -> Expected {
    match body {
        "body 2" => Expected::Forged,
        "body 3" => Expected::Unreadable,
        _ => Expected::Authentic,
    }
}

/// A ledger in which requests are sent and acknowledged one after the other.
#[derive(Clone, Default)]
struct Book(Vec<Line>);

impl Book {
    fn intent(&mut self, n: i64, body: &str, process: &str) {
        self.0.push(Line::Intent {
            number: n.unsigned_abs(),
            attempt: 1,
            source: "s".into(),
            sha256: hex::encode(digest(body.as_bytes())),
            expected: expected(body),
            process: process.into(),
            at: 0,
        });
    }

    fn ack(&mut self, n: i64) {
        self.0.push(Line::Ack {
            id: id(n).to_string(),
            number: n.unsigned_abs(),
            attempt: 1,
        });
    }

    fn sent(&mut self, n: i64, body: &str) {
        self.intent(n, body, "ingest-0");
        self.ack(n);
    }

    fn read(&self) -> Told {
        Told::of(self.0.clone()).expect("a ledger")
    }
}

/// The sound records of the audit's tests, with their ledger.
fn good() -> (Vec<Record>, Book) {
    let (records, _) = sound();
    let mut book = Book::default();
    for n in 0..4 {
        book.sent(n, &sound_body(n));
    }
    (records, book)
}

/// Raw `offset` and the event that it became, as the request of number `n`.
fn pair(n: i64, offset: i64, event_offset: i64, body: &str) -> [Record; 2] {
    let raw = record(
        "webhooks.raw",
        offset,
        body.as_bytes(),
        &[(REQUEST, &request(n))],
    );
    let framing = (CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT.as_bytes());
    let value = event(&format!("e{n}"), offset, body);
    let mut event = record("events.flock.a", 0, &value, &[framing]);
    event.offset = event_offset;
    [raw, event]
}

#[track_caller]
fn fault_of(records: &[Record], book: &Book) -> (Invariant, String) {
    let verdict = check(&NAMES, records, &book.read());
    assert_eq!(verdict.fault_count, 1, "{:?}", verdict.faults);
    let invariant = *verdict.violations.keys().next().expect("one");
    (invariant, verdict.faults[0].clone())
}

#[test]
fn sound_records_hold() {
    let (mut records, mut book) = good();
    for (n, offset) in [(4, 4), (5, 5)] {
        records.extend(pair(n, offset, offset, &format!("body {n}")));
        book.sent(n, &format!("body {n}"));
    }
    let verdict = check(&NAMES, &records, &book.read());
    assert!(verdict.holds(), "{:?}", verdict.faults);
    assert_eq!((verdict.acked, verdict.lost, verdict.doubled), (6, 0, 0));
}

#[test]
fn i1_an_acknowledged_request_that_is_lost() {
    let (records, mut book) = good();
    book.sent(9, "body 9");
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I1);
    assert!(told.ends_with("was answered, and is lost"), "{told}");
}

#[test]
fn i2_a_raw_record_without_a_fate_or_with_two() {
    let (mut records, book) = good();
    let last = records.pop().expect("a dead letter");
    assert_eq!(
        fault_of(&records, &book),
        (Invariant::I2, "raw 0/3 has no fate".into())
    );
    let mut again = last.clone();
    again.offset = 1;
    records.extend([last, again]);
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I2);
    assert!(told.starts_with("raw 0/3 ended twice"), "{told}");
}

#[test]
fn i3_two_events_of_one_id_and_a_repetition_of_nothing() {
    let (mut records, mut book) = good();
    let last = records[5].headers.len() - 1;
    records[5].headers[last].1 = b"e9".to_vec();
    assert_eq!(fault_of(&records, &book).0, Invariant::I3);

    records = good().0;
    let [raw, mut second] = pair(4, 4, 1, "body 4");
    second.value = event("e0", 4, "body 4");
    records.extend([raw, second]);
    book.sent(4, "body 4");
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I3);
    assert!(told.contains("has the id of another event"), "{told}");
}

#[test]
fn i3_a_repetition_by_sequence_that_became_an_event() {
    let by_sequence = |n: i64| {
        let mut wanted = RawRequest::decode(&request(n)).expect("a request");
        let provider = sluice_schemas::providers::ALL
            .into_iter()
            .find(|provider| verifier(*provider).by_sequence());
        provider
            .expect("one")
            .spec()
            .name
            .clone_into(&mut wanted.provider);
        wanted.encode()
    };
    let (mut records, mut book) = good();
    for (n, body) in [(4, "same"), (5, "other"), (6, "same")] {
        let [mut raw, event] = pair(n, n, n, body);
        raw.headers[0].1 = by_sequence(n);
        records.extend([raw, event]);
        book.sent(n, body);
    }
    // With another between them it is a state that came back.
    assert!(check(&NAMES, &records, &book.read()).holds());
    let [mut raw, event] = pair(7, 7, 7, "same");
    raw.headers[0].1 = by_sequence(7);
    records.extend([raw, event]);
    book.sent(7, "same");
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I3);
    assert!(
        told.contains("repeats its entity's last, raw 0/6"),
        "{told}"
    );
}

#[test]
fn i4_a_body_that_nobody_sent_or_too_often() {
    let (mut records, mut book) = good();
    records.extend(pair(4, 4, 4, "body 4"));
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I4);
    assert!(told.ends_with("a body that was never sent"), "{told}");
    // Sent once, and there twice: the second is nobody's.
    book.sent(4, "body 4");
    records.extend(pair(5, 5, 5, "body 4"));
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I4);
    assert!(told.ends_with("more often than it was sent"), "{told}");
}

#[test]
fn a_request_that_ingest_wrote_twice_is_counted_and_is_one_event_at_most() {
    let (mut records, mut book) = good();
    book.sent(4, "body 4");
    book.sent(5, "body 5");
    records.extend(pair(4, 4, 4, "body 4"));
    records.extend(pair(5, 5, 5, "body 5"));
    let [copy, mut second] = pair(4, 6, 6, "body 4");
    let mut repeated = records[5].clone();
    repeated.value.clone_from(&copy.value);
    repeated
        .headers
        .retain(|(name, _)| ![REQUEST, RAW_OFFSET, DUPLICATE_OF].contains(&name.as_str()));
    repeated.headers.push((REQUEST.into(), request(4)));
    repeated.headers.push((RAW_OFFSET.into(), b"6".to_vec()));
    repeated.headers.push((DUPLICATE_OF.into(), b"e4".to_vec()));
    records.extend([copy, repeated]);
    let verdict = check(&NAMES, &records, &book.read());
    assert!(verdict.holds(), "{:?}", verdict.faults);
    assert_eq!(verdict.rewritten, 1);
    // A second event of it has the same id.
    records.pop();
    second.value = event("e4", 6, "body 4");
    records.push(second);
    assert_eq!(fault_of(&records, &book).0, Invariant::I3);
}

#[test]
fn i4_bytes_that_changed() {
    let (mut records, book) = good();
    records[6].value.push(b' ');
    assert_eq!(fault_of(&records, &book).0, Invariant::I4);
    let (mut records, _) = good();
    records[4].value = event("e0", 0, "body  0");
    assert_eq!(fault_of(&records, &book).0, Invariant::I4);
    let (mut records, _) = good();
    records[1].value = b"body 9".to_vec();
    records[5].value = b"body 9".to_vec();
    let verdict = check(&NAMES, &records, &book.read());
    assert!(verdict.faults[0].ends_with("has another body on raw"));
    assert!(verdict.violations.keys().eq(&[Invariant::I4]));
}

#[test]
fn i5_acknowledged_one_after_the_other_and_in_another_order_on_raw() {
    let (mut records, mut book) = good();
    // Sent as 4, 5; on raw as 5, 4.
    records.extend(pair(5, 4, 4, "body 5"));
    records.extend(pair(4, 5, 5, "body 4"));
    let before = book.clone();
    book.sent(4, "body 4");
    book.sent(5, "body 5");
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I5);
    assert!(
        told.contains("raw 0/5 was acknowledged before raw 0/4"),
        "{told}"
    );

    // Other processes, and acknowledged by the brokers: the same.
    let mut two = before.clone();
    two.sent(4, "body 4");
    two.intent(5, "body 5", "ingest-1");
    two.ack(5);
    assert_eq!(fault_of(&records, &two).0, Invariant::I5);

    // On the way at once: no order was promised.
    let mut at_once = before.clone();
    at_once.intent(4, "body 4", "ingest-0");
    at_once.intent(5, "body 5", "ingest-0");
    at_once.ack(4);
    at_once.ack(5);
    assert!(check(&NAMES, &records, &at_once.read()).holds());

    // Not acknowledged: it may arrive whenever it likes.
    let mut late = before;
    late.intent(4, "body 4", "ingest-0");
    late.sent(5, "body 5");
    assert!(check(&NAMES, &records, &late.read()).holds());
}

#[test]
fn i5_spools_of_two_processes_keep_no_order_between_them() {
    let (mut records, mut book) = good();
    let spooled = |n: i64| {
        let mut wanted = RawRequest::decode(&request(n)).expect("a request");
        wanted.ack = Ack::Spool;
        wanted.encode()
    };
    for (n, offset) in [(5, 4), (4, 5)] {
        let [mut raw, event] = pair(n, offset, offset, &format!("body {n}"));
        raw.headers[0].1 = spooled(n);
        records.extend([raw, event]);
    }
    let mut one = book.clone();
    book.sent(4, "body 4");
    book.intent(5, "body 5", "ingest-1");
    book.ack(5);
    assert!(check(&NAMES, &records, &book.read()).holds());
    one.sent(4, "body 4");
    one.sent(5, "body 5");
    assert_eq!(fault_of(&records, &one).0, Invariant::I5);
}

#[test]
fn i5_events_in_another_order_than_raw() {
    let (mut records, mut book) = good();
    for (n, event_offset) in [(4, 6), (5, 5)] {
        records.extend(pair(n, n, event_offset, &format!("body {n}")));
        book.sent(n, &format!("body {n}"));
    }
    // As a reader gets them: by offset.
    records.sort_by_key(|record| (record.topic.clone(), record.offset));
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I5);
    assert!(
        told.contains("stands behind what comes from raw 0/5"),
        "{told}"
    );
}

#[test]
fn i5_a_key_on_two_partitions() {
    let (mut records, mut book) = good();
    let [mut raw, mut event] = pair(4, 0, 4, "body 4");
    raw.partition = 1;
    event.value = sluice_schemas::audit::testing::event_at("e4", 1, 0, "body 4");
    records.extend([raw, event]);
    book.sent(4, "body 4");
    let (invariant, told) = fault_of(&records, &book);
    assert_eq!(invariant, Invariant::I5);
    assert_eq!(told, "raw 1/0 has a key of partition 0");
}

fn counts(text: &str) -> Vec<Samples> {
    vec![Samples::parse(text).expect("samples")]
}

const COUNTED: &str = "\
sluice_fates_total{fate=\"event\",reason=\"\"} 1
sluice_fates_total{fate=\"duplicate\",reason=\"duplicate\"} 1
sluice_fates_total{fate=\"rejected\",reason=\"signature_mismatch\"} 1
sluice_fates_total{fate=\"dead_letter\",reason=\"malformed_json\"} 1
sluice_ingest_requests_total{source=\"s\",status=\"200\"} 4
";

#[test]
fn i6_counts_that_are_not_the_topics() {
    let (records, book) = good();
    let told = book.read();
    let mut verdict = check(&NAMES, &records, &told);
    compare_counts(&counts(COUNTED), &told, &mut verdict);
    assert!(verdict.holds(), "{:?}", verdict.faults);
    for (right, wrong, faults) in [
        (
            "fate=\"event\",reason=\"\"} 1",
            "fate=\"event\",reason=\"\"} 2",
            1,
        ),
        ("signature_mismatch\"} 1", "signature_mismatch\"} 0", 2),
        ("status=\"200\"} 4", "status=\"200\"} 5", 1),
        (
            "status=\"200\"} 4",
            "status=\"200\"} 4\nsluice_ingest_requests_total{status=\"503\"} 1",
            1,
        ),
    ] {
        let mut verdict = check(&NAMES, &records, &told);
        compare_counts(&counts(&COUNTED.replace(right, wrong)), &told, &mut verdict);
        assert_eq!(verdict.fault_count, faults, "{:?}", verdict.faults);
        assert!(verdict.violations.keys().eq(&[Invariant::I6]));
    }
}

#[test]
fn i7_what_settles_too_late() {
    let mut verdict = Verdict::default();
    let bound = Duration::from_secs(120);
    check_settled("a", bound, bound, &mut verdict);
    assert!(verdict.holds());
    check_settled("b", bound * 2, bound, &mut verdict);
    assert!(verdict.violations.keys().eq(&[Invariant::I7]));
    assert!(verdict.faults[0].contains("after b"));
}
