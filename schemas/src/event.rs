//! The event: one flat Avro record for all providers, `sluice.v1.WebhookEvent`.

use std::sync::LazyLock;

use apache_avro::Schema;
use serde::ser::SerializeTupleStruct;
use serde::{Deserialize, Serialize, Serializer};

mod decode;

pub use decode::{DecodeError, Named, decode, decode_known, named, origin};

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

/// A column's type, as Avro sees it.
trait Column {
    /// The Avro type, without null.
    #[cfg(test)]
    const AVRO: &'static str;
    /// Whether the column may be null.
    #[cfg(test)]
    const NULLABLE: bool = false;

    /// The text of the column, where it holds one.
    fn text(&mut self) -> Option<&mut String> {
        None
    }
}

impl Column for String {
    #[cfg(test)]
    const AVRO: &'static str = "string";

    fn text(&mut self) -> Option<&mut String> {
        Some(self)
    }
}

impl Column for i32 {
    #[cfg(test)]
    const AVRO: &'static str = "int";
}

impl Column for i64 {
    #[cfg(test)]
    const AVRO: &'static str = "long";
}

impl<T: Column> Column for Option<T> {
    #[cfg(test)]
    const AVRO: &'static str = T::AVRO;
    #[cfg(test)]
    const NULLABLE: bool = true;

    fn text(&mut self) -> Option<&mut String> {
        self.as_mut()?.text()
    }
}

/// An event as its columns in the order of the schema, without their names: the Avro library then looks none
/// of them up. A test compares the two orders.
pub struct InOrder<'a>(pub &'a WebhookEvent);

/// Writes each column once: groups in the order of the schema, `payload` for what the provider's payload
/// fills ([`Fields`]), `envelope` for what the processor adds ([`Envelope`]). A test compares them with the
/// schema.
macro_rules! columns {
    // All groups are sorted: the payload's columns, the envelope's, and all in their order.
    (@ [$($p:ident: $pt:ty,)*] [$($e:ident: $et:ty,)*] [$($c:ident: $ct:ty,)*]) => {
        /// The columns that a provider's payload fills.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        #[expect(missing_docs, reason = "the schema documents every column, under the same names")]
        pub struct Fields { $(pub $p: $pt,)* }

        /// The columns that the processor adds to those of the payload.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the schema documents every column, under the same names")]
        pub struct Envelope { $(pub $e: $et,)* }

        /// The event as it is written; columns stand in the order of the schema.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "the schema documents every column, under the same names")]
        pub struct WebhookEvent { $(pub $c: $ct,)* }

        impl Fields {
            /// The columns with U+FFFD where a sender wrote U+0000: `PostgreSQL` takes U+0000 in no text, so
            /// one such name would stop a sink. The body as received keeps it.
            #[must_use]
            pub fn without_nul(mut self) -> Self {
                let texts = [$(Column::text(&mut self.$p),)*];
                for text in texts.into_iter().flatten().filter(|text| text.contains('\0')) {
                    *text = text.replace('\0', "\u{fffd}");
                }
                self
            }

            /// The event of this payload.
            #[must_use]
            pub fn into_event(self, envelope: Envelope) -> WebhookEvent {
                WebhookEvent { $($p: self.$p,)* $($e: envelope.$e,)* }
            }
        }

        impl Serialize for InOrder<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                const COUNT: usize = [$(stringify!($c)),*].len();
                let mut row = serializer.serialize_tuple_struct("WebhookEvent", COUNT)?;
                $(row.serialize_field(&self.0.$c)?;)*
                row.end()
            }
        }

        /// Each column's name, its Avro type, and whether it may be null.
        #[cfg(test)]
        const COLUMNS: &[(&str, &str, bool)] =
            &[$((stringify!($c), <$ct as Column>::AVRO, <$ct as Column>::NULLABLE),)*];
    };
    (@ [$($p:tt)*] [$($e:tt)*] [$($c:tt)*] payload { $($new:tt)* } $($rest:tt)*) => {
        columns! { @ [$($p)* $($new)*] [$($e)*] [$($c)* $($new)*] $($rest)* }
    };
    (@ [$($p:tt)*] [$($e:tt)*] [$($c:tt)*] envelope { $($new:tt)* } $($rest:tt)*) => {
        columns! { @ [$($p)*] [$($e)* $($new)*] [$($c)* $($new)*] $($rest)* }
    };
    ($first:ident { $($columns:tt)* } $($rest:tt)*) => {
        columns! { @ [] [] [] $first { $($columns)* } $($rest)* }
    };
}

columns! {
    envelope {
        id: String,
        source: String,
        provider: String,
    }
    payload {
        r#type: String,
    }
    envelope {
        subject: Option<String>,
    }
    // Times are milliseconds since 1970.
    payload {
        occurred_at: Option<i64>,
    }
    envelope {
        received_at: i64,
    }
    payload {
        entity_type: Option<String>,
        entity_id: Option<String>,
        scope_type: Option<String>,
        scope_id: Option<String>,
        organization_id: Option<String>,
        application_id: Option<String>,
        environment: Option<String>,
        person_id: Option<String>,
        person_email: Option<String>,
        person_name: Option<String>,
        referrer_id: Option<String>,
        invitee_id: Option<String>,
        referral_code: Option<String>,
        referrer_reward_id: Option<String>,
        invitee_reward_id: Option<String>,
        position: Option<i32>,
        previous_position: Option<i32>,
        title: Option<String>,
        url: Option<String>,
        author: Option<String>,
        content_type: Option<String>,
        section_id: Option<String>,
        tags: Option<String>,
        published_at: Option<i64>,
        delivery_id: Option<String>,
    }
    envelope {
        authenticity: String,
        signature_scheme: Option<String>,
        key_id: Option<String>,
        request_id: String,
        raw_partition: i32,
        raw_offset: i64,
        data: String,
    }
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
    fn the_columns_are_those_of_the_schema_in_order_type_and_nullability() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).expect("JSON");
        let columns = schema["fields"].as_array().expect("fields").iter();
        let columns: Vec<(&str, &str, bool)> = columns.map(column).collect();
        let ours = COLUMNS.iter();
        let ours: Vec<(&str, &str, bool)> = ours
            .map(|(name, avro, null)| (name.trim_start_matches("r#"), *avro, *null))
            .collect();
        assert_eq!(ours, columns);
    }

    /// A column of the schema: its name, its Avro type without null and logical type, and whether it may be
    /// null. Null stands first in a union, and is the default.
    fn column(field: &serde_json::Value) -> (&str, &str, bool) {
        let (avro, is_nullable) = match field["type"].as_array() {
            Some(union) => {
                assert_eq!((union.len(), union[0].as_str()), (2, Some("null")));
                assert_eq!(field.get("default"), Some(&serde_json::Value::Null));
                (&union[1], true)
            }
            None => (&field["type"], false),
        };
        let avro = avro.as_str().or_else(|| avro["type"].as_str());
        let name = field["name"].as_str().expect("a name");
        (name, avro.expect("a type"), is_nullable)
    }
}
