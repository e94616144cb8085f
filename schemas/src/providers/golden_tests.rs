//! Partition key, identity, event id and Avro bytes of every fixture, compared with a golden file: what the
//! providers write to Kafka, byte for byte.

use std::fmt::Write as _;
use std::fs;

use apache_avro::writer::datum::GenericDatumWriter;

use super::api::{Authentic, partition_key};
use super::fixture::{Fixture, fixtures, folder};
use crate::event::{Envelope, FINGERPRINT, InOrder, PARSED, WebhookEvent};
use crate::identity::{event_id, fingerprint};
use hex::encode as hex;

/// Where the raw record of each fixture is taken to stand.
const RAW: (i32, i64) = (3, 4_000_000_000);

#[test]
fn no_byte_that_a_provider_decides_differs_from_the_golden_file() {
    let path = folder("fixtures.golden.txt");
    let found: String = fixtures().iter().map(shown).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).expect("the golden file");
        return;
    }
    let golden = fs::read_to_string(&path).expect("the golden file");
    for (found, golden) in found.lines().zip(golden.lines()) {
        assert_eq!(found, golden);
    }
    assert_eq!(found.lines().count(), golden.lines().count());
}

fn shown(fixture: &Fixture) -> String {
    let name = fixture.path.file_stem().expect("a name").to_string_lossy();
    let mut text = format!("{}/{name}\n", fixture.provider.spec().name);
    let mut line = |what: &str, value: &str| {
        writeln!(text, "  {what}: {value}").expect("a text takes a line");
    };
    let key = partition_key(
        fixture.verifier.as_ref(),
        &fixture.request.headers,
        &fixture.body,
    );
    line("partition key", &hex(&key));
    match fixture.verify() {
        Ok(authentic) => {
            let identity = authentic.payload.identity();
            for part in &identity.parts {
                line("identity", &hex(part));
            }
            if let Some(sequence) = &identity.sequence {
                line("sequence entity", &hex(&sequence.entity));
                line("sequence MAC", &hex(sequence.mac));
            }
            let parts = identity.parts.iter().map(Vec::as_slice);
            let id = event_id(&fingerprint(&fixture.request.source, parts)).to_string();
            line("event id", &id);
            line("Avro", &hex(single_object(&event(fixture, authentic, id))));
        }
        Err(refusal) => line("reason", refusal.reason.name()),
    }
    text
}

/// The event, as the processor makes it.
fn event(fixture: &Fixture, authentic: Authentic<'_>, id: String) -> WebhookEvent {
    let (request, proof) = (&fixture.request, authentic.proof);
    let fields = authentic.payload.fields().without_nul();
    let subject = (fields.entity_type.as_ref()).zip(fields.entity_id.as_ref());
    let subject = subject.map(|(kind, id)| format!("{kind}/{id}"));
    fields.into_event(Envelope {
        id,
        source: request.source.clone(),
        provider: request.provider.clone(),
        subject,
        received_at: request.received_at.div_euclid(1000),
        authenticity: proof.authenticity.name().to_owned(),
        signature_scheme: proof.scheme.map(str::to_owned),
        key_id: proof.key_id,
        request_id: request.id.to_string(),
        raw_partition: RAW.0,
        raw_offset: RAW.1,
        data: String::from_utf8(fixture.body.clone()).expect("an authentic body is UTF-8"),
    })
}

fn single_object(event: &WebhookEvent) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(&PARSED).build();
    let writer = writer.expect("a writer");
    let datum = writer.write_ser_to_vec(event).expect("an event");
    let in_order = writer.write_ser_to_vec(&InOrder(event));
    assert_eq!(in_order.expect("an event"), datum, "columns by their names");
    [&[0xc3, 0x01], FINGERPRINT.as_slice(), &datum].concat()
}
