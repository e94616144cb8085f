//! How Flock signs: HMAC-SHA256 over something that its documentation does not pin, so four readings
//! are tried, and an operator can pin one.

use crate::event::Authenticity;
use crate::json;
use crate::providers::Proof;
use crate::providers::signature::{self, Key};
use crate::reason::{Reason, Refusal};

use super::SIGNATURE;
use super::payload::Body;

/// What is under the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// The timestamp, a full stop, the bytes of `data`.
    TsData,
    /// The whole body.
    Raw,
    /// The timestamp, a full stop, the whole body.
    TsRaw,
    /// The timestamp and the bytes of `data`, nothing between them.
    TsDataJoined,
}

impl Scheme {
    /// All, in the order of trying.
    pub const ALL: [Self; 4] = [Self::TsData, Self::Raw, Self::TsRaw, Self::TsDataJoined];

    const fn name(self) -> &'static str {
        match self {
            Self::TsData => "ts.data",
            Self::Raw => "raw",
            Self::TsRaw => "ts.raw",
            Self::TsDataJoined => "tsdata",
        }
    }

    /// Under the schemes over `data`, the members beside it are not proved.
    const fn authenticity(self) -> Authenticity {
        match self {
            Self::Raw | Self::TsRaw => Authenticity::Signed,
            Self::TsData | Self::TsDataJoined => Authenticity::PartiallySigned,
        }
    }
}

/// The setting `scheme`.
pub const SCHEMES: [(&str, &[Scheme]); 5] = [
    ("auto", &Scheme::ALL),
    ("ts.data", &[Scheme::TsData]),
    ("raw", &[Scheme::Raw]),
    ("ts.raw", &[Scheme::TsRaw]),
    ("tsdata", &[Scheme::TsDataJoined]),
];

/// How the MAC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Either; their lengths tell them apart.
    Auto,
    /// 64 hex digits.
    Hex,
    /// Base64 or base64url, padded or not.
    Base64,
}

/// The setting `encoding`.
pub const ENCODINGS: [(&str, Encoding); 3] = [
    ("auto", Encoding::Auto),
    ("hex", Encoding::Hex),
    ("base64", Encoding::Base64),
];

/// The MAC that the header carries.
pub fn decode(value: &[u8], encoding: Encoding) -> Result<[u8; 32], Refusal> {
    let text = signature::without_prefix(value);
    let mac = match encoding {
        Encoding::Auto => signature::hex(text).or_else(|| signature::base64_loose(text)),
        Encoding::Hex => signature::hex(text),
        Encoding::Base64 => signature::base64_loose(text),
    };
    mac.ok_or_else(|| {
        Reason::SignatureMalformed
            .because(format!("{SIGNATURE} is no HMAC-SHA256 in this encoding"))
    })
}

/// Finds the scheme and the secret under which the MAC is right. `members`: what could be read of the
/// body; without it the whole body alone can be what was signed.
pub fn prove(
    schemes: &[Scheme],
    keys: &[Key],
    body: &[u8],
    members: Option<&Body<'_>>,
    mac: &[u8; 32],
) -> Result<Proof, Refusal> {
    let time = members.and_then(|members| json::token(members.timestamp));
    let time = time.as_deref().map(str::as_bytes);
    // Data without a member is not accepted: its signature would fit any event of that second.
    let data = members
        .and_then(Body::data)
        .map(|data| data.get().as_bytes());
    for scheme in schemes {
        let parts: [&[u8]; 3] = match (scheme, time, data) {
            (Scheme::Raw, _, _) => [body, b"", b""],
            (Scheme::TsRaw, Some(time), _) => [time, b".", body],
            (Scheme::TsData, Some(time), Some(data)) => [time, b".", data],
            (Scheme::TsDataJoined, Some(time), Some(data)) => [time, data, b""],
            (Scheme::TsRaw | Scheme::TsData | Scheme::TsDataJoined, _, _) => continue,
        };
        if let Some(key) = keys.iter().find(|key| key.hmac_matches(&parts, mac)) {
            return Ok(Proof::signed(scheme.authenticity(), scheme.name(), key));
        }
    }
    Err(Reason::SignatureMismatch.because(format!("no secret gives {SIGNATURE} over this request")))
}
