//! What a provider is to the rest of the code: its name, one source of it, and what a delivery says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::signature::Key;
use crate::event::{Authenticity, Fields};
use crate::identity::{Identity, sha256};
use crate::raw::{Headers, RawRequest};
use crate::reason::Refusal;
use crate::settings::reader::Node;

/// What holds for a provider whatever the source. All that a source's options may change is asked of its
/// [`Verifier`].
#[derive(Debug)]
pub struct Spec {
    /// The name in settings, topics and events: lower case letters and digits.
    pub name: &'static str,
    /// The documented event types: each has a fixture and, in tests, a sample. Which types have a topic of
    /// their own is another question ([`Verifier::topic_types`]).
    pub documented: &'static [&'static str],
    /// Every header (lower case) that is verified or read, under any options. Ingest keeps their values byte
    /// for byte; from all others it takes the token of the URL.
    pub headers: &'static [&'static str],
}

/// A provider, as the registry knows it.
pub trait Provider: Sync {
    /// What holds whatever the source.
    fn spec(&self) -> &'static Spec;

    /// One source of this provider, from its `options`. Takes the keys that it knows out of `options`; faults
    /// gather there, and the caller reports the keys that are left as unknown.
    fn verifier(&self, options: &mut Node) -> Box<dyn Verifier>;

    /// What may have been otherwise where a signature does not fit, for who explains it. Nothing is verified
    /// by it.
    fn variants(&self) -> Variants {
        Variants::default()
    }
}

/// In what a request's signing may differ from what its source expects. A provider names here what is its
/// own; how bodies, headers and secrets are changed on their way is the same for all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Variants {
    /// Options that say how is signed, each with the values that it can have.
    pub options: &'static [(&'static str, &'static [&'static str])],
    /// The option that lists the URLs that are under the signature.
    pub urls: Option<&'static str>,
    /// Headers that are under the signature, each with the values that it can have.
    pub headers: &'static [(&'static str, &'static [&'static str])],
}

impl std::fmt::Debug for dyn Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.spec().name)
    }
}

/// The largest body where the source does not say otherwise, in bytes.
pub const DEFAULT_MAX_BODY_BYTES: u64 = 1 << 20;

/// One source of a provider: its options are read, its secrets come with each call.
///
/// # What a signature proves
///
/// A signature proves the bytes that are under it and nothing else. Flock's `ts.data` covers the time and
/// `data`, Flockler's the action, the environment, the URL and the body, Standard Webhooks' the id, the time
/// and the body, and many a provider's the body alone. A header outside of the signature is whatever the
/// sender of the request wrote: somebody who recorded one genuine request can send it again under another
/// value of that header, and its signature is as good as before.
///
/// The identity ([`Payload::identity`]) must therefore consist of proved parts only. An identity made of an
/// unsigned header, such as a delivery id next to a signature over the body, lets the recorder replay: each
/// new value of the header is a new identity and one more event. Where a provider signs no id, take the MAC
/// or the proved parts of the body. The event type may come from an unsigned header only where
/// [`Proof::authenticity`] says [`Authenticity::PartiallySigned`].
pub trait Verifier: Send + Sync + std::fmt::Debug {
    /// Reads the content of a secret file (one trailing line end already taken off). An error is one
    /// sentence that does not show the content.
    fn key(&self, content: &[u8]) -> Result<Key, String>;

    /// How signatures matter here.
    fn signing(&self) -> Signing;

    /// Files under `secrets_dir`, apart from the secrets, that this source reads ([`Credentials::files`]).
    fn files(&self) -> &[String] {
        &[]
    }

    /// Reads one of [`Verifier::files`]: an error is one sentence that does not show the content.
    fn check_file(&self, content: &[u8]) -> Result<(), String> {
        let _ = content;
        Ok(())
    }

    /// The largest body, in bytes, where `max_body` is not set.
    fn max_body(&self) -> u64 {
        DEFAULT_MAX_BODY_BYTES
    }

