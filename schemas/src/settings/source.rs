//! `sources`: each webhook endpoint of ours, and what must hold between its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::network::networks;
use super::secret::{Secret, secrets};
use super::sizes::max_body;
use super::values::{FILE_NAME, bounded, file, hash, is_file_name, is_set};
use crate::identity::sha256;
use crate::metric::UNKNOWN_SOURCE;
use crate::providers::{self, Provider, Signing, Verifier};
use crate::settings::reader::{Faults, Node};
use crate::topic::{OTHER, is_event_type};

/// One webhook endpoint of ours.
#[derive(Debug)]
pub struct Source {
    /// Its name in the URL, in events and in metrics.
    pub name: String,
    /// Who sends to it.
    pub provider: &'static dyn Provider,
    /// `options` as they stand in the file, which the verifier was made of: who sends needs them too.
    pub options: Value,
    /// The check of this source's deliveries, under its options. Shared with the store of the secrets, which
    /// reads secrets by it.
    pub verifier: Arc<dyn Verifier>,
    /// Its secrets; those that are valid at a request's receipt are all tried.
    pub secrets: Vec<Secret>,
    /// SHA-256 of the tokens that the URL may carry; empty: no token.
    pub token_sha256: Vec<[u8; 32]>,
    /// Header name (lower case) and SHA-256 of the values it may have; all names must match.
    pub require_headers: Vec<(String, Vec<[u8; 32]>)>,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// For how long an event suppresses its repetitions.
    pub dedup_window: Duration,
    /// Types with a topic of their own, apart from [`Verifier::topic_types`].
    pub events: BTreeSet<String>,
    /// A disabled source is answered like one that is not there; its raw records are still judged.
    pub enabled: bool,
    /// PEM: requests must come under a client certificate of one of these authorities.
    pub client_ca_file: Option<PathBuf>,
    /// The networks that a request's peer must be of; empty: any peer.
    pub allow_from: Vec<IpNet>,
    /// Requests a second that are taken; more are asked to come again. `None`: no bound.
    pub rate: Option<u32>,
}

/// The most that `rate` may say, in requests a second: more than a process can take is no bound.
const MAX_RATE: i64 = 1_000_000;

const TOKEN_HASH: &str = "must be a list of 64 hex digits each: SHA-256 of a token";

/// Reads `sources`. Those with a fault are left out; the fault says so.
pub(super) fn sources(
    node: Node,
    longest_window: Duration,
    secrets_dir: &Path,
    faults: &Faults,
) -> BTreeMap<String, Source> {
    let mut sources = BTreeMap::new();
    let mut slugs = Slugs::default();
    let children = node.children();
    if children.is_empty() {
        faults.add("sources", "at least one is needed");
    }
    for (name, node) in children {
        let path = format!("sources.{name}");
        if name == UNKNOWN_SOURCE {
            faults.add(&path, "is reserved: metrics call so what is not configured");
        } else if !is_source_name(&name) {
            faults.add(
                &path,
                "must be called by 1 to 63 lower-case letters, digits and hyphens",
            );
        }
        if let Some(source) = source(name.clone(), node, longest_window, secrets_dir, &mut slugs) {
            sources.insert(name, source);
        }
    }
    sources
}

fn source(
    name: String,
    mut node: Node,
    longest_window: Duration,
    secrets_dir: &Path,
    slugs: &mut Slugs,
) -> Option<Source> {
    let provider = provider(&mut node);
    for key in ["token", "tokens"] {
        if node.value(key).is_some() {
            node.fault(
                key,
                "is a secret in plain text: put its SHA-256 under token_sha256",
            );
        }
    }
    let secrets = secrets(&mut node);
    let token_sha256 = token_sha256(&mut node);
    let require_headers = require_headers(&mut node);
    if let Some(options) = node.peek("options").filter(|_| provider.is_some()) {
        plain_tokens(&node, "options", options, &token_sha256);
    }
    let options = node.peek("options").cloned().unwrap_or_default();
    let verifier = provider.map(|provider| verifier(&mut node, provider));
    let max_body = max_body(&mut node, verifier.as_deref());
    let dedup_window = bounded(&mut node, "dedup_window", longest_window);
    if dedup_window > longest_window {
        node.fault("dedup_window", "must be at most processor.dedup_window");
    }
    let events: BTreeSet<String> = node.texts("events").into_iter().collect();
    let enabled = node.flag("enabled", true);
    let client_ca_file = file(&mut node, "client_ca_file", secrets_dir);
    let allow_from = networks(&mut node, "allow_from");
    let rate = rate(&mut node);

    let (Some(provider), Some(verifier)) = (provider, verifier) else {
        // Whose options these are is not known, so nothing can be said about them.
        node.value("options");
        node.finish();
        return None;
    };
    slugs.check(
        &node,
        provider.spec().name,
        &verifier.topic_types(),
        &events,
    );
    let proved = !token_sha256.is_empty() || !require_headers.is_empty();
    let by = (proved, !allow_from.is_empty());
    signing(&node, verifier.signing(), by, &secrets);
    node.finish();
    Some(Source {
        name,
        provider,
        options,
        verifier,
        secrets,
        token_sha256,
        require_headers,
        max_body,
        dedup_window,
        events,
        enabled,
        client_ca_file,
        allow_from,
        rate,
    })
}

