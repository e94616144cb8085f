//! The audit on planted violations: one that finds nothing is worth nothing.

use std::net::IpAddr;

use apache_avro::{GenericSingleObjectWriter, to_value};
use sluice_schemas::event::{CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT, PARSED, WebhookEvent};
use sluice_schemas::raw::{Ack, Headers};
use uuid::Uuid;

use super::*;

pub const NAMES: TopicNames = TopicNames {
    prefix: String::new(),
};

pub fn record(topic: &str, offset: i64, value: &[u8], headers: &[(&str, &[u8])]) -> Record {
    Record {
        topic: topic.into(),
        partition: 0,
        offset,
        timestamp: 0,
        key: b"k".to_vec(),
        value: value.to_vec(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect(),
    }
}

pub fn id(n: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(n).expect("positive") + 1)
}

pub fn request(offset: i64) -> Vec<u8> {
    RawRequest {
        id: id(offset),
        source: "s".into(),
        provider: "flock".into(),
        received_at: 1,
        method: "POST".into(),
        target: "/".into(),
        peer: IpAddr::from([127, 0, 0, 1]),
        token: false,
        ack: Ack::Broker,
        headers: Headers::default(),
    }
    .encode()
}

pub fn event(event_id: &str, raw_offset: i64, data: &str) -> Vec<u8> {
    event_at(event_id, 0, raw_offset, data)
}

pub fn event_at(event_id: &str, raw_partition: i32, raw_offset: i64, data: &str) -> Vec<u8> {
    let text = || "x".to_owned();
    let event = WebhookEvent {
        id: event_id.into(),
        source: text(),
        provider: text(),
        r#type: text(),
        subject: None,
        occurred_at: None,
        received_at: 1,
        entity_type: None,
        entity_id: None,
        scope_type: None,
        scope_id: None,
        organization_id: None,
        application_id: None,
        environment: None,
        person_id: None,
        person_email: None,
        person_name: None,
        referrer_id: None,
        invitee_id: None,
        referral_code: None,
        referrer_reward_id: None,
        invitee_reward_id: None,
        position: None,
        previous_position: None,
        title: None,
        url: None,
        author: None,
        content_type: None,
        section_id: None,
        tags: None,
        published_at: None,
        delivery_id: None,
        authenticity: text(),
        signature_scheme: None,
        key_id: None,
        request_id: text(),
        raw_partition,
        raw_offset,
        data: data.into(),
    };
    let value = to_value(event).and_then(|value| value.resolve(&PARSED));
    let mut bytes = Vec::new();
    GenericSingleObjectWriter::new_with_capacity(&PARSED, 1024)
        .and_then(|mut writer| writer.write_value(value?, &mut bytes))
        .expect("an event is writable");
    bytes
}

/// Raw 0 became an event, 1 repeats it, 2 was rejected, 3 is a dead letter.
pub fn sound() -> (Vec<Record>, Vec<Acked>) {
    let mut records = Vec::new();
    let mut acked = Vec::new();
    for n in 0..4 {
        let body = format!("body {n}");
        records.push(record(
            "webhooks.raw",
            n,
            body.as_bytes(),
            &[(REQUEST, &request(n))],
        ));
        acked.push(Acked {
            id: id(n).to_string(),
            body: body.into(),
        });
    }
    let framing = (CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT.as_bytes());
    records.push(record(
        "events.flock.a",
        0,
        &event("e0", 0, "body 0"),
        &[framing],
    ));
    let fate = |topic: &str, n: i64, reason: &str| {
        let (offset, body) = (n.to_string(), format!("body {n}"));
        record(
            topic,
            0,
            body.as_bytes(),
            &[
                (REQUEST, &request(n)),
                (REASON, reason.as_bytes()),
                (RAW_TOPIC, b"webhooks.raw"),
                (RAW_PARTITION, b"0"),
                (RAW_OFFSET, offset.as_bytes()),
            ],
        )
    };
    let mut duplicate = fate("webhooks.duplicates", 1, "duplicate");
    duplicate
        .headers
        .push((DUPLICATE_OF.into(), b"e0".to_vec()));
    records.push(duplicate);
    records.push(fate("webhooks.rejected", 2, "signature_mismatch"));
    records.push(fate("webhooks.dead-letter", 3, "malformed_json"));
    (records, acked)
}

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
    let told = fault(|records, _| {
        let mut twice = records[6].clone();
        twice.offset = 1;
        records.push(twice);
    });
    assert_eq!(told, "raw 0/2 ended twice: rejected and rejected");
}

#[test]
fn a_fate_of_no_record_is_found() {
    let told = fault(|records, acked| {
        records.remove(2);
        acked.remove(2);
    });
    assert!(told.contains("which is not there"), "{told}");
}

#[test]
fn an_answered_request_that_is_lost_is_found() {
    let told = fault(|_, acked| {
        acked.push(Acked {
            id: id(9).to_string(),
            body: "x".into(),
        });
    });
    assert!(told.ends_with("was answered, and is lost"), "{told}");
}

#[test]
fn another_body_is_found() {
    let told = fault(|_, acked| acked[2].body = "changed".into());
    assert!(told.ends_with("has another body on raw"), "{told}");
    let told = fault(|records, _| records[6].value.push(b' '));
    assert!(
        told.ends_with("has another value than its raw record"),
        "{told}"
    );
    let told = fault(|records, _| records[4].value = event("e0", 0, "body  0"));
    assert!(
        told.ends_with("has other data than its raw record"),
        "{told}"
    );
}

#[test]
fn a_lost_header_or_key_is_found() {
    let told = fault(|records, _| drop(records[7].headers.remove(0)));
    assert!(told.ends_with("lacks a header of its raw record"), "{told}");
    let told = fault(|records, _| records[4].key.clear());
    assert!(
        told.ends_with("has another key than its raw record"),
        "{told}"
    );
}

#[test]
fn two_events_of_one_id_are_found() {
    let told = fault(|records, acked| {
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
    assert!(told.ends_with("has the id of another event: e0"), "{told}");
}

#[test]
fn a_repetition_of_nothing_is_found() {
    let told = fault(|records, _| {
        let last = records[5].headers.len() - 1;
        records[5].headers[last].1 = b"e9".to_vec();
    });
    assert_eq!(told, "raw 0/1 repeats event e9, which is not there");
}

#[test]
fn a_request_twice_on_raw_is_found() {
    let told = fault(|records, acked| {
        records[1].headers[0].1 = request(0);
        records[5].headers[0].1 = request(0);
        // The second's own acknowledgement would be a fault of its own.
        acked.remove(1);
        records[1].value = b"body 0".to_vec();
        records[5].value = b"body 0".to_vec();
    });
    assert!(told.contains("on raw twice"), "{told}");
}
