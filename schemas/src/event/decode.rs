//! The event in a value, and which raw record it was made of.

use std::sync::LazyLock;

use apache_avro::reader::datum::GenericDatumReader;
use serde::Deserialize;
use thiserror::Error;

use super::{CONTENT_TYPE_CONFLUENT, CONTENT_TYPE_SINGLE_OBJECT, PARSED, WebhookEvent};

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

/// The columns that say which event it is, and of which raw record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename = "WebhookEvent")]
#[expect(
    missing_docs,
    reason = "the schema documents every column, under the same names"
)]
pub struct Named {
    pub id: String,
    pub source: String,
    pub received_at: i64,
    pub request_id: String,
    pub raw_partition: i32,
    pub raw_offset: i64,
}

/// Reads these columns alone: for who looks at very many events.
pub fn named(content_type: Option<&str>, value: &[u8]) -> Result<Named, DecodeError> {
    let mut datum = framed(content_type, value)?;
    Ok(READER.read_deser(&mut datum)?)
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

/// Why a value is no event.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The header `content-type` names neither framing; the text is what it says.
    #[error("content-type {0:?} is none of ours")]
    ContentType(Option<String>),
    /// The value does not begin as its content type demands.
    #[error("not framed as {0}")]
    Framing(&'static str),
    /// The value does not follow the schema.
    #[error(transparent)]
    Datum(#[from] apache_avro::Error),
    /// So many bytes stand behind the event.
    #[error("{0} bytes follow the event")]
    Trailing(usize),
}

/// The event in a value that is framed as the header `content-type` says. Neither the fingerprint nor the
/// schema's id is judged: a reader of ours knows one schema, and reads every column of it.
pub fn decode(content_type: Option<&str>, value: &[u8]) -> Result<WebhookEvent, DecodeError> {
    match decode_known(content_type, value)? {
        (event, 0) => Ok(event),
        (_, more) => Err(DecodeError::Trailing(more)),
    }
}

/// The same for who reads the columns that are known here, whatever a newer release writes behind them; with
/// the number of bytes that are not read.
pub fn decode_known(
    content_type: Option<&str>,
    value: &[u8],
) -> Result<(WebhookEvent, usize), DecodeError> {
    let mut datum = framed(content_type, value)?;
    let event = READER.read_deser(&mut datum)?;
    Ok((event, datum.len()))
}

/// What stands behind the frame that the header `content-type` promises.
fn framed<'v>(content_type: Option<&str>, value: &'v [u8]) -> Result<&'v [u8], DecodeError> {
    let (name, start, id): (_, &[u8], _) = match content_type {
        Some(CONTENT_TYPE_SINGLE_OBJECT) => (CONTENT_TYPE_SINGLE_OBJECT, &[0xc3, 0x01], 8),
        Some(CONTENT_TYPE_CONFLUENT) => (CONTENT_TYPE_CONFLUENT, &[0], 4),
        other => return Err(DecodeError::ContentType(other.map(str::to_owned))),
    };
    let datum = value.strip_prefix(start).and_then(|rest| rest.get(id..));
    datum.ok_or(DecodeError::Framing(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Authenticity, Envelope, FINGERPRINT, Fields};

    /// An event of raw 3/4, and its datum.
    fn event() -> (WebhookEvent, Vec<u8>) {
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&PARSED)
            .build()
            .expect("a writer");
        let fields = Fields {
            r#type: "t".into(),
            position: Some(1),
            published_at: Some(2),
            ..Fields::default()
        };
        let event = fields.into_event(Envelope {
            id: "i".into(),
            source: "s".into(),
            provider: "p".into(),
            subject: None,
            received_at: 1,
            authenticity: Authenticity::Token.name().into(),
            signature_scheme: None,
            key_id: None,
            request_id: "r".into(),
            raw_partition: 3,
            raw_offset: 4,
            data: "{}".into(),
        });
        let datum = writer.write_ser_to_vec(&event).expect("an event");
        (event, datum)
    }

    #[test]
    fn an_event_is_decoded_from_either_framing_and_from_no_other() {
        let (event, datum) = event();
        let single = [&[0xc3, 0x01], FINGERPRINT.as_slice(), &datum].concat();
        let confluent = [&[0, 0, 0, 0, 7], datum.as_slice()].concat();
        let framings = [
            (CONTENT_TYPE_SINGLE_OBJECT, &single, &confluent),
            (CONTENT_TYPE_CONFLUENT, &confluent, &single),
        ];
        for (name, framed, other) in framings {
            assert_eq!(decode(Some(name), framed).expect("an event"), event);
            let fault = |value: &[u8]| decode(Some(name), value).expect_err("no event").to_string();
            assert_eq!(fault(other), format!("not framed as {name}"));
            assert_eq!(fault(&framed[..3]), format!("not framed as {name}"));
            assert_eq!(
                fault(&[framed, b"abc".as_slice()].concat()),
                "3 bytes follow the event"
            );
            let newer = [framed, b"abc".as_slice()].concat();
            let known = decode_known(Some(name), &newer).expect("known columns");
            assert_eq!(known, (event.clone(), 3));
            let Named { id, raw_offset, .. } = named(Some(name), &newer).expect("its name");
            assert_eq!((id, raw_offset), (event.id.clone(), event.raw_offset));
            assert!(named(None, &newer).is_err());
            assert!(decode(Some(name), &framed[..framed.len() - 1]).is_err());
        }
        assert!(matches!(
            decode(None, &single),
            Err(DecodeError::ContentType(None))
        ));
        assert!(decode(Some("text/plain"), &single).is_err());
    }

    #[test]
    fn the_origin_of_an_event_is_read_from_either_framing() {
        let (_, datum) = event();
        let single = [&[0xc3, 0x01], FINGERPRINT.as_slice(), &datum].concat();
        let confluent = [&[0, 0, 0, 0, 7], datum.as_slice(), b"a later column"].concat();
        for framed in [single, confluent] {
            assert_eq!(origin(&framed), Some((3, 4)));
            assert_eq!(origin(&framed[..framed.len() / 2]), None);
        }
        assert_eq!(origin(b""), None);
        assert_eq!(origin(b"{}"), None);
    }
}