fn provider(node: &mut Node) -> Option<&'static dyn Provider> {
    let name = node.text("provider").unwrap_or_default();
    let found = providers::by_name(&name);
    if found.is_none() {
        let names: Vec<&str> = providers::ALL
            .iter()
            .map(|known| known.spec().name)
            .collect();
        node.fault("provider", format!("must be one of {}", names.join(", ")));
    }
    found
}

/// The verifier under the source's `options`.
fn verifier(node: &mut Node, provider: &dyn Provider) -> Arc<dyn Verifier> {
    let mut options = node.child("options");
    let verifier: Arc<dyn Verifier> = provider.verifier(&mut options).into();
    options.finish();
    file_names(node, "options", verifier.files());
    verifier
}

impl Source {
    /// Whether ingest takes its requests from anybody, so that only the processor knows who sent them.
    pub fn is_open(&self) -> bool {
        !self.is_guarded() && self.allow_from.is_empty()
    }

    /// Whether a request that ingest takes has proved something that a stranger does not have. An address is
    /// none: the clouds from which providers send are everybody's.
    pub fn is_guarded(&self) -> bool {
        !self.token_sha256.is_empty()
            || !self.require_headers.is_empty()
            || self.client_ca_file.is_some()
    }

    /// The event types that have a topic of their own.
    pub fn topic_types(&self) -> impl Iterator<Item = &str> {
        let own = self.events.iter().map(String::as_str);
        self.verifier.topic_types().into_iter().chain(own)
    }

    /// Whether a record that waits on a spool for so long, and each of its repetitions, fall into one window.
    pub(super) fn fits_window(&self, spooled: Duration) -> bool {
        let horizon = self.verifier.retry_horizon();
        !self.enabled || spooled.saturating_add(horizon) <= self.dedup_window
    }
}

/// Checks each window against the time for which repetitions come. A provider sends a delivery again until
/// its retry horizon ends, and a record may come to raw `spooled` after its sender had its answer: all of
/// them must fall into one window, or one delivery becomes two events. `spooled`: `None` without a spool.
pub(super) fn windows(
    sources: &BTreeMap<String, Source>,
    spooled: Option<Duration>,
    faults: &Faults,
) {
    let late = |source: &&Source| !source.fits_window(spooled.unwrap_or_default());
    for source in sources.values().filter(late) {
        let (horizon, provider) = (source.verifier.retry_horizon(), source.provider.spec().name);
        let on_a_spool = spooled.map_or_else(String::new, |age| {
            let age = in_words(age);
            format!(", and a record may stay on the spool for {age} (ingest.spool.max_age)")
        });
        let message = format!(
            "must be at least {}, and is {}: {provider} retries for {}{on_a_spool}",
            in_words(horizon.saturating_add(spooled.unwrap_or_default())),
            in_words(source.dedup_window),
            in_words(horizon),
        );
        faults.add(format!("sources.{}.dedup_window", source.name), message);
    }
}

/// A time as the settings write it, in its largest whole unit.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        _ if time.subsec_millis() != 0 => format!("{}ms", time.as_millis()),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Requests a second, or nothing for no bound.
fn rate(node: &mut Node) -> Option<u32> {
    if !is_set(node, "rate") {
        return None;
    }
    u32::try_from(node.integer("rate", 1, 1, MAX_RATE)).ok()
}

