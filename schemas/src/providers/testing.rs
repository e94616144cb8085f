//! Sending as the providers do, for tests and the playground. Never in a binary that ships.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;

use super::api::{Provider, Verifier};
use super::signature::Key;
use crate::settings::reader::{Faults, Node};

/// What a provider's sender does: makes bodies for its events and signs them as the provider would.
pub trait Sender: Sync {
    /// A source of this provider as it stands in the settings under `sources.{name}`, and the files
    /// under `secrets_dir` that it names, by name and content.
    fn source(&self, name: &str) -> TestSource;

    /// The events that [`Sender::sample`] shows: the provider's catalogue or, where it publishes none,
    /// types that its sources in tests know and do not know.
    fn events(&self) -> &'static [&'static str];

    /// A request for one of [`Sender::events`] or for any other type. Different `n` are different deliveries
    /// of different entities; the same `n` and `at` give the same bytes. `at` is the time that the
    /// body says, in seconds since 1970.
    fn sample(&self, event: &str, n: u64, at: i64) -> Unsigned;

    /// Whether a request that was signed long before its receipt is rejected for its age.
    fn grows_old(&self) -> bool {
        false
    }

    /// The headers that sign the request, as the provider would at `at` (seconds since 1970). `secret`
    /// is the content of the secret's file. Empty where the provider does not sign.
    fn sign(&self, request: &Unsigned, secret: &[u8], at: i64) -> Vec<(String, String)>;
}

/// A source for tests.
#[derive(Debug, Clone)]
pub struct TestSource {
    /// What stands under `sources.{name}` in the settings.
    pub settings: Value,
    /// Name and content of the files under `secrets_dir`; the first is the secret to sign with.
    pub files: Vec<(String, Vec<u8>)>,
    /// The token that the URL must carry.
    pub token: Option<String>,
}

/// A request before it is signed.
#[derive(Debug, Clone)]
pub struct Unsigned {
    /// Headers other than the signature's, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The provider's id of the delivery, where it has one: a retry has the same.
    pub delivery_id: String,
}

/// The verifier of a provider under the options of its source in tests.
pub fn verifier(provider: &dyn Provider) -> Box<dyn Verifier> {
    let options = provider.sender().source("site").settings["options"].take();
    provider.verifier(&mut Node::root(options, &Faults::default()))
}

/// The MAC that a provider would send under a secret that is used as text.
pub(super) fn mac(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    Key::hmac(secret).hmac_of(parts).unwrap_or_default()
}

/// Standard base64, padded.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A time in seconds since 1970 as ISO 8601 in UTC. A time that has no such form is 1970 itself.
pub(super) fn iso8601(at: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!(
        "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z",
        u8::from(month)
    )
}
