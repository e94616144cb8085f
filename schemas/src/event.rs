//! The event: one flat Avro record for all providers, `sluice.v1.WebhookEvent`.

use std::sync::LazyLock;

use apache_avro::Schema;
use serde::{Deserialize, Serialize};

/// The schema as it is registered: `schemas/avro/webhook_event.avsc`.
pub const SCHEMA: &str = include_str!("../avro/webhook_event.avsc");

/// The schema, parsed once.
pub static PARSED: LazyLock<Schema> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a test parses this very text")]
    Schema::parse_str(SCHEMA).expect("the schema is compiled in")
});

/// `content-type` of a value in Confluent's wire format.
pub const CONTENT_TYPE_CONFLUENT: &str = "application/vnd.confluent.avro";
/// `content-type` of a value in Avro's single-object encoding.
pub const CONTENT_TYPE_SINGLE_OBJECT: &str = "application/avro";
/// Kafka header: how the value is framed.
pub const CONTENT_TYPE: &str = "content-type";

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
