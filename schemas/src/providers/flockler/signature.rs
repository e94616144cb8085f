//! How Flockler signs: HMAC-SHA256 over `verb|action|env|url|payload`, all of it in lower case.

use super::options::{Encoding, Source};
use super::spec::{ACTION, ENVIRONMENT, SIGNATURE};
use crate::event::Authenticity;
use crate::providers::api::{Credentials, Delivery, Proof};
use crate::providers::schemes::hmac::Signature;
use crate::providers::signature;
use crate::reason::{Reason, Refusal};

/// The MAC that the header carries.
pub fn decode(value: &[u8], encoding: Encoding) -> Result<[u8; 32], Refusal> {
    let base64_hex =
        |text| signature::base64_strict::<64>(text).and_then(|text| signature::hex(&text));
    let mac = match encoding {
        Encoding::Auto => signature::hex(value)
            .or_else(|| signature::base64_strict(value))
            .or_else(|| base64_hex(value)),
        Encoding::Hex => signature::hex(value),
        Encoding::Base64 => signature::base64_strict(value),
        Encoding::Base64Hex => base64_hex(value),
    };
    mac.ok_or_else(|| {
        Reason::SignatureMalformed
            .because(format!("{SIGNATURE} is no HMAC-SHA256 in this encoding"))
    })
}

/// Finds the way of lower-casing, the URL and the secret under which the MAC is right.
pub fn verify_signature(
    source: &Source,
    credentials: &Credentials,
    delivery: Delivery<'_>,
    mac: &[u8; 32],
) -> Result<Proof, Refusal> {
    let Delivery { request, body } = delivery;
    let signature = Signature {
        header: SIGNATURE,
        mac,
        keys: &credentials.keys,
    };
    // A header that is not there, or there twice, is judged once the delivery is authentic. Until then
    // it is taken as empty, or as its first value.
    let first = |name| request.headers.all(name).next().unwrap_or_default();
    let (action, environment) = (first(ACTION), first(ENVIRONMENT));
    let files = source.webhook_url_files.iter();
    let urls: Vec<&[u8]> = (source.webhook_urls.iter().map(String::as_bytes))
        .chain(files.filter_map(|file| credentials.files.get(file).map(Vec::as_slice)))
        .collect();

    // Where two ways give the same bytes, as for all of ASCII, one of them is enough.
    let mut tried: Vec<(Vec<Vec<u8>>, Vec<u8>)> = Vec::with_capacity(1);
    for way in source.lowercases {
        // No rule of lower-casing looks past a bar, so the payload stands for itself.
        let prefix = |url: &&[u8]| {
            let parts = [request.method.as_bytes(), action, environment, url, b""];
            way.apply(&parts.join(&b'|'))
        };
        let candidate: (Vec<Vec<u8>>, Vec<u8>) =
            (urls.iter().map(prefix).collect(), way.apply(body));
        if tried.contains(&candidate) {
            continue;
        }
        for prefix in &candidate.0 {
            let message: [&[u8]; 2] = [prefix, &candidate.1];
            if let Some(proof) = signature.over(way.name(), Authenticity::Signed, &message) {
                return Ok(proof);
            }
        }
        tried.push(candidate);
    }
    Err(signature.mismatch())
}
