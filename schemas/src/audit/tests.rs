//! The audit on planted violations: one that finds nothing is worth nothing.

use super::testing::{NAMES, event, id, record, request, sound};
use super::*;

/// The one fault of the sound records after a change.
#[track_caller]
fn fault(change: impl FnOnce(&mut Vec<Record>, &mut Vec<Acked>)) -> String {
    let (mut records, mut acked) = sound();
    change(&mut records, &mut acked);
    let verdict = audit(&NAMES, &records, &acked);
    assert_eq!(verdict.fault_count, 1, "{:?}", verdict.faults);
    verdict.faults[0].clone()
}

#[test]
fn sound_records_balance() {
    let (records, acked) = sound();
    let verdict = audit(&NAMES, &records, &acked);
    assert!(verdict.holds(), "{:?}", verdict.faults);
    assert_eq!(
        (
            verdict.acked,
            verdict.raw,
            verdict.fates(),
            verdict.duplicates
        ),
        (4, 4, 4, 1)
    );
    assert_eq!(verdict.rejected["signature_mismatch"], 1);
    assert_eq!(verdict.dead_letters["malformed_json"], 1);
    assert_eq!(verdict.events["events.flock.a"], 1);
}

#[test]
fn a_record_without_a_fate_is_found() {
    assert_eq!(
        fault(|records, _| drop(records.remove(7))),
        "raw 0/3 has no fate"
    );
}

#[test]
fn a_record_with_two_fates_is_found() {
    let found = fault(|records, _| {
        let mut twice = records[6].clone();
        twice.offset = 1;
        records.push(twice);
    });
    assert_eq!(found, "raw 0/2 ended twice: rejected and rejected");
}

#[test]
fn a_fate_of_no_record_is_found() {
    let found = fault(|records, acked| {
        records.remove(2);
        acked.remove(2);
    });
    assert!(found.contains("which is not there"), "{found}");
}

#[test]
fn an_answered_request_that_is_lost_is_found() {
    let found = fault(|_, acked| {
        acked.push(Acked {
            id: id(9).to_string(),
            digest: digest(b"x"),
        });
    });
    assert!(found.ends_with("was answered, and is lost"), "{found}");
}

#[test]
fn another_body_is_found() {
    let found = fault(|_, acked| acked[2].digest = digest(b"changed"));
    assert!(found.ends_with("has another body on raw"), "{found}");
    let found = fault(|records, _| records[6].value.push(b' '));
    assert!(
        found.ends_with("has another value than its raw record"),
        "{found}"
    );
    let found = fault(|records, _| records[4].value = event("e0", 0, "body  0"));
    assert!(
        found.ends_with("has other data than its raw record"),
        "{found}"
    );
}

#[test]
fn a_lost_header_or_key_is_found() {
    let found = fault(|records, _| drop(records[7].headers.remove(0)));
    assert!(
        found.ends_with("lacks a header of its raw record"),
        "{found}"
    );
    let found = fault(|records, _| records[4].key.clear());
    assert!(
        found.ends_with("has another key than its raw record"),
        "{found}"
    );
}

#[test]
fn two_events_of_one_id_are_found() {
    let found = fault(|records, acked| {
        records.push(record(
            "webhooks.raw",
            4,
            b"body 4",
            &[(REQUEST, &request(4))],
        ));
        let mut second = records[4].clone();
        second.offset = 1;
        second.value = event("e0", 4, "body 4");
        records.push(second);
        acked.truncate(4);
    });
    assert!(
        found.ends_with("has the id of another event: e0"),
        "{found}"
    );
}

#[test]
fn a_repetition_of_nothing_is_found() {
    let found = fault(|records, _| {
        let last = records[5].headers.len() - 1;
        records[5].headers[last].1 = b"e9".to_vec();
    });
    assert_eq!(found, "raw 0/1 repeats event e9, which is not there");
}

#[test]
fn a_request_twice_on_raw_is_found() {
    let found = fault(|records, acked| {
        records[1].headers[0].1 = request(0);
        records[5].headers[0].1 = request(0);
        // The second's own acknowledgement would be a fault of its own.
        acked.remove(1);
        records[1].value = b"body 0".to_vec();
        records[5].value = b"body 0".to_vec();
    });
    assert!(found.contains("on raw twice"), "{found}");
}
