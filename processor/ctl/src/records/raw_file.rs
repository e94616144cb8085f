//! One raw record as a file: what `show --raw` prints, and what a command that judges it reads back.
//!
//! JSON, UTF-8. Key, body and the values of headers are base64, so that each comes back byte for byte. A file
//! with masks has none of them and is refused where it is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::record::Record;

use super::mask;
use super::window::shown;

/// What the member `sluice` says.
const KIND: &str = "raw-record";

/// The version of the form that is written here, and the newest that is read.
pub const VERSION: u64 = 1;

/// Bytes in base64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[derive(Serialize, Deserialize)]
struct Wire {
    sluice: String,
    v: u64,
    topic: String,
    partition: i32,
    offset: i64,
    /// Milliseconds since 1970.
    timestamp: i64,
    key: String,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Deserialize)]
struct Head {
    sluice: String,
    v: u64,
    #[serde(default)]
    masked: bool,
}

/// A record with all of its bytes.
pub fn print(record: &Record) -> String {
    let headers = record.headers.iter();
    let wire = Wire {
        sluice: KIND.to_owned(),
        v: VERSION,
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: base64(&record.key),
        headers: headers
            .map(|(name, value)| (name.clone(), base64(value)))
            .collect(),
        body: base64(&record.value),
    };
    pretty(&serde_json::json!(wire))
}

/// What may be shown of a record: the request that it is of, and how large it is.
pub fn print_masked(record: &Record) -> String {
    let decoded = record.header(REQUEST).map(RawRequest::decode);
    let request = match &decoded {
        Some(Ok(request)) => mask::request(request, false),
        Some(Err(_)) | None => Value::Null,
    };
    let names: Vec<&String> = record.headers.iter().map(|(name, _)| name).collect();
    pretty(&serde_json::json!({
        "sluice": KIND,
        "v": VERSION,
        "masked": true,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "time": shown(record.timestamp),
        "header_names": names,
        "request": request,
        "body": mask::body(&record.value, false),
    }))
}

fn pretty(value: &Value) -> String {
    // A value of JSON is always printable.
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Reads a file back; else a sentence that says what to do.
pub fn parse(bytes: &[u8]) -> Result<Record, String> {
    let other = "the file is no raw record as `sluicectl show --raw PARTITION OFFSET --show-bodies` writes it";
    let Ok(Head { sluice, v, masked }) = serde_json::from_slice(bytes) else {
        return Err(other.to_owned());
    };
    if sluice != KIND {
        return Err(other.to_owned());
    }
    if v > VERSION {
        return Err(format!(
            "the file is of version {v}, and this sluicectl reads up to {VERSION}: use the release that wrote it"
        ));
    }
    if masked {
        return Err(
            "the file has masks in the place of body and headers: write it again with `sluicectl show --raw \
             PARTITION OFFSET --show-bodies`"
                .to_owned(),
        );
    }
    let wire: Wire = serde_json::from_slice(bytes)
        .map_err(|error| format!("{other}: line {} column {}", error.line(), error.column()))?;
    let bytes = |what: &str, text: &str| {
        let read = STANDARD.decode(text);
        read.map_err(|_| format!("{other}: {what} is not base64"))
    };
    let header = |(name, value): &(String, String)| {
        let value = bytes(&format!("the header {name}"), value)?;
        Ok((name.clone(), value))
    };
    let headers: Result<Vec<_>, String> = wire.headers.iter().map(header).collect();
    Ok(Record {
        key: bytes("the key", &wire.key)?,
        value: bytes("the body", &wire.body)?,
        headers: headers?,
        topic: wire.topic,
        partition: wire.partition,
        offset: wire.offset,
        timestamp: wire.timestamp,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with every byte in its body and in a header, and with a header twice.
    fn record() -> Record {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        Record {
            topic: "p.webhooks.raw".to_owned(),
            partition: 3,
            offset: i64::MAX,
            timestamp: 1_700_000_000_123,
            key: vec![0, 0xff],
            value: all.clone(),
            headers: vec![
                header("request", &all),
                header("traceparent", b""),
                header("request", b"second"),
                header("ä", b"\n"),
            ],
        }
    }

    #[test]
    fn a_record_comes_back_byte_for_byte() {
        let record = record();
        assert_eq!(parse(print(&record).as_bytes()), Ok(record));
        let empty = Record {
            key: Vec::new(),
            value: Vec::new(),
            headers: Vec::new(),
            ..self::record()
        };
        assert_eq!(parse(print(&empty).as_bytes()), Ok(empty));
    }

    #[test]
    fn version_1_still_reads_and_is_still_written() {
        let text = r#"{
  "body": "e30=",
  "headers": [
    [
      "request",
      "AAE="
    ]
  ],
  "key": "aw==",
  "offset": 42,
  "partition": 3,
  "sluice": "raw-record",
  "timestamp": 1700000000123,
  "topic": "webhooks.raw",
  "v": 1
}"#;
        let record = parse(text.as_bytes()).expect("a record");
        assert_eq!((record.value.as_slice(), record.offset), (&b"{}"[..], 42));
        assert_eq!(record.headers, [("request".to_owned(), vec![0, 1])]);
        assert_eq!(print(&record), text);
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_what_to_do() {
        let fault = |text: &str| parse(text.as_bytes()).expect_err("no record");
        let masked = print_masked(&record());
        assert!(!masked.contains("AAEC"), "{masked}");
        assert!(
            fault(&masked).contains("--show-bodies"),
            "{}",
            fault(&masked)
        );
        for text in ["", "{}", "[1]", r#"{"sluice":"other","v":1}"#] {
            assert!(fault(text).contains("is no raw record"), "{text}");
        }
        let good = print(&record());
        let newer = good.replace("\"v\": 1", "\"v\": 2");
        assert!(fault(&newer).contains("of version 2"), "{newer}");
        let cut = good.replace("\"body\": \"", "\"body\": \"?");
        assert!(fault(&cut).contains("the body is not base64"), "{cut}");
        let lacking = good.replace("\"body\"", "\"bodies\"");
        assert!(fault(&lacking).contains("is no raw record"), "{lacking}");
    }
}
