//! How ReferralLoop will sign: HMAC-SHA256, announced and not sent yet.

use std::borrow::Cow;

use super::spec::SIGNATURE;
use crate::event::Authenticity;
use crate::json;
use crate::providers::api::Proof;
use crate::providers::schemes::hmac::{Part, Signature, Template};
use crate::providers::signature::{self, Key};
use crate::reason::{Reason, Refusal};

/// A field that a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The body as it came.
    Raw,
    /// The body as JavaScript would write it again, which the documentation's example hashes.
    Compact,
}

/// All that may be signed, in the order of trying.
pub const ALL: [Template<Field>; 2] = [RAW, COMPACT];

const RAW: Template<Field> = Template {
    name: "raw",
    authenticity: Authenticity::Signed,
    parts: &[Part::Field(Field::Raw)],
};

const COMPACT: Template<Field> = Template {
    name: "compact",
    authenticity: Authenticity::Signed,
    parts: &[Part::Field(Field::Compact)],
};

/// The setting `signed`.
pub const CONTENTS: [(&str, &[Template<Field>]); 3] = [
    ("auto", &ALL),
    (RAW.name, &[RAW]),
    (COMPACT.name, &[COMPACT]),
];

/// The MAC that the header carries: hex, with or without `sha256=`.
pub fn decode(value: &[u8]) -> Result<[u8; 32], Refusal> {
    signature::hex(signature::without_prefix(value)).ok_or_else(|| {
        Reason::SignatureMalformed.because(format!("{SIGNATURE} is not 64 hex digits"))
    })
}

/// Finds the content and the secret under which the MAC is right. What is not JSON cannot be written
/// again, so it is tried as it came alone.
pub fn verify_signature(
    contents: &[Template<Field>],
    keys: &[Key],
    body: &[u8],
    is_json: bool,
    mac: &[u8; 32],
) -> Result<Proof, Refusal> {
    let signature = Signature {
        header: SIGNATURE,
        mac,
        keys,
    };
    signature.verify(contents, |field| match field {
        Field::Raw => Some(Cow::Borrowed(body)),
        Field::Compact => {
            let text = json::utf8(body).ok().filter(|_| is_json)?;
            Some(Cow::Owned(json::compact(text).into_bytes()))
        }
    })
}
