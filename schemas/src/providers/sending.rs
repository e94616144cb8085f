//! Sending as the providers do, for the operator's command line, for tests and for the playground. Neither
//! service calls it, so neither holds any of it; a test looks for it in both binaries.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;

use super::api::Spec;
use super::description::Description;
use super::signature::Key;
use crate::settings::reader::{Faults, Node};

/// What a provider's sender does: makes bodies for its events and signs them as the provider would.
pub trait Sender: Sync {
    /// The provider's.
    fn spec(&self) -> &'static Spec;

    /// The provider in words. Here and not at the provider, so that neither service holds it.
    fn description(&self) -> &'static Description;

    /// A source of this provider as it stands in the settings under `sources.{name}`, and the files
    /// under `secrets_dir` that it names, by name and content.
    #[cfg(feature = "testing")]
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

    /// The headers that sign the request, as the provider would at `at` (seconds since 1970), where the
    /// source has the options of [`Sender::source`]. `secret` is the content of the secret's file. Empty
    /// where the provider does not sign.
    fn sign(&self, request: &Unsigned, secret: &[u8], at: i64) -> Vec<(String, String)>;

    /// The same for a source with any options: the sample becomes what the provider would send there, with
    /// all its headers. An error is one sentence that shows no secret.
    fn sign_for(
        &self,
        sample: Unsigned,
        source: &SendingSource<'_>,
        at: i64,
    ) -> Result<Unsigned, String>;
}

/// A source as its sender knows it.
#[derive(Clone, Copy)]
pub struct SendingSource<'a> {
    /// What stands under `options` in the settings, which was checked.
    pub options: &'a Value,
    /// The contents of the secret files, in the order of the settings.
    pub secrets: &'a [Vec<u8>],
    /// The contents of the other files that the source reads, by name.
    pub files: &'a BTreeMap<String, Vec<u8>>,
}

impl SendingSource<'_> {
    /// The options, for the provider's own reading of them.
    pub(super) fn options(&self) -> Node {
        Node::root(self.options.clone(), &Faults::default())
    }

    /// The first secret.
    pub(super) fn secret(&self) -> Result<&[u8], String> {
        let first = self.secrets.first().map(Vec::as_slice);
        first.ok_or_else(|| "the source has no secret to sign with".to_owned())
    }
}

/// A source for tests.
#[cfg(feature = "testing")]
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

impl Unsigned {
    /// The request with these headers too.
    pub(super) fn with(mut self, headers: impl IntoIterator<Item = (String, String)>) -> Self {
        self.headers.extend(headers);
        self
    }
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
