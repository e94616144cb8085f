//! Standard Webhooks, as Svix sends it too: HMAC-SHA256 (`v1`) or Ed25519 (`v1a`) over id, time and body. By
//! hand, for the crate `standardwebhooks` does not say which secret matched, and reads the clock itself.

use crate::event::Authenticity;
use crate::providers::api::{PartitionKey, Proof};
use crate::providers::signature::{
    Key, base64_bytes, base64_strict, header, is_base64url, public_key, shared_key,
};
use crate::raw::{Headers, Single};
use crate::reason::{Reason, Refusal};

/// The shortest shared secret, in bytes: what Standard Webhooks asks for.
const SHORTEST_SECRET: usize = 24;

/// The most `v1a` entries of one header. Each is a hash of the whole body for each public key, so a
/// stranger with a large body must not bring many.
const MAX_ED25519: usize = 8;

/// The version of an entry that is HMAC-SHA256.
const V1: &[u8] = b"v1";
/// The version of an entry that is Ed25519.
const V1A: &[u8] = b"v1a";

/// All headers of both families.
pub const HEADERS: [&str; 6] = [
    Family::Webhook.id(),
    Family::Webhook.timestamp(),
    Family::Webhook.signature(),
    Family::Svix.id(),
    Family::Svix.timestamp(),
    Family::Svix.signature(),
];

/// Under which names the three headers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Standard Webhooks' names.
    Webhook,
    /// Svix's own names.
    Svix,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Svix];

    /// The header with the delivery's id.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Webhook => "webhook-id",
            Self::Svix => "svix-id",
        }
    }

    /// The header with the time.
    pub const fn timestamp(self) -> &'static str {
        match self {
            Self::Webhook => "webhook-timestamp",
            Self::Svix => "svix-timestamp",
        }
    }

    /// The header with the signatures.
    pub const fn signature(self) -> &'static str {
        match self {
            Self::Webhook => "webhook-signature",
            Self::Svix => "svix-signature",
        }
    }

    fn stands_in(self, headers: &Headers) -> bool {
        let names = [self.id(), self.timestamp(), self.signature()];
        headers
            .0
            .iter()
            .any(|(name, _)| names.contains(&name.as_str()))
    }
}

/// The setting `headers`.
pub const FAMILIES: [(&str, &[Family]); 3] = [
    ("auto", &Family::ALL),
    ("webhook", &[Family::Webhook]),
    ("svix", &[Family::Svix]),
];

/// The headers of one family, read.
#[derive(Debug)]
pub struct Signed<'a> {
    /// The delivery's id, the same for each attempt.
    pub id: &'a str,
    /// The attempt's time, as it was signed: digits alone.
    timestamp: &'a str,
    entries: Entries,
}

impl<'a> Signed<'a> {
    /// Reads the headers. Those of one family alone: were the other's looked past, somebody could add
    /// them to a request that he recorded, and change the partition in which its repetition is known.
    pub fn read(headers: &'a Headers, accepted: &[Family]) -> Result<Self, Refusal> {
        let mut present = Family::ALL
            .into_iter()
            .filter(|family| family.stands_in(headers));
        let family = match (present.next(), present.next()) {
            (Some(one), None) if accepted.contains(&one) => one,
            (Some(one), Some(other))
                if headers.single(one.signature()) != Single::Absent
                    || headers.single(other.signature()) != Single::Absent =>
            {
                return Err(malformed("headers of two families are mixed"));
            }
            _ => {
                return Err(Reason::SignatureMissing
                    .because("there are no signature headers of an accepted family"));
            }
        };
        let value = header(headers, family.signature())?;
        let id = id(headers, family)?;
        let entries = Entries::read(value)?;
        let timestamp = timestamp(headers, family)?;
        Ok(Self {
            id,
            timestamp,
            entries,
        })
    }

    /// The attempt's time in milliseconds since 1970. What does not fit is as far away as can be.
    pub fn millis(&self) -> i64 {
        let seconds: i64 = self.timestamp.parse().unwrap_or(i64::MAX);
        seconds.saturating_mul(1000)
    }
}

fn malformed(detail: &str) -> Refusal {
    Reason::SignatureMalformed.because(detail)
}

fn id(headers: &Headers, family: Family) -> Result<&str, Refusal> {
    let Single::Once(value) = headers.single(family.id()) else {
        return Err(malformed(
            "the id header is missing, or stands more than once",
        ));
    };
    // With a full stop in it, id and time could be divided in two ways under one signature.
    let good = |byte: &u8| byte.is_ascii_graphic() && *byte != b'.';
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && value.iter().all(good) => Ok(text),
        _ => Err(malformed(
            "the id header is empty, or holds a full stop or what is no plain text",
        )),
    }
}

fn timestamp(headers: &Headers, family: Family) -> Result<&str, Refusal> {
    let name = family.timestamp();
    let value = match headers.single(name) {
        Single::Once(value) => value,
        Single::Absent => {
            return Err(Reason::TimestampMissing.because(format!("there is no header {name}")));
        }
        Single::Repeated => {
            return Err(Reason::TimestampMalformed.because(format!("{name} stands more than once")));
        }
    };
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && value.iter().all(u8::is_ascii_digit) => Ok(text),
        _ => Err(Reason::TimestampMalformed.because(format!("{name} is not digits alone"))),
    }
}

