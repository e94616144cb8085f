//! How ReferralLoop will sign: HMAC-SHA256, announced and not sent yet.

use std::borrow::Cow;

use super::SIGNATURE;
use crate::event::Authenticity;
use crate::json;
use crate::providers::Proof;
use crate::providers::signature::{self, Key};
use crate::reason::{Reason, Refusal};

/// What is under the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The body as it came.
    Raw,
    /// The body as JavaScript would write it again, which the documentation's example hashes.
    Compact,
}

impl Content {
    /// All, in the order of trying.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Compact];

    const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Compact => "compact",
        }
    }
}

/// The setting `signed`.
pub const CONTENTS: [(&str, &[Content]); 3] = [
    ("auto", &Content::ALL),
    ("raw", &[Content::Raw]),
    ("compact", &[Content::Compact]),
];

/// The MAC that the header carries: hex, with or without `sha256=`.
pub fn decode(value: &[u8]) -> Result<[u8; 32], Refusal> {
    signature::hex(signature::without_prefix(value)).ok_or_else(|| {
        Reason::SignatureMalformed.because(format!("{SIGNATURE} is not 64 hex digits"))
    })
}

/// Finds the content and the secret under which the MAC is right. What is not JSON cannot be written
/// again, so it is tried as it came alone.
pub fn prove(
    contents: &[Content],
    keys: &[Key],
    body: &[u8],
    is_json: bool,
    mac: &[u8; 32],
) -> Result<Proof, Refusal> {
    for content in contents {
        let signed = match (content, json::utf8(body)) {
            (Content::Raw, _) => Cow::Borrowed(body),
            (Content::Compact, Ok(text)) if is_json => Cow::Owned(json::compact(text).into_bytes()),
            (Content::Compact, _) => continue,
        };
        if let Some(key) = keys.iter().find(|key| key.hmac_matches(&[&signed], mac)) {
            return Ok(Proof::signed(Authenticity::Signed, content.name(), key));
        }
    }
    Err(Reason::SignatureMismatch.because(format!("no secret gives {SIGNATURE} over this request")))
}
