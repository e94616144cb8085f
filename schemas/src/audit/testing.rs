//! Records that are sound, for tests that plant violations among them. Never in a binary that ships.

#![expect(clippy::expect_used, reason = "a test fails by it")]

use std::net::IpAddr;

use apache_avro::{GenericSingleObjectWriter, to_value};
use uuid::Uuid;

use super::{Acked, digest};
use crate::event::{CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT, Envelope, Fields, PARSED};
use crate::fate::{DUPLICATE_OF, RAW_OFFSET, RAW_PARTITION, RAW_TOPIC, REASON};
use crate::raw::{Ack, Headers, REQUEST, RawRequest};
use crate::record::Record;
use crate::topic::TopicNames;

/// The names without a prefix.
pub const NAMES: TopicNames = TopicNames {
    prefix: String::new(),
};

/// A record of partition 0.
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

/// The id of the request that stands at an offset of raw.
pub fn id(n: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(n).expect("positive") + 1)
}

/// The header of the raw record at an offset.
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

/// The value of an event of raw partition 0.
pub fn event(event_id: &str, raw_offset: i64, data: &str) -> Vec<u8> {
    event_at(event_id, 0, raw_offset, data)
}

/// The value of an event, in single-object encoding.
pub fn event_at(event_id: &str, raw_partition: i32, raw_offset: i64, data: &str) -> Vec<u8> {
    let text = || "x".to_owned();
    let fields = Fields {
        r#type: text(),
        ..Fields::default()
    };
    let event = fields.into_event(Envelope {
        id: event_id.into(),
        source: text(),
        provider: text(),
        subject: None,
        received_at: 1,
        authenticity: text(),
        signature_scheme: None,
        key_id: None,
        request_id: text(),
        raw_partition,
        raw_offset,
        data: data.into(),
    });
    let value = to_value(event).and_then(|value| value.resolve(&PARSED));
    let mut bytes = Vec::new();
    GenericSingleObjectWriter::new_with_capacity(&PARSED, 1024)
        .and_then(|mut writer| writer.write_value(value?, &mut bytes))
        .expect("an event is writable");
    bytes
}

/// The body of the sound record at an offset: the second repeats the first.
pub fn body(n: i64) -> String {
    format!("body {}", if n == 1 { 0 } else { n })
}

/// Raw 0 became an event, 1 repeats it, 2 was rejected, 3 is a dead letter.
pub fn sound() -> (Vec<Record>, Vec<Acked>) {
    let mut records = Vec::new();
    let mut acked = Vec::new();
    for n in 0..4 {
        let body = body(n);
        records.push(record(
            "webhooks.raw",
            n,
            body.as_bytes(),
            &[(REQUEST, &request(n))],
        ));
        acked.push(Acked {
            id: id(n).to_string(),
            digest: digest(body.as_bytes()),
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
        let (offset, body) = (n.to_string(), body(n));
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
