//! The signature that the provider would have sent, next to the one that came: of one that was cut, or lost
//! the case of its letters, no code that verifies can say so.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sluice_schemas::providers::sending::{SendingSource, Unsigned};

use super::super::case::Case;
use super::super::cause::{Cause, Finding};
use super::encodings::decoded;
use super::secrets::to_hex;

/// Of a signature that came, as many characters must stand there, or anything would fit.
const SHORTEST: usize = 12;

/// Whether a header holds a part of the right signature, or the right one in other letters.
pub fn damaged(case: &Case<'_>) -> Option<Finding> {
    let expected = expected(case, case.secrets.values());
    for name in case.source.provider.spec().headers {
        for value in case.request.headers.all(name) {
            let Ok(text) = std::str::from_utf8(value) else {
                continue;
            };
            let text = text.trim();
            if expected.iter().any(|form| form == text) {
                continue;
            }
            if let Some(finding) = expected.iter().find_map(|form| compared(name, text, form)) {
                return Some(finding);
            }
        }
    }
    None
}

/// Whether this secret gives the signature over a body that is no object.
pub fn signs_no_object(case: &Case<'_>, secret: &Vec<u8>) -> bool {
    if sluice_schemas::json::is_object(&case.body) {
        return false;
    }
    let names = case.source.provider.spec().headers.iter();
    let mut values = names.flat_map(|name| case.request.headers.all(name));
    let expected = expected(case, [secret]);
    values.any(|value| expected.iter().any(|form| form.as_bytes() == value))
}

/// Whether a secret gives the signature over a body that is no object, which the source does not take.
pub fn of_no_object(case: &Case<'_>) -> Option<Finding> {
    let is_found = case
        .secrets
        .values()
        .any(|secret| signs_no_object(case, secret));
    let says = "a secret of the source gives the signature over the body, which is no JSON object: it may have \
                been signed for something else";
    is_found.then(|| Finding::proved(Cause::NotJson, says))
}

fn compared(name: &str, text: &str, form: &str) -> Option<Finding> {
    let is_cut = text.len() >= SHORTEST
        && text.len() < form.len()
        && (form.starts_with(text) || form.ends_with(text));
    if is_cut {
        let says = format!(
            "{name} holds {} characters of the {} that the signature has",
            text.len(),
            form.len()
        );
        return Some(Finding::proved(Cause::HeaderTruncated, says));
    }
    let behind = text.len() > form.len() && text.starts_with(form) && form.len() >= SHORTEST;
    if behind {
        let says = format!("{name} holds the right signature with more characters behind it");
        return Some(Finding::proved(Cause::HeaderChanged, says));
    }
    let in_other_letters = text != form && text.eq_ignore_ascii_case(form);
    in_other_letters.then(|| {
        let says =
            format!("{name} holds the right signature with small and capital letters changed");
        Finding::proved(Cause::SignatureEncoding, says)
    })
}

/// The right signature under each of these secrets, in all forms.
fn expected<'s>(case: &Case<'_>, secrets: impl IntoIterator<Item = &'s Vec<u8>>) -> Vec<String> {
    let names = case.source.provider.spec().headers;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = case.request.headers.0.iter();
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    let values: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(_, value)| value.as_str())
        .collect();
    let mut ids = values.clone();
    ids.push("");
    let times: Vec<i64> = values
        .iter()
        .filter_map(|value| value.parse().ok())
        .collect();
    let received = case.request.received_at.div_euclid(1_000_000);
    let times = if times.is_empty() {
        vec![received]
    } else {
        times
    };
    let sender = case.source.provider.sender();
    let mut forms = Vec::new();
    for secret in secrets {
        let source = SendingSource {
            options: &case.source.options,
            secrets: std::slice::from_ref(secret),
            files: &case.credentials.files,
        };
        for id in &ids {
            for at in &times {
                let unsigned = Unsigned {
                    headers: headers
                        .iter()
                        .filter(|(name, _)| !names.contains(&name.as_str()) || !is_mac(case, name))
                        .cloned()
                        .collect(),
                    body: case.body.clone(),
                    delivery_id: (*id).to_owned(),
                };
                if let Ok(signed) = sender.sign_for(unsigned, &source, *at) {
                    let made = signed.headers.into_iter().rev().take(names.len());
                    let made =
                        made.filter(|(name, value)| names.contains(&name.as_str()) && value != id);
                    forms.extend(made.flat_map(|(_, value)| forms_of(&value)));
                }
            }
        }
    }
    forms
}

/// Whether a header is one that a sender makes: neither a short word nor a number.
fn is_mac(case: &Case<'_>, name: &str) -> bool {
    let known = case.source.provider.variants().headers;
    !known.iter().any(|(of_values, _)| *of_values == name)
}

/// A signature as it was made, and its MAC in other encodings; nothing where it is none.
fn forms_of(value: &str) -> Vec<String> {
    let bare = value.rsplit([',', '=']).find(|part| part.len() > 40);
    let bare = bare.map_or(value, |part| {
        // Padding belongs to base64.
        let at = value.find(part).unwrap_or_default();
        &value[at..]
    });
    let Some(mac) = decoded(bare.as_bytes()).first().copied() else {
        return Vec::new();
    };
    let (hex, base64) = (to_hex(&mac), STANDARD.encode(mac));
    vec![
        value.to_owned(),
        format!("sha256={hex}"),
        format!("sha256={base64}"),
        STANDARD.encode(&hex),
        URL_SAFE_NO_PAD.encode(mac),
        format!("v1,{base64}"),
        base64,
        hex.to_uppercase(),
        hex,
    ]
}
