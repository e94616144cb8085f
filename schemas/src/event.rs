//! The event: one flat Avro record for all providers, `sluice.v1.WebhookEvent`.

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use serde::{Deserialize, Serialize};

/// The schema as it is registered: `schemas/avro/webhook_event.avsc`.
pub const SCHEMA: &str = include_str!("../avro/webhook_event.avsc");

/// The schema, parsed once.
pub static PARSED: LazyLock<Schema> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a test parses this very text")]
    Schema::parse_str(SCHEMA).expect("the schema is compiled in")
});

/// The schema's CRC-64-AVRO fingerprint as single-object encoding carries it, low byte first.
///
/// Pinned, and not asked of the library: its canonical form leaves a type with a logical type as an
/// object where the specification reduces it to its name, so that no other reader would know ours.
pub const FINGERPRINT: [u8; 8] = [0x62, 0x59, 0x4d, 0xec, 0x21, 0x7c, 0xb9, 0xa5];

/// `content-type` of a value in Confluent's wire format.
pub const CONTENT_TYPE_CONFLUENT: &str = "application/vnd.confluent.avro";
/// `content-type` of a value in Avro's single-object encoding.
pub const CONTENT_TYPE_SINGLE_OBJECT: &str = "application/avro";
/// Kafka header: how the value is framed.
pub const CONTENT_TYPE: &str = "content-type";

static READER: LazyLock<GenericDatumReader<'static>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the schema refers to none but itself")]
    GenericDatumReader::builder(&PARSED)
        .build()
        .expect("our own schema resolves")
});

/// The columns that name the raw record of an event.
#[derive(Deserialize)]
#[serde(rename = "WebhookEvent")]
struct Origin {
    raw_partition: i32,
    raw_offset: i64,
}

/// The partition and the offset of the raw record that an event was made of; `None` where the value is
/// no event. Columns that a newer release adds stand behind those known here and are not read.
pub fn origin(value: &[u8]) -> Option<(i32, i64)> {
    let mut datum = match value {
        [0xc3, 0x01, framed @ ..] => framed.get(8..)?,
        [0, framed @ ..] => framed.get(4..)?,
        _ => return None,
    };
    let origin: Origin = READER.read_deser(&mut datum).ok()?;
    Some((origin.raw_partition, origin.raw_offset))
}

/// How much of a delivery is proved to come from the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authenticity {
    /// All of the body is under the signature.
    Signed,
    /// Some fields of the body stand outside what is signed.
    PartiallySigned,
    /// No signature: the request carried what only the provider knows.
    Token,
}

impl Authenticity {
    /// The name in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::PartiallySigned => "partially_signed",
            Self::Token => "token",
        }
    }
}

/// The columns that a provider's payload fills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the schema documents every column, under the same names"
)]
pub struct Fields {
    /// The event's type, such as `signup.position_changed`.
    pub r#type: String,
    /// Milliseconds since 1970.
    pub occurred_at: Option<i64>,
    pub entity_type: Option<String>,
    pub entity_id: Option<String>,
    pub scope_type: Option<String>,
    pub scope_id: Option<String>,
    pub organization_id: Option<String>,
    pub application_id: Option<String>,
    pub environment: Option<String>,
    pub person_id: Option<String>,
    pub person_email: Option<String>,
    pub person_name: Option<String>,
    pub referrer_id: Option<String>,
    pub invitee_id: Option<String>,
    pub referral_code: Option<String>,
    pub referrer_reward_id: Option<String>,
    pub invitee_reward_id: Option<String>,
    pub position: Option<i32>,
    pub previous_position: Option<i32>,
    pub title: Option<String>,
    pub url: Option<String>,
    pub author: Option<String>,
    pub content_type: Option<String>,
    pub section_id: Option<String>,
    /// A JSON array, compact.
    pub tags: Option<String>,
    /// Milliseconds since 1970.
    pub published_at: Option<i64>,
    pub delivery_id: Option<String>,
}

