//! How Flock signs: HMAC-SHA256 over something that its documentation does not pin, so four readings
//! are tried, and an operator can pin one.

use std::borrow::Cow;

use crate::event::Authenticity;
use crate::json;
use crate::providers::api::Proof;
use crate::providers::schemes::hmac::{Part, Signature, Template};
use crate::providers::signature::{self, Key};
use crate::reason::{Reason, Refusal};
use crate::timestamp;

use super::payload::Body;
use super::spec::SIGNATURE;

/// A field that a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The body's `timestamp`, as it is written.
    Time,
    /// The bytes of the body's `data`.
    Data,
    /// The whole body.
    Body,
    /// The whole body, where it is a JSON object.
    Object,
}

/// All that may be signed, in the order of trying. Under those over `data`, the members next to it are not
/// proved.
///
/// Where the scheme is not pinned, the body alone counts as signed only where it is an object. Else what was
/// signed for a time and data, sent as the body, would be an authentic dead letter whatever its age.
pub const ALL: [Template<Field>; 4] = [TS_DATA, RAW_OBJECT, TS_RAW, TS_DATA_JOINED];

const TS_DATA: Template<Field> = Template {
    name: "ts.data",
    authenticity: Authenticity::PartiallySigned,
    parts: &[
        Part::Field(Field::Time),
        Part::Text("."),
        Part::Field(Field::Data),
    ],
};

const RAW: Template<Field> = Template {
    name: "raw",
    authenticity: Authenticity::Signed,
    parts: &[Part::Field(Field::Body)],
};

const RAW_OBJECT: Template<Field> = Template {
    parts: &[Part::Field(Field::Object)],
    ..RAW
};

const TS_RAW: Template<Field> = Template {
    name: "ts.raw",
    authenticity: Authenticity::Signed,
    parts: &[
        Part::Field(Field::Time),
        Part::Text("."),
        Part::Field(Field::Body),
    ],
};

const TS_DATA_JOINED: Template<Field> = Template {
    name: "tsdata",
    authenticity: Authenticity::PartiallySigned,
    parts: &[Part::Field(Field::Time), Part::Field(Field::Data)],
};

/// The setting `scheme`.
pub const SCHEMES: [(&str, &[Template<Field>]); 5] = [
    ("auto", &ALL),
    (TS_DATA.name, &[TS_DATA]),
    (RAW.name, &[RAW]),
    (TS_RAW.name, &[TS_RAW]),
    (TS_DATA_JOINED.name, &[TS_DATA_JOINED]),
];

/// How the MAC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Either; their lengths differ.
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

/// The text of the body's time, where it is a time. What is none takes part in no scheme: a time of no
/// characters would make `tsdata` of any body that was signed as it is.
pub fn time<'a>(members: &Body<'a>) -> Option<Cow<'a, str>> {
    json::token(members.timestamp).filter(|text| timestamp::read(text).is_some())
}

/// Finds the scheme and the secret under which the MAC is right. `members`: what could be read of the
/// body; without it the whole body alone can be what was signed.
pub fn verify_signature(
    schemes: &[Template<Field>],
    keys: &[Key],
    body: &[u8],
    members: Option<&Body<'_>>,
    mac: &[u8; 32],
) -> Result<Proof, Refusal> {
    let signature = Signature {
        header: SIGNATURE,
        mac,
        keys,
    };
    let time = members.and_then(time);
    let time = time.as_deref().map(str::as_bytes);
    // Data without a member is not accepted: its signature would fit any event of that second.
    let data = members.and_then(Body::data);
    let data = data.map(|data| data.get().as_bytes());
    signature.verify(schemes, |field| {
        let bytes = match field {
            Field::Time => time?,
            Field::Data => data?,
            Field::Body => body,
            // A key that stands twice is an error of the parse, and the body an object all the same.
            Field::Object if members.is_some() || json::is_object(body) => body,
            Field::Object => return None,
        };
        Some(Cow::Borrowed(bytes))
    })
}
