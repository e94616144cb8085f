//! How Flockler signs: HMAC-SHA256 over `verb|action|env|url|payload`, all of it in lower case.

use super::lowercase::{Lowercase, Lowered};
use super::options::{Encoding, Source};
use super::spec::{ACTION, ENVIRONMENT, SIGNATURE};
use crate::event::Authenticity;
use crate::providers::api::{Credentials, Delivery, Proof};
use crate::providers::schemes::hmac::Signature;
use crate::providers::signature;
use crate::raw::{RawRequest, Single};
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

/// The values of the headers that are under the signature.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'a> {
    pub action: &'a [u8],
    pub environment: &'a [u8],
}

impl<'a> SignedHeaders<'a> {
    /// A header that does not stand there once was signed as empty. Were one of two taken, somebody could add
    /// the other to a request that he recorded.
    pub fn of(request: &'a RawRequest) -> Self {
        let once = |name| match request.headers.single(name) {
            Single::Once(value) => value,
            Single::Absent | Single::Repeated => b"".as_slice(),
        };
        Self {
            action: once(ACTION),
            environment: once(ENVIRONMENT),
        }
    }
}

/// Finds the way of lower-casing, the URL and the secret under which the MAC is right.
pub fn verify_signature(
    source: &Source,
    credentials: &Credentials,
    delivery: Delivery<'_>,
    mac: &[u8; 32],
) -> Result<(Proof, Lowercase), Refusal> {
    let Delivery { request, body } = delivery;
    let signature = Signature {
        header: SIGNATURE,
        mac,
        keys: &credentials.keys,
    };
    let files = source.webhook_url_files.iter();
    let urls = (source.webhook_urls.iter().map(String::as_bytes))
        .chain(files.filter_map(|file| credentials.files.get(file).map(Vec::as_slice)));

    // No rule of lower-casing looks past a bar, so what stands between bars is lower-cased by itself.
    let lowered = |text: &[u8]| Lowered::of(source.lowercases, text);
    let SignedHeaders {
        action,
        environment,
    } = SignedHeaders::of(request);
    let head = lowered(&[request.method.as_bytes(), action, environment, b""].join(&b'|'));
    let urls: Vec<Lowered> = urls.map(lowered).collect();
    let body = lowered(body);

    // Where two ways give the same bytes, as for all of ASCII, one of them is enough.
    let mut tried: Vec<(usize, Vec<usize>, usize)> = Vec::with_capacity(1);
    for &way in source.lowercases {
        let which = |text: &Lowered| text.which(way);
        let candidate = (which(&head), urls.iter().map(which).collect(), which(&body));
        if tried.contains(&candidate) {
            continue;
        }
        for url in &urls {
            let message: [&[u8]; 4] = [head.by(way), url.by(way), b"|", body.by(way)];
            if let Some(proof) = signature.over(way.name(), Authenticity::Signed, &message) {
                return Ok((proof, way));
            }
        }
        tried.push(candidate);
    }
    Err(signature.mismatch())
}