impl Fields {
    /// The columns with U+FFFD where a sender wrote U+0000: `PostgreSQL` takes U+0000 in no text, so one
    /// such name would stop a sink. The body as received keeps it.
    #[must_use]
    pub fn without_nul(mut self) -> Self {
        // All by name, so that a column that is added is put on one of the two sides.
        let Self {
            r#type,
            occurred_at: _,
            entity_type,
            entity_id,
            scope_type,
            scope_id,
            organization_id,
            application_id,
            environment,
            person_id,
            person_email,
            person_name,
            referrer_id,
            invitee_id,
            referral_code,
            referrer_reward_id,
            invitee_reward_id,
            position: _,
            previous_position: _,
            title,
            url,
            author,
            content_type,
            section_id,
            tags,
            published_at: _,
            delivery_id,
        } = &mut self;
        let texts = [
            entity_type,
            entity_id,
            scope_type,
            scope_id,
            organization_id,
            application_id,
            environment,
            person_id,
            person_email,
            person_name,
            referrer_id,
            invitee_id,
            referral_code,
            referrer_reward_id,
            invitee_reward_id,
            title,
            url,
            author,
            content_type,
            section_id,
            tags,
            delivery_id,
        ];
        let texts = texts.into_iter().filter_map(Option::as_mut);
        for text in texts.chain([r#type]) {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
        }
        self
    }
}

/// The event as it is written; fields stand in the order of the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the schema documents every column, under the same names"
)]
pub struct WebhookEvent {
    pub id: String,
    pub source: String,
    pub provider: String,
    pub r#type: String,
    pub subject: Option<String>,
    pub occurred_at: Option<i64>,
    pub received_at: i64,
    pub entity_type: Option<String>,
    pub entity_id: Option<String>,
    pub scope_type: Option<String>,
    pub scope_id: Option<String>,
    pub organization_id: Option<String>,
    pub application_id: Option<String>,
    pub environment: Option<String>,
    pub person_id: Option<String>,
    pub person_email: Option<String>,
    pub person_name: Option<String>,
    pub referrer_id: Option<String>,
    pub invitee_id: Option<String>,
    pub referral_code: Option<String>,
    pub referrer_reward_id: Option<String>,
    pub invitee_reward_id: Option<String>,
    pub position: Option<i32>,
    pub previous_position: Option<i32>,
    pub title: Option<String>,
    pub url: Option<String>,
    pub author: Option<String>,
    pub content_type: Option<String>,
    pub section_id: Option<String>,
    pub tags: Option<String>,
    pub published_at: Option<i64>,
    pub delivery_id: Option<String>,
    pub authenticity: String,
    pub signature_scheme: Option<String>,
    pub key_id: Option<String>,
    pub request_id: String,
    pub raw_partition: i32,
    pub raw_offset: i64,
    pub data: String,
}

#[cfg(test)]
mod tests {
    use apache_avro::rabin::Rabin;

    use super::*;

    /// CRC-64-AVRO as the specification's appendix has it.
    fn crc(text: &str) -> u64 {
        const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
        text.bytes().fold(EMPTY, |hash, byte| {
            let mut low = (hash ^ u64::from(byte)) & 0xff;
            for _ in 0..8 {
                low = (low >> 1) ^ (EMPTY & (low & 1).wrapping_neg());
            }
            (hash >> 8) ^ low
        })
    }

    #[test]
    fn the_fingerprint_is_that_of_the_specified_canonical_form() {
        let canonical = PARSED.canonical_form();
        // The check of the check: over the library's own form we agree with the library.
        let own = PARSED.fingerprint::<Rabin>().bytes;
        assert_eq!(crc(&canonical).to_le_bytes().to_vec(), own);
        let specified = canonical.replace(r#"{"type":"long"}"#, r#""long""#);
        assert_eq!(crc(&specified).to_le_bytes(), FINGERPRINT);
    }

    #[test]
    fn the_struct_has_the_columns_of_the_schema_in_their_order() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
        let columns = schema["fields"].as_array().expect("fields").iter();
        let columns: Vec<&str> = columns.filter_map(|field| field["name"].as_str()).collect();
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&PARSED)
            .build()
            .expect("a writer");
        let event = WebhookEvent {
            id: "i".into(),
            source: "s".into(),
            provider: "p".into(),
            r#type: "t".into(),
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
            position: Some(1),
            previous_position: None,
            title: None,
            url: None,
            author: None,
            content_type: None,
            section_id: None,
            tags: None,
            published_at: Some(2),
            delivery_id: None,
            authenticity: Authenticity::Token.name().into(),
            signature_scheme: None,
            key_id: None,
            request_id: "r".into(),
            raw_partition: 3,
            raw_offset: 4,
            data: "{}".into(),
        };
        let datum = writer.write_ser_to_vec(&event).expect("an event");
        let single = [&[0xc3, 0x01], FINGERPRINT.as_slice(), &datum].concat();
        let confluent = [&[0, 0, 0, 0, 7], datum.as_slice(), b"a later column"].concat();
        for framed in [single, confluent] {
            assert_eq!(origin(&framed), Some((3, 4)));
            assert_eq!(origin(&framed[..framed.len() / 2]), None);
        }
        assert_eq!(origin(b""), None);
        assert_eq!(origin(b"{}"), None);
        let json = serde_json::to_string(&event).expect("JSON");
        let mut from = 0;
        for column in columns {
            let place = json[from..].find(&format!("\"{column}\":"));
            from += place.unwrap_or_else(|| panic!("{column} is missing or out of order"));
        }
    }
}