/// The entries of a signature header by their version.
#[derive(Debug, Default)]
struct Entries {
    /// [`V1`]
    macs: Vec<[u8; 32]>,
    /// [`V1A`]
    ed25519: Vec<[u8; 64]>,
}

impl Entries {
    /// An entry of another version, or one that does not decode, is passed over where there is one
    /// next to it that can be read.
    ///
    /// Entries stand apart by blanks. A proxy may fold two headers into one and put a comma between
    /// them, with or without a blank, so within a word versions and signatures take turns. A part that
    /// is a version we read begins an entry wherever it stands: no signature is that short.
    fn read(value: &[u8]) -> Result<Self, Refusal> {
        let (mut entries, mut other) = (Self::default(), false);
        for word in value.split(|byte| matches!(byte, b' ' | b'\t')) {
            let mut version: Option<&[u8]> = None;
            for part in word.split(|byte| *byte == b',') {
                match version.take() {
                    Some(of) if part != V1 && part != V1A => other |= entries.take(of, part),
                    _ => version = part.starts_with(b"v").then_some(part),
                }
            }
        }
        if entries.ed25519.len() > MAX_ED25519 {
            return Err(malformed(
                "the signature header has more than 8 v1a entries",
            ));
        }
        if !other && entries.macs.is_empty() && entries.ed25519.is_empty() {
            return Err(malformed(
                "the signature header has no entry that can be read",
            ));
        }
        Ok(entries)
    }

    /// Takes an entry in, where it decodes; whether it is of a version that is not known here.
    fn take(&mut self, version: &[u8], text: &[u8]) -> bool {
        match version {
            V1 => self.macs.extend(base64_strict::<32>(text)),
            V1A => self.ed25519.extend(base64_strict::<64>(text)),
            _ => return !text.is_empty(),
        }
        false
    }
}

/// Tries every entry against every secret: while a secret rotates, the header carries both signatures
/// and the settings may know either.
pub fn verify_signature(signed: &Signed<'_>, keys: &[Key], body: &[u8]) -> Result<Proof, Refusal> {
    let (id, timestamp) = (signed.id.as_bytes(), signed.timestamp.as_bytes());
    let parts: [&[u8]; 5] = [id, b".", timestamp, b".", body];
    let proof = |scheme, key: &Key| Proof::signed(Authenticity::Signed, scheme, key);
    if !signed.entries.macs.is_empty()
        && let Some(key) = keys
            .iter()
            .find(|key| key.hmac_matches_any(&parts, &signed.entries.macs))
    {
        return Ok(proof("v1", key));
    }
    // Without a public key, or without an entry for one, the message need not be put together.
    if !signed.entries.ed25519.is_empty() && keys.iter().any(|key| !key.is_hmac()) {
        let message = parts.concat();
        let matches = |key: &&Key| {
            let mut entries = signed.entries.ed25519.iter();
            entries.any(|entry| key.ed25519_matches(&message, entry))
        };
        if let Some(key) = keys.iter().find(matches) {
            return Ok(proof("v1a", key));
        }
    }
    Err(Reason::SignatureMismatch
        .because("no secret gives any of the signatures over this request"))
}

/// Reads `whsec_` and a shared secret, or `whpk_` and a public key, both in base64. The padding may be
/// missing: it says nothing that the length does not.
pub fn key(content: &[u8]) -> Result<Key, String> {
    if let Some(text) = content.strip_prefix(b"whsec_") {
        let secret = decoded("whsec_", text)?;
        if secret.len() < SHORTEST_SECRET {
            return Err(format!(
                "the secret is shorter than {SHORTEST_SECRET} bytes"
            ));
        }
        shared_key(&secret)
    } else if let Some(text) = content.strip_prefix(b"whpk_") {
        let public = decoded("whpk_", text)?.try_into();
        let public = public.map_err(|_| "what follows whpk_ is not 32 bytes in base64")?;
        public_key(public)
    } else {
        Err("the secret begins with neither whsec_ nor whpk_".into())
    }
}

/// The bytes of what stands behind a prefix. Base64url is a fault of its own: the specification names
/// base64, and how a sender would decode anything else is not known.
fn decoded(prefix: &str, text: &[u8]) -> Result<Vec<u8>, String> {
    base64_bytes(text).ok_or_else(|| {
        if is_base64url(text) {
            format!(
                "what follows {prefix} is base64url, and base64 is needed: copy the secret again, or write + for - and / for _"
            )
        } else {
            format!("what follows {prefix} is not base64")
        }
    })
}

/// The delivery's id, from the family that is there.
pub fn partition_key(headers: &Headers) -> Option<PartitionKey> {
    let mut present = Family::ALL
        .into_iter()
        .filter(|family| family.stands_in(headers));
    let (Some(family), None) = (present.next(), present.next()) else {
        return None;
    };
    let id = id(headers, family).ok()?;
    Some(PartitionKey::Text(id.to_owned()))
}
