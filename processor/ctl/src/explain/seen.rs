//! What can be seen of headers and body alone, where no guess makes a signature fit.

#![expect(clippy::similar_names, reason = "a case and its cause")]

use sluice_schemas::raw::Single;
use sluice_schemas::reason::{Reason, Refusal};

use super::case::{Case, verdict};
use super::cause::{Cause, Finding};
use super::guess::body::bodies;
use super::guess::encodings::{decoded, pieces};
use super::guess::inflate;
use super::guess::json::Orders;

/// No body at all.
pub fn empty() -> Finding {
    Finding::proved(Cause::BodyEmpty, "the request came without a body")
}

/// What can be seen of the headers alone.
pub fn header(case: &Case<'_>, refusal: &Refusal) -> Option<Finding> {
    if refusal.reason == Reason::SignatureMismatch {
        return None;
    }
    let headers = &case.request.headers;
    let names = case.source.provider.spec().headers;
    for name in names {
        match headers.single(name) {
            Single::Repeated => {
                let says = format!("{name} stands more than once, and no value of it alone fits");
                return Some(Finding::proved(Cause::HeaderRepeated, says));
            }
            Single::Once(value) if value.trim_ascii().is_empty() => {
                return Some(Finding::proved(
                    Cause::HeaderEmpty,
                    format!("{name} is empty"),
                ));
            }
            Single::Absent | Single::Once(_) => {}
        }
    }
    let family = |name: &str| {
        name.rsplit_once('-')
            .map_or(name.to_owned(), |(one, _)| one.to_owned())
    };
    let is_absent = |name: &str| headers.single(name) == Single::Absent;
    let here: Vec<String> = names
        .iter()
        .filter(|name| !is_absent(name))
        .map(|name| family(name))
        .collect();
    let is_of_these = |name: &str| here.is_empty() || here.contains(&family(name));
    let missing = names
        .iter()
        .filter(|name| is_absent(name) && is_of_these(name));
    for name in missing {
        // It lacks where its presence makes a difference.
        let mut with = case.request.clone();
        with.headers.0.push(((*name).to_owned(), b"1".to_vec()));
        let changed = verdict(case.verifier(), &case.credentials, &with, &case.body);
        if changed.as_ref() != Some(refusal) {
            let names = if refusal.reason == Reason::SignatureMissing && names.len() > 1 {
                "its signature headers are".to_owned()
            } else {
                format!("{name} is")
            };
            let says = format!("{names} missing ({})", refusal.detail);
            return Some(Finding::proved(Cause::HeaderMissing, says));
        }
    }
    malformed(case, refusal)
}

/// The headers that carry a signature, by their names.
fn names_of(case: &Case<'_>) -> impl Iterator<Item = &'static &'static str> {
    let all = case.source.provider.spec().headers.iter();
    all.filter(|name| name.contains("sig"))
}

/// A signature that cannot be read, by its length.
fn malformed(case: &Case<'_>, refusal: &Refusal) -> Option<Finding> {
    if refusal.reason != Reason::SignatureMalformed {
        return None;
    }
    let all_names = case.source.provider.spec().headers.len();
    let names = names_of(case);
    let values = names.flat_map(|name| {
        case.request
            .headers
            .all(name)
            .map(move |value| (name, value))
    });
    for (name, value) in values {
        let text = String::from_utf8_lossy(value);
        let bare = text.trim().rsplit([',', '=']).find(|part| !part.is_empty());
        let bare = bare.unwrap_or_default();
        let is_hex = bare.len() > 8 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let algorithm = match bare.len() {
            40 => Some("SHA-1"),
            96 => Some("SHA-384"),
            128 => Some("SHA-512"),
            _ => None,
        };
        if let Some(algorithm) = algorithm.filter(|_| is_hex) {
            let says = format!(
                "{name} holds {} hex digits, as {algorithm} has, and HMAC-SHA256 has 64",
                bare.len()
            );
            return Some(Finding::likely(Cause::OtherAlgorithm, says));
        }
        if is_hex && bare.len() < 64 {
            let says = format!(
                "{name} holds {} hex digits, and HMAC-SHA256 has 64",
                bare.len()
            );
            return Some(Finding::likely(Cause::HeaderTruncated, says));
        }
        let of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
        if (12..43).contains(&bare.len())
            && bare.bytes().all(of_base64)
            && !bare.bytes().all(|byte| byte.is_ascii_digit())
        {
            let says = format!(
                "{name} holds {} characters of base64, and HMAC-SHA256 has 44",
                bare.len()
            );
            return Some(Finding::likely(Cause::HeaderTruncated, says));
        }
    }
    // Where the signature itself can be read, it is another header.
    let mut signatures = names_of(case).flat_map(|name| case.request.headers.all(name));
    let is_read =
        signatures.any(|value| pieces(value).iter().any(|piece| !decoded(piece).is_empty()));
    let cause = if is_read && names_of(case).count() < all_names {
        Cause::HeaderChanged
    } else {
        Cause::SignatureEncoding
    };
    Some(Finding::likely(cause, &refusal.detail))
}

