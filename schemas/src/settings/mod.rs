//! The settings: one YAML file for both binaries. Every default stands in [`read`].
//!
//! Comes in: the bytes of the file, and what [`Environment`] holds. Goes out: [`Settings`] that are complete and checked,
//! or every fault with its path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::providers::{Endpoint, Provider};
use crate::topic::TopicNames;

pub mod reader;

pub use reader::{Fault, Faults, Node};

mod read;

pub use read::MAX_FILE_BYTES;

mod kafka;

mod source;

mod door;

mod spool;

mod derived;

pub use derived::RAW_OVERHEAD;

mod change;

pub use change::{Change, Part};

pub use door::{Limits, PeerFrom, TlsFiles};

/// What the file says, complete and checked.
#[derive(Debug)]
pub struct Settings {
    /// How to reach Kafka.
    pub kafka: Kafka,
    /// Names, numbers and bounds of the topics.
    pub topics: Topics,
    /// Where schemas are registered; `None`: events are in single-object encoding.
    pub schema_registry: Option<SchemaRegistry>,
    /// Where secrets stand, one file each.
    pub secrets_dir: PathBuf,
    /// The webhook endpoints of ours, by name; disabled ones too.
    pub sources: BTreeMap<String, Source>,
    /// Ingest's own.
    pub ingest: Ingest,
    /// The processor's own.
    pub processor: Processor,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The file that they were read from.
    pub origin: Origin,
    /// What topics, clients and memories were made for at the start.
    pub(super) made_for: MadeFor,
}

/// What reading depends on besides the file.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The name of this process in its group where the settings do not say.
    pub member: Option<&'a str>,
    /// What the Kafka client says against a property, and against its value where one is given.
    pub property_fault: &'a dyn Fn(&str, Option<&str>) -> Option<&'static str>,
}

/// Where settings came from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
}

/// The sizes of the start, which no later settings exceed or fall below: a topic that is made later
/// must take what the others do. Zero in settings as they are read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MadeFor {
    /// The largest body, in bytes.
    largest_body: u64,
    /// The longest window.
    longest_window: Duration,
}

/// `kafka`
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Any librdkafka property.
    pub properties: Vec<(String, String)>,
    /// Property and the name of the file under `secrets_dir` that holds its value.
    pub secret_properties: Vec<(String, String)>,
}

/// `topics`
#[derive(Debug, Clone, PartialEq)]
pub struct Topics {
    /// The names under the configured prefix.
    pub names: TopicNames,
    /// Whether missing topics are made.
    pub create: bool,
    /// Partitions of raw and dedup-log.
    pub partitions: i32,
    /// Partitions of duplicates, rejected, dead-letter and the event topics.
    pub event_partitions: i32,
    /// Replicas of each partition.
    pub replication: i32,
    /// How long each kind of topic keeps its records.
    pub retention: Retention,
    /// `retention.bytes` of a partition of `webhooks.rejected`.
    pub rejected_bytes: u64,
}

/// `topics.retention`
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "each is the retention of the topic it is named after"
)]
pub struct Retention {
    pub raw: Duration,
    pub events: Duration,
    pub duplicates: Duration,
    pub rejected: Duration,
    pub dead_letter: Duration,
}

/// `schema_registry`
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaRegistry {
    /// The base of the registry's API, without a slash at the end.
    pub url: String,
    /// Register the schema where it is missing; else only verify that it is there.
    pub register: bool,
    /// For HTTP basic authentication.
    pub username: Option<String>,
    /// The file with the password: a path, or a name under `secrets_dir`.
    pub password_file: Option<PathBuf>,
    /// A PEM file of the authorities to trust instead of the usual ones.
    pub ca_file: Option<PathBuf>,
}

/// One webhook endpoint of ours.
#[derive(Debug)]
pub struct Source {
    /// Its name in the URL, in events and in metrics.
    pub name: String,
    /// Who sends to it.
    pub provider: &'static dyn Provider,
    /// The provider under this source's options. Shared with the store of the secrets, which
    /// reads secrets by it.
    pub endpoint: Arc<dyn Endpoint>,
    /// The names of secret files; all are tried.
    pub secrets: Vec<String>,
    /// SHA-256 of the tokens that the URL may carry; empty: no token.
    pub token_sha256: Vec<[u8; 32]>,
    /// Header name (lower case) and SHA-256 of the values it may have; all names must match.
    pub require_headers: Vec<(String, Vec<[u8; 32]>)>,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// For how long an event suppresses its repetitions.
    pub dedup_window: Duration,
    /// Types with a topic of their own besides the provider's catalogue.
    pub events: BTreeSet<String>,
    /// A disabled source is answered like one that is not there; its raw records are still judged.
    pub enabled: bool,
    /// PEM: requests must come under a client certificate of one of these authorities.
    pub client_ca_file: Option<PathBuf>,
    /// Requests a second that are taken; more are asked to come again. `None`: no bound.
    pub rate: Option<u32>,
}

/// `ingest`
#[derive(Debug, Clone)]
pub struct Ingest {
    /// Where webhooks come in.
    pub listen: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin_listen: SocketAddr,
    /// How long a sender waits for the brokers' acknowledgement before 503.
    pub ack_timeout: Duration,
    /// How long the head of a request may take from its first byte.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// Bytes of bodies held at once, over all requests.
    pub max_buffered: u64,
    /// Where requests are kept while Kafka is away; `None`: nowhere, senders are answered 503.
    pub spool: Option<Spool>,
    /// The certificate; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whose word is taken on where a request comes from.
    pub peer: PeerFrom,
    /// What one connection, peer or source may take of what there is.
    pub limits: Limits,
}

/// `ingest.spool`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// The folder, which one process at a time has to itself.
    pub dir: PathBuf,
    /// Bytes of records at most; past that senders are answered 503.
    pub max_bytes: u64,
    /// How old the oldest record may be, by its time of receipt, before no more are taken.
    pub max_age: Duration,
    /// How long the brokers' acknowledgement is waited for before a request is spooled.
    pub wait: Duration,
    /// Records that are brought to Kafka a second, at most.
    pub drain_rate: u32,
    /// A person's word that records older than `max_age` are brought to Kafka too.
    pub drain_older: bool,
}

/// `processor`
#[derive(Debug, Clone)]
pub struct Processor {
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin_listen: SocketAddr,
    /// The consumer group, without the prefix.
    pub group: String,
    /// The name of this process in the group: stable over restarts.
    pub member: String,
    /// How members join.
    pub membership: Membership,
    /// Worker threads.
    pub workers: u32,
    /// The longest time for which an event suppresses its repetitions.
    pub dedup_window: Duration,
    /// A person's word on where to begin when the position is lost.
    pub begin: Option<Begin>,
    /// Whether events carry CloudEvents' headers.
    pub cloudevents_headers: bool,
}

/// `processor.membership`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// A restart is a leave and a join.
    Dynamic,
    /// `group.instance.id` is set: a restart within the session keeps the partitions.
    Static,
}

/// `processor.begin`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At raw's first record.
    Earliest,
    /// At raw's end: what stands there is left unjudged.
    Latest,
}

/// `telemetry`
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Where traces go. This release reads it and exports none.
    pub otlp_endpoint: Option<String>,
    /// The share of requests that are traced, 0 to 1.
    pub trace_ratio: f64,
    /// How logs are written.
    pub log_format: LogFormat,
}

/// `telemetry.log_format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person's eyes.
    Text,
}
