//! The providers: how each signs, what identifies a delivery, how its payload becomes an event.
//!
//! # Adding a provider
//!
//! 1. Make a folder here with `mod.rs`, `signature.rs`, `payload.rs`, `normalize.rs` and `README.md`.
//! 2. Implement [`Provider`] (what holds for all of its sources), [`Endpoint`] (one source of it) and,
//!    for tests and the playground, `testing::Sender`.
//! 3. Record requests as `fixtures/NN-case.http`: lines of `# setting: value` (`options`, `secret`, `file`,
//!    `received_at`, `token`, `age`), then the request as it came. Write what each becomes with
//!    `UPDATE_GOLDEN=1 cargo test -p sluice-schemas`, and read it.
//! 4. Add it to [`ALL`].
//! 5. Run `make test`: every suite walks [`ALL`], so it is tried tampered, late, under another secret
//!    and end to end without another line.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Authenticity, Fields};
use crate::identity::{Identity, sha256};
use crate::raw::{Headers, RawRequest};
use crate::reason::Refusal;
use crate::settings::reader::Node;

pub mod signature;

pub mod flock;

pub mod referralloop;

pub mod flowcode;

pub mod flockler;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "fixtures are files")]
mod fixture;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "fixtures are files")]
mod tests;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the golden file is a file")]
mod golden_tests;

#[cfg(test)]
mod vector_tests;

#[cfg(test)]
mod hostile_tests;

#[cfg(all(test, feature = "testing"))]
mod sender_tests;

#[cfg(all(test, feature = "testing"))]
mod field_tests;

use signature::Key;

/// Every provider. A test holds this list against the folders beside this file.
pub const ALL: [&dyn Provider; 4] = [
    &flock::Flock,
    &referralloop::ReferralLoop,
    &flowcode::Flowcode,
    &flockler::Flockler,
];

/// The provider of a name.
pub fn by_name(name: &str) -> Option<&'static dyn Provider> {
    ALL.into_iter()
        .find(|provider| provider.facts().name == name)
}

/// What holds for a provider whatever the source.
#[derive(Debug)]
pub struct Facts {
    /// The name in settings, topics and events: lower case letters and digits.
    pub name: &'static str,
    /// The documented event types. Each has a topic of its own; others go to `events.{name}.other`.
    pub events: &'static [&'static str],
    /// The largest body, in bytes, where the source does not say otherwise.
    pub max_body: u64,
    /// Whether repetition is judged by the entity's last event (see [`crate::identity::Sequence`]).
    pub by_sequence: bool,
    /// For how long after the first attempt the provider may send the same delivery again.
    pub retry_horizon: Duration,
}

/// A provider, as the registry knows it.
pub trait Provider: Sync {
    /// What holds whatever the source.
    fn facts(&self) -> &'static Facts;

    /// A cheap look for what keeps the retries of one delivery, and all of one entity, in one
    /// partition. It proves nothing, never fails, and depends on nothing outside the delivery's
    /// identity. `None`: the body's SHA-256 serves.
    fn partition_key(&self, headers: &Headers, body: &[u8]) -> Option<PartitionKey>;

    /// One source of this provider, from its `options`. Takes out of `options` what it knows; faults
    /// gather there, and the caller reports what is left as unknown.
    fn endpoint(&self, options: &mut Node) -> Box<dyn Endpoint>;

    /// What tests and the playground need to send as this provider does.
    #[cfg(feature = "testing")]
    fn sender(&self) -> &'static dyn testing::Sender;
}

impl std::fmt::Debug for dyn Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.facts().name)
    }
}

/// One source of a provider: its options are read, its secrets come with each call.
pub trait Endpoint: Send + Sync + std::fmt::Debug {
    /// Reads the content of a secret file (one trailing line end already taken off). An error is one
    /// sentence that does not show the content.
    fn key(&self, content: &[u8]) -> Result<Key, String>;

    /// How signatures matter here.
    fn signing(&self) -> Signing;

    /// Files under `secrets_dir`, besides the secrets, that this source reads ([`Credentials::files`]).
    fn files(&self) -> &[String] {
        &[]
    }

    /// Reads one of [`Endpoint::files`]: an error is one sentence that does not show the content.
    fn check_file(&self, content: &[u8]) -> Result<(), String> {
        let _ = content;
        Ok(())
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

/// What a source's secret files hold now.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The secrets in the order of the settings; all are tried.
    pub keys: Vec<Key>,
    /// The content of each of [`Endpoint::files`], by name, one trailing line end taken off.
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
    /// The name of the secret that matched; `None` without a signature.
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

    /// The event's columns, as far as the payload tells them.
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

/// The raw record's key: the provider's, else the body's SHA-256. Never empty.
pub fn partition_key(provider: &dyn Provider, headers: &Headers, body: &[u8]) -> Vec<u8> {
    match provider.partition_key(headers, body) {
        Some(PartitionKey::Text(text)) if text.is_empty() => sha256(body).to_vec(),
        Some(PartitionKey::Text(text)) if text.len() > KEY_BYTES => {
            sha256(text.as_bytes()).to_vec()
        }
        Some(PartitionKey::Text(text)) => text.into_bytes(),
        Some(PartitionKey::Hashed(hash)) => hash.to_vec(),
        None => sha256(body).to_vec(),
    }
}
