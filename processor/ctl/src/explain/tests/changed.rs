//! Bodies and headers that something on the way changed.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use sluice_schemas::providers::ALL;

use super::super::cause::Cause;
use super::super::guess::inflate::inflated;
use super::{Sent, bench, broken, sent, unbase64};

#[test]
fn a_body_that_was_written_again_is_found() {
    let text = |sent: &Sent| String::from_utf8(sent.body.clone()).expect("UTF-8");
    let value = move |sent: &Sent| -> Value { serde_json::from_str(&text(sent)).expect("JSON") };
    let cause = Cause::ReserialisedBody;
    broken("pretty", cause, &|sent| {
        sent.body = serde_json::to_vec_pretty(&value(sent)).expect("JSON");
    });
    broken("sorted", cause, &|sent| {
        sent.body = value(sent).to_string().into_bytes();
    });
    broken("blanks", cause, &|sent| {
        sent.body = text(sent)
            .replace("\":", "\": ")
            .replace(",\"", ", \"")
            .into_bytes();
    });
    broken("a line end", cause, &|sent| sent.body.push(b'\n'));
    broken("a mark", cause, &|sent| {
        sent.body.splice(0..0, *b"\xef\xbb\xbf").for_each(drop);
    });
    broken("escapes", cause, &|sent| {
        let whole = text(sent);
        let escaped = whole.chars().map(|c| match c {
            _ if c.is_ascii() => c.to_string(),
            _ => format!("\\u{:04x}", u32::from(c)),
        });
        let escaped: String = escaped.collect();
        sent.body = escaped
            .replace('/', "\\/")
            .replace(":{", ": {")
            .into_bytes();
    });
}

#[test]
fn a_body_in_other_wrappings_is_found() {
    let gzip = "H4sIAAAAAAAA/w==";
    assert!(inflated(&unbase64(gzip)).is_none());
    broken("zlib", Cause::CompressedBody, &|sent| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&sent.body).expect("memory");
        sent.body = encoder.finish().expect("memory");
    });
    broken("gzip", Cause::CompressedBody, &|sent| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&sent.body).expect("memory");
        sent.body = encoder.finish().expect("memory");
    });
    broken("a form", Cause::FormEncoded, &|sent| {
        let escaped = sent.body.iter().map(|byte| format!("%{byte:02X}"));
        sent.body = format!("payload={}", escaped.collect::<String>()).into_bytes();
    });
    broken("base64", Cause::BodyWrapped, &|sent| {
        sent.body = STANDARD.encode(&sent.body).into_bytes();
    });
    broken("an envelope", Cause::BodyWrapped, &|sent| {
        let text = String::from_utf8(sent.body.clone()).expect("UTF-8");
        sent.body = json!({"isBase64Encoded": false, "body": text})
            .to_string()
            .into_bytes();
    });
    broken("cut", Cause::BodyTruncated, &|sent| {
        sent.body.truncate(sent.body.len() - 1);
    });
    broken("cut in half", Cause::BodyTruncated, &|sent| {
        sent.body.truncate(sent.body.len() / 2);
    });
    broken("empty", Cause::BodyEmpty, &|sent| sent.body.clear());
    broken("Latin-1", Cause::Charset, &|sent| {
        let text = String::from_utf8(sent.body.clone()).expect("UTF-8");
        if !text.is_ascii() {
            sent.body = text
                .chars()
                .map(|c| u8::try_from(c).expect("Latin-1"))
                .collect();
        }
    });
    broken("UTF-16", Cause::Charset, &|sent| {
        let text = String::from_utf8(sent.body.clone()).expect("UTF-8");
        sent.body = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    });
}

#[test]
fn a_header_that_was_changed_is_found() {
    broken("twice", Cause::HeaderRepeated, &|sent| {
        let first = sent.header(0).clone();
        sent.request.headers.0.push(first);
    });
    broken("joined", Cause::HeaderFolded, &|sent| {
        // A signature by versions may be joined; the header behind it, or the only one, may not.
        let at = usize::from(sent.request.headers.0[0].1.starts_with(b"v1,"));
        let value = sent.header(at).1.clone();
        sent.header(at).1 = [value.as_slice(), b", ", &value].concat();
    });
    broken("cut", Cause::HeaderTruncated, &|sent| {
        let half = sent.header(0).1.len() - 10;
        sent.header(0).1.truncate(half);
    });
    broken("renamed", Cause::HeaderRenamed, &|sent| {
        let renamed = format!("x-proxy-{}", sent.header(0).0);
        sent.header(0).0 = renamed;
    });
    broken("in capitals", Cause::SignatureEncoding, &|sent| {
        sent.header(0).1.make_ascii_uppercase();
    });
    broken("quoted", Cause::SignatureEncoding, &|sent| {
        let value = sent.header(0).1.clone();
        sent.header(0).1 = [b"\"", value.as_slice(), b"\""].concat();
    });
    broken("SHA-1", Cause::OtherAlgorithm, &|sent| {
        sent.header(0).1 = format!("sha1={}", "a".repeat(40)).into_bytes();
    });
    let bench = bench(&|_, _| {});
    for provider in ALL {
        let mut missing = sent(provider, None);
        missing
            .request
            .headers
            .0
            .retain(|(name, _)| !provider.spec().headers.contains(&name.as_str()));
        let found = missing.verdict(&bench, None).cause;
        let causes = [Cause::HeaderMissing.name(), Cause::TokenMissing.name()];
        assert!(
            found.is_some_and(|found| causes.contains(&found)),
            "{found:?}"
        );
        for other in ALL
            .into_iter()
            .filter(|other| other.spec().name != provider.spec().name)
        {
            missing.request.headers = sent(
                other,
                Some(b"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            )
            .request
            .headers;
            let found = missing.verdict(&bench, None).cause;
            let causes = [Cause::WrongProvider.name(), Cause::TokenMissing.name()];
            assert!(
                found.is_some_and(|found| causes.contains(&found)),
                "{found:?}"
            );
        }
    }
}

#[test]
fn a_signature_of_another_time_or_order_is_found() {
    broken("another time", Cause::HeaderChanged, &|sent| {
        let is_time = |value: &[u8]| value.len() == 10 && value.iter().all(u8::is_ascii_digit);
        for (_, value) in &mut sent.request.headers.0 {
            if is_time(value) {
                *value = b"1700005000".to_vec();
                sent.request.received_at = 1_700_005_000_000_000;
            }
        }
    });
    broken("another order", Cause::ReserialisedBody, &|sent| {
        let value: serde_json::Map<String, Value> =
            serde_json::from_slice(&sent.body).expect("JSON");
        let members = value
            .iter()
            .rev()
            .map(|(key, value)| format!("{}:{value}", json!(key)));
        sent.body = format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into_bytes();
    });
}
