//! What ingest takes from the settings, in the shape in which it is asked for with every request.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName};
use sluice_schemas::identity::sha256;
use sluice_schemas::providers::Provider;
use sluice_schemas::service::settings::{Settings, Source};

/// How the program is called.
#[derive(Debug, clap::Parser)]
#[command(
    name = "sluice-ingest",
    version,
    about = "HTTP in, durable raw record out"
)]
pub struct Arguments {
    /// The settings file.
    #[arg(long, env = "SLUICE_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Reads the settings, reports and exits.
    #[arg(long)]
    pub check: bool,
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does besides serving.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Command {
    /// Brings a spool that a pod left behind to Kafka, and ends; takes no requests.
    Drain {
        /// What is older than `ingest.spool.max_age` too: the deduplication may not know it any more.
        #[arg(long)]
        older: bool,
    },
}

/// Ingest's part of the settings.
#[derive(Debug)]
pub struct Config {
    /// How long a sender waits for the acknowledgement before 503.
    pub ack_timeout: Duration,
    /// How long the head of a request may take, which also bounds an idle connection.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// Bytes of bodies held at once, over all requests.
    pub max_buffered: usize,
    /// The largest record of the raw topic, in bytes.
    pub max_record: usize,
    /// The share of requests whose trace is sampled, 0 to 1.
    pub trace_ratio: f64,
    /// The sources that are answered.
    pub doors: Doors,
}

impl Config {
    /// From settings that were checked when they were loaded.
    pub fn new(settings: &Settings) -> Self {
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            ack_timeout: settings.ingest.ack_timeout,
            header_timeout: settings.ingest.header_timeout,
            body_timeout: settings.ingest.body_timeout,
            max_buffered: bytes(settings.ingest.max_buffered),
            max_record: bytes(settings.raw_max_message_bytes()),
            trace_ratio: settings.telemetry.trace_ratio,
            doors: Doors::new(settings.sources.values().filter(|source| source.enabled)),
        }
    }
}

/// A source as ingest knows it.
#[derive(Debug)]
pub struct Route {
    /// The source's name. Shared, for every answer is counted under it.
    pub name: Arc<str>,
    /// Who sends to it.
    pub provider: &'static dyn Provider,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// Whether a token or headers are required, so that who is let in has proved something.
    pub guarded: bool,
    /// Headers that are secrets and are not kept.
    pub required: Vec<HeaderName>,
}

/// All sources and what they require. Whether a request is let in takes the same work whatever the
/// source and also where there is none, so that who guesses learns nothing from the time it takes.
#[derive(Debug)]
pub struct Doors {
    by_name: HashMap<String, (Route, Lock)>,
    /// For requests that name no source: fits no key.
    blind: Lock,
}

/// What one source requires, filled up to what the most demanding one does.
#[derive(Debug, Clone, Default)]
struct Lock {
    takes_token: bool,
    tokens: Vec<[u8; 32]>,
    /// A header and the hashes of the values that it may have; `None` fills up.
    headers: Vec<(Option<HeaderName>, Vec<[u8; 32]>)>,
}

/// The hash of nothing that anybody knows.
const FILLER: [u8; 32] = [0; 32];

impl Doors {
    fn new<'a>(sources: impl Iterator<Item = &'a Source>) -> Self {
        let mut by_name: HashMap<String, (Route, Lock)> = sources
            .map(|source| (source.name.clone(), (Route::new(source), Lock::new(source))))
            .collect();
        let mut blind = Lock::default();
        for (_, lock) in by_name.values() {
            blind.grow_to(lock);
        }
        for (_, lock) in by_name.values_mut() {
            lock.grow_to(&blind);
        }
        Self { by_name, blind }
    }

    /// The source of this name, where the request may go in. `token` is the segment of the path after
    /// the source's name.
    pub fn open(
        &self,
        source: Option<&str>,
        token: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<&Route, Option<&Route>> {
        let found = source.and_then(|name| self.by_name.get(name));
        let lock = found.map_or(&self.blind, |(_, lock)| lock);
        let fits = lock.fits(token, headers);
        match found {
            Some((route, _)) if fits => Ok(route),
            Some((route, _)) => Err(Some(route)),
            None => Err(None),
        }
    }
}

impl Route {
    fn new(source: &Source) -> Self {
        let required: Vec<HeaderName> = source
            .require_headers
            .iter()
            .filter_map(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect();
        Self {
            name: source.name.as_str().into(),
            provider: source.provider,
            max_body: source.max_body,
            guarded: !source.token_sha256.is_empty() || !source.require_headers.is_empty(),
            required,
        }
    }
}

impl Lock {
    fn new(source: &Source) -> Self {
        let header = |(name, hashes): &(String, Vec<[u8; 32]>)| {
            (HeaderName::from_bytes(name.as_bytes()).ok(), hashes.clone())
        };
        Self {
            takes_token: !source.token_sha256.is_empty(),
            tokens: source.token_sha256.clone(),
            headers: source.require_headers.iter().map(header).collect(),
        }
    }

    fn grow_to(&mut self, other: &Self) {
        let tokens = self.tokens.len().max(other.tokens.len()).max(1);
        self.tokens.resize(tokens, FILLER);
        let headers = self.headers.len().max(other.headers.len());
        self.headers.resize(headers, (None, vec![FILLER]));
    }

    #[expect(
        clippy::needless_bitwise_bool,
        reason = "a lazy operator would do less work for some"
    )]
    fn fits(&self, token: Option<&str>, headers: &HeaderMap) -> bool {
        let hash = sha256(token.unwrap_or_default().as_bytes());
        let known = is_one_of(&hash, &self.tokens);
        let mut fits = (token.is_some() == self.takes_token) & (known | !self.takes_token);
        for (name, hashes) in &self.headers {
            let mut values = name.iter().flat_map(|name| headers.get_all(name));
            // Twice is not once: which of the two a proxy looked at is not known.
            let (value, another) = (values.next(), values.next());
            let value = value.map_or(b"".as_slice(), |value| value.as_bytes());
            fits &= (is_one_of(&sha256(value), hashes) & another.is_none()) | name.is_none();
        }
        fits
    }
}

/// Whether a hash is among some, looking at every byte of each.
fn is_one_of(hash: &[u8; 32], known: &[[u8; 32]]) -> bool {
    known.iter().fold(false, |found, other| {
        let differing = hash
            .iter()
            .zip(other)
            .fold(0, |bits, (a, b)| bits | (a ^ b));
        found | (std::hint::black_box(differing) == 0)
    })
}