    /// For how long after the first attempt the provider may send the same delivery again. The source's
    /// `dedup_window` must be at least as long.
    fn retry_horizon(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether repetition is judged by the entity's last event (see [`crate::identity::Sequence`]).
    fn by_sequence(&self) -> bool {
        false
    }

    /// The event types that have a topic of their own although the source's `events` does not name them; all
    /// others go to `events.{name}.other`. Each topic costs partitions and replicas on the brokers: a
    /// provider with hundreds of types returns few of them or none.
    fn topic_types(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What is to be subscribed to, where the provider has an API for it and the source's options say so.
    fn subscribe(&self) -> Option<&Subscribe> {
        None
    }

    /// Reads, without verifying anything, what keeps the retries of one delivery, and all deliveries of one
    /// entity, in one partition. It never fails, and depends on nothing outside the delivery's identity.
    /// `None`: the body's SHA-256 serves.
    fn partition_key(&self, headers: &Headers, body: &[u8]) -> Option<PartitionKey>;

    /// The time that the age is judged by, milliseconds since 1970, as the delivery has it and whether it is
    /// proved or not; `None` where it has none that can be read.
    fn signed_at(&self, delivery: Delivery<'_>) -> Option<i64> {
        let _ = delivery;
        None
    }

    /// Decides whether a delivery is authentic and what it says. Pure: age is judged against
    /// [`RawRequest::received_at`]. The refusal is the first in the order of
    /// [`crate::reason::Reason`] that applies.
    fn verify<'a>(
        &self,
        delivery: Delivery<'a>,
        credentials: &Credentials,
    ) -> Result<Authentic<'a>, Refusal>;
}

/// What a source is to be subscribed to at its provider, by the operator's command line. The services read
/// neither of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The event types.
    pub events: Vec<String>,
    /// The waitlists, each of which has every event.
    pub waitlists: Vec<String>,
    /// The file under `secrets_dir` with the source's URL, which carries its token.
    pub target_url_file: String,
    /// The file under `secrets_dir` with the key of the provider's API.
    pub api_key_file: String,
}

/// How signatures matter to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// Every request is signed, so the source needs a secret.
    Required,
    /// Requests may come without a signature, so the source needs a token or a required header.
    Optional,
    /// Signatures are not looked at, so the source needs a token or a required header.
    Off,
}

/// What a source's secret files hold that is valid at one time ([`super::Keyring`]).
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The secrets in the order of the settings; all are tried. Empty where the source has none.
    pub keys: Vec<Key>,
    /// How many secrets of the source are not valid at this time.
    pub outside: usize,
    /// The content of each of [`Verifier::files`], by name, one trailing line end taken off.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A request with its body.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// All but the body.
    pub request: &'a RawRequest,
    /// The body as it came.
    pub body: &'a [u8],
}

/// A delivery that is what it says it is, and a payload that has what identity and type need.
pub struct Authentic<'a> {
    /// How it was proved.
    pub proof: Proof,
    /// What it says.
    pub payload: Box<dyn Payload + 'a>,
}

/// How a delivery was proved to be authentic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// How much of it is proved.
    pub authenticity: Authenticity,
    /// Which signing scheme matched, such as `ts.data`; `None` without a signature.
    pub scheme: Option<&'static str>,
    /// The `key_id` of the secret that matched; `None` without a signature.
    pub key_id: Option<String>,
    /// It carries a signature that no secret is configured for: passed over, and worth a warning.
    pub unverified_signature: bool,
}

impl Proof {
    /// A secret gave the signature.
    pub fn signed(authenticity: Authenticity, scheme: &'static str, key: &Key) -> Self {
        Self {
            authenticity,
            scheme: Some(scheme),
            key_id: Some(key.name.clone()),
            unverified_signature: false,
        }
    }

    /// The request carried what only the provider knows.
    pub fn token(unverified_signature: bool) -> Self {
        Self {
            authenticity: Authenticity::Token,
            scheme: None,
            key_id: None,
            unverified_signature,
        }
    }
}

/// What an authentic delivery says.
pub trait Payload {
    /// What makes two deliveries the same.
    fn identity(&self) -> Identity;

    /// The event's columns, as far as the payload has them.
    fn fields(&self) -> Fields;
}

/// The raw record's key, before its length is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionKey {
    /// Text from the request.
    Text(String),
    /// 32 bytes of SHA-256.
    Hashed([u8; 32]),
}

/// The longest text that serves as a key as it is, in bytes; a longer one is hashed.
pub const KEY_BYTES: usize = 256;

/// The raw record's key: the verifier's, else the body's SHA-256. Never empty.
pub fn partition_key(verifier: &dyn Verifier, headers: &Headers, body: &[u8]) -> Vec<u8> {
    match verifier.partition_key(headers, body) {
        Some(PartitionKey::Text(text)) if text.is_empty() => sha256(body).to_vec(),
        Some(PartitionKey::Text(text)) if text.len() > KEY_BYTES => {
            sha256(text.as_bytes()).to_vec()
        }
        Some(PartitionKey::Text(text)) => text.into_bytes(),
        Some(PartitionKey::Hashed(hash)) => hash.to_vec(),
        None => sha256(body).to_vec(),
    }
}