/// What must stand next to the provider's way of signing.
fn signing(node: &Node, signing: Signing, (proved, by_address): (bool, bool), secrets: &[Secret]) {
    match signing {
        Signing::Required if secrets.is_empty() => {
            node.fault("secrets", "at least one is needed: every request is signed");
        }
        Signing::Optional | Signing::Off if !proved => {
            let who = if by_address {
                "anybody in allow_from could send them, and an address proves no sender"
            } else {
                "anybody could send them"
            };
            let message =
                format!("is needed, or require_headers: requests may be unsigned, so {who}");
            node.fault("token_sha256", message);
        }
        Signing::Required | Signing::Optional | Signing::Off => {}
    }
}

fn token_sha256(node: &mut Node) -> Vec<[u8; 32]> {
    let texts = node.texts("token_sha256");
    let hashes: Vec<[u8; 32]> = texts.iter().filter_map(|text| hash(text)).collect();
    // The text is not reported: it may be the token itself.
    if hashes.len() != texts.len() {
        node.fault("token_sha256", TOKEN_HASH);
    }
    hashes
}

fn require_headers(node: &mut Node) -> Vec<(String, Vec<[u8; 32]>)> {
    let mut found: Vec<(String, Vec<[u8; 32]>)> = Vec::new();
    let mut headers = node.child("require_headers");
    for name in headers.keys() {
        let texts = headers.texts(&name);
        let hashes: Vec<[u8; 32]> = texts.iter().filter_map(|text| hash(text)).collect();
        if texts.is_empty() || hashes.len() != texts.len() {
            headers.fault(
                &name,
                "must be a list of 64 hex digits each: SHA-256 of a value",
            );
        }
        let lower = name.to_ascii_lowercase();
        if !is_header_name(&lower) {
            headers.fault(&name, "is not the name of a header");
        } else if found.iter().any(|(other, _)| *other == lower) {
            headers.fault(&name, "stands there twice, but for the case of its letters");
        }
        found.push((lower, hashes));
    }
    headers.finish();
    found
}

fn file_names(node: &Node, key: &str, names: &[String]) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !is_file_name(name) {
            node.fault(key, FILE_NAME);
        } else if !seen.insert(name) {
            node.fault(key, format!("names {name} twice"));
        }
    }
}

/// Looks through a provider's options for a URL that carries one of the source's tokens: a signed
/// webhook URL does, and each reader of the settings would read the token.
fn plain_tokens(node: &Node, path: &str, value: &Value, hashes: &[[u8; 32]]) {
    match value {
        Value::String(text) => {
            let mut parts = text.split(['/', '?', '&', '=', '#']);
            if parts.any(|part| hashes.contains(&sha256(part.as_bytes()))) {
                let message = "carries a token of this source in plain text: put the URL into a \
                               file under secrets_dir and name it under webhook_url_files";
                node.fault(path, message);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                plain_tokens(node, &format!("{path}[{index}]"), item, hashes);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                plain_tokens(node, &format!("{path}.{key}"), item, hashes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Which event type has which topic, by provider, so that no two share one.
#[derive(Default)]
struct Slugs(BTreeMap<(&'static str, String), String>);

impl Slugs {
    fn check(
        &mut self,
        node: &Node,
        provider: &'static str,
        topic_types: &[&str],
        events: &BTreeSet<String>,
    ) {
        let slug = |r#type: &str| (provider, r#type.replace('_', "-"));
        for r#type in topic_types.iter().copied().chain([OTHER]) {
            self.0
                .entry(slug(r#type))
                .or_insert_with(|| r#type.to_owned());
        }
        for r#type in events {
            if !is_event_type(r#type) {
                let message = "must be types of letters, digits, . _ - and at most 120 long";
                node.fault("events", message);
                continue;
            }
            let other = self.0.entry(slug(r#type)).or_insert_with(|| r#type.clone());
            if other != r#type || r#type == OTHER {
                let message = format!("{type} would share the topic of {other}");
                node.fault("events", message);
            }
        }
    }
}

/// Whether a text may name a source: it stands in URLs, so it needs no escape there.
fn is_source_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a text is a header's name as HTTP defines it (RFC 9110's `token`), in lower case.
fn is_header_name(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 100 && text.bytes().all(token)
}