/// What can be seen of the body alone, where no guess made the signature fit.
pub fn visible(case: &Case<'_>) -> Option<Finding> {
    let body = case.body.as_slice();
    if body.is_empty() {
        return Some(empty());
    }
    let header = |name: &str| {
        let value = case.request.headers.all(name).next();
        value.map(|value| String::from_utf8_lossy(value).to_ascii_lowercase())
    };
    let length: Option<usize> = header("content-length").and_then(|text| text.trim().parse().ok());
    if let Some(length) = length.filter(|length| *length != body.len()) {
        let says = format!(
            "content-length says {length} bytes, and {} came",
            body.len()
        );
        let cause = if body.len() < length {
            Cause::BodyTruncated
        } else {
            Cause::BodyChanged
        };
        return Some(Finding::proved(cause, says));
    }
    let coding = header("content-encoding").filter(|coding| coding != "identity");
    if inflate::inflated(body).is_some() || coding.is_some() {
        let says = match coding {
            Some(coding) => format!(
                "content-encoding says {}, and no body that fits was found",
                crate::output::plain(&coding)
            ),
            None => "the body is compressed, and what it holds does not fit either".to_owned(),
        };
        return Some(Finding::likely(Cause::CompressedBody, says));
    }
    shape(case, header("content-type").as_deref())
}

/// What the form of a body says of how it came about.
fn shape(case: &Case<'_>, content_type: Option<&str>) -> Option<Finding> {
    let body = case.body.as_slice();
    if content_type.is_some_and(|kind| kind.contains("form")) {
        let says = "the content type is that of a form, and the provider sends JSON";
        return Some(Finding::likely(Cause::FormEncoded, says));
    }
    let text = std::str::from_utf8(body);
    let cut = text.is_err_and(|error| error.error_len().is_none());
    let Ok(text) = text else {
        if cut {
            let says = "the body ends in the middle of a character";
            return Some(Finding::likely(Cause::BodyTruncated, says));
        }
        let says = "the body is not UTF-8, and no other character set makes the signature fit";
        return Some(Finding::likely(Cause::Charset, says));
    };
    if text.contains('\u{fffd}') {
        let says =
            "the body holds the character that stands for text that could not be decoded (U+FFFD)";
        return Some(Finding::likely(Cause::Charset, says));
    }
    let parsed: Result<serde::de::IgnoredAny, _> =
        serde_json::from_str(text.trim_start_matches('\u{feff}'));
    if parsed.is_err_and(|error| error.is_eof()) {
        let says = "the body ends in the middle of its JSON";
        return Some(Finding::likely(Cause::BodyTruncated, says));
    }
    None
}

/// An authentic body that cannot be read.
pub fn body(case: &Case<'_>, refusal: &Refusal) -> Finding {
    let body = case.body.as_slice();
    if body.trim_ascii().is_empty() {
        return empty();
    }
    if let Some((coding, _)) = inflate::inflated(body) {
        let says = format!("the body is compressed ({coding}), and no content coding is decoded");
        return Finding::proved(Cause::CompressedBody, says);
    }
    if refusal
        .detail
        .starts_with("a key that is read stands twice")
    {
        return Finding::proved(Cause::KeyTwice, &refusal.detail);
    }
    if refusal.reason == Reason::NotUtf8 || body.contains(&0) {
        return Finding::proved(
            Cause::Charset,
            format!("{}: it is in another character set", refusal.detail),
        );
    }
    let is_form = bodies(body, &Orders::new());
    let mut forms = is_form
        .iter()
        .filter(|guess| guess.cause == Cause::FormEncoded);
    if forms.any(|guess| sluice_schemas::json::is_object(&guess.part)) {
        let says = "the body is a form, and the JSON stands in it";
        return Finding::proved(Cause::FormEncoded, says);
    }
    let content_type = case.request.headers.all("content-type").next();
    let content_type =
        content_type.map(|value| String::from_utf8_lossy(value).to_ascii_lowercase());
    visible_of_token(case)
        .or_else(|| shape(case, content_type.as_deref()))
        .unwrap_or_else(|| Finding::proved(Cause::NotJson, &refusal.detail))
}

/// A body that a token proves, whose length shows that it was cut.
fn visible_of_token(case: &Case<'_>) -> Option<Finding> {
    let length = case.request.headers.all("content-length").next()?;
    let length: usize = std::str::from_utf8(length).ok()?.trim().parse().ok()?;
    (case.body.len() < length).then(|| {
        let says = format!(
            "content-length says {length} bytes, and {} came",
            case.body.len()
        );
        Finding::proved(Cause::BodyTruncated, says)
    })
}
