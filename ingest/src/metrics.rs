//! The metrics: one function for each event that is counted.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sluice_schemas::metric::{
    INGEST_ACK, INGEST_BROKEN_OFF, INGEST_BUFFERED, INGEST_CONNECTIONS, INGEST_DRAINED,
    INGEST_REQUESTS, INGEST_SHED, INGEST_SPOOL, INGEST_SPOOL_COMMIT, INGEST_SPOOL_FAILURES,
    INGEST_SPOOL_OLDEST, INGEST_SPOOL_RECORDS, INGEST_SPOOL_REFUSED, INGEST_SPOOLED,
    INGEST_TLS_RELOAD_FAILURES, INGEST_UNAVAILABLE, UNKNOWN_SOURCE,
};
use sluice_service::metric::register;

use crate::answer::{Answer, UnavailableReason};

/// Ingest's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    broken_off: Family<BrokenOff, Counter>,
    unavailable: Family<Unavailable, Counter>,
    ack: Histogram,
    buffered: Gauge<u64, AtomicU64>,
    connections: Gauge,
    spooled: Family<Unavailable, Counter>,
    spool: SpoolMetrics,
    shed: Family<ShedLabel, Counter>,
    tls_reload_failures: Counter,
    unknown: Arc<str>,
}

/// The metrics of the spool.
#[derive(Debug, Clone)]
pub struct SpoolMetrics {
    records: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
    refused: Gauge<u64, AtomicU64>,
    oldest: Gauge,
    drained: Counter,
    commit: Histogram,
    failures: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    source: Arc<str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BrokenOff {
    source: Arc<str>,
    at: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unavailable {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabel {
    reason: &'static str,
}

/// The part of a request that was waited for when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The connection ended within the head. HTTP/1.1 alone.
    Head,
    /// The body is not whole: the connection ended, or an HTTP/2 stream was reset.
    Body,
    /// The request was whole and an HTTP/2 stream was reset, or a limit or the shutdown ended the
    /// connection, before the answer. It may be on raw.
    Answer,
}

impl Part {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Body => "body",
            Self::Answer => "answer",
        }
    }
}

/// Why ingest ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// Its peer has as many as it may.
    PeerConnections,
    /// The header of the PROXY protocol is missing, malformed or late.
    ProxyHeader,
    /// The TLS handshake failed or is late.
    TlsHandshake,
    /// It said nothing.
    FirstByte,
    /// The head of a request is late.
    SlowHead,
    /// What is there for it is not read.
    SlowRead,
    /// HTTP/2: too many requests were reset, or useless frames came.
    Resets,
    /// HTTP/2: far more was sent than its requests account for.
    Overhead,
    /// Too many of its requests were refused one after the other.
    Refusals,
    /// No request came for long.
    Idle,
    /// HTTP/2: it was open for as long as it should be.
    Age,
}

impl Shed {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerConnections => "peer_connections",
            Self::ProxyHeader => "proxy_header",
            Self::TlsHandshake => "tls_handshake",
            Self::FirstByte => "first_byte",
            Self::SlowHead => "slow_head",
            Self::SlowRead => "slow_read",
            Self::Resets => "resets",
            Self::Overhead => "overhead",
            Self::Refusals => "refusals",
            Self::Idle => "idle",
            Self::Age => "age",
        }
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            broken_off: Family::default(),
            unavailable: Family::default(),
            // Half a millisecond to eight seconds: past the longest that a sender is kept waiting.
            ack: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            buffered: Gauge::default(),
            connections: Gauge::default(),
            spooled: Family::default(),
            spool: SpoolMetrics::new(registry),
            shed: Family::default(),
            tls_reload_failures: Counter::default(),
            unknown: UNKNOWN_SOURCE.into(),
        };
        register(registry, INGEST_REQUESTS, metrics.requests.clone());
        register(registry, INGEST_BROKEN_OFF, metrics.broken_off.clone());
        register(registry, INGEST_UNAVAILABLE, metrics.unavailable.clone());
        register(registry, INGEST_ACK, metrics.ack.clone());
        register(registry, INGEST_BUFFERED, metrics.buffered.clone());
        register(registry, INGEST_CONNECTIONS, metrics.connections.clone());
        register(registry, INGEST_SPOOLED, metrics.spooled.clone());
        register(registry, INGEST_SHED, metrics.shed.clone());
        let failures = metrics.tls_reload_failures.clone();
        register(registry, INGEST_TLS_RELOAD_FAILURES, failures);
        metrics
    }

    /// A request was answered. `source` is `None` where no source of that name is answered. One whose
    /// body broke off is counted as that, and not as an answer.
    pub fn answered(&self, source: Option<&Arc<str>>, answer: Answer) {
        if answer == Answer::BrokenOff {
            return self.broken_off(source, Part::Body);
        }
        let request = Request {
            source: Arc::clone(source.unwrap_or(&self.unknown)),
            status: answer.status().as_u16(),
        };
        self.requests.get_or_create(&request).inc();
        if let Answer::Unavailable(reason) = answer {
            self.unavailable(reason);
        }
    }

    /// A request ended before it was whole or answered: its sender ended it, or a limit or the shutdown
    /// ended the connection.
    pub fn broken_off(&self, source: Option<&Arc<str>>, part: Part) {
        let source = Arc::clone(source.unwrap_or(&self.unknown));
        let at = part.label();
        self.broken_off
            .get_or_create(&BrokenOff { source, at })
            .inc();
        tracing::debug!(at, "a request broke off");
    }

    fn unavailable(&self, reason: UnavailableReason) {
        let reason = reason.label();
        self.unavailable
            .get_or_create(&Unavailable { reason })
            .inc();
        tracing::debug!(reason, "answered 503");
    }

    /// A record was acknowledged.
    pub fn acknowledged(&self, after: Duration) {
        self.ack.observe(after.as_secs_f64());
    }

    /// A request is durable in the spool: `reason` kept it from the brokers, or it lines up behind the
    /// others.
    pub fn spooled(&self, reason: Option<UnavailableReason>) {
        let reason = reason.map_or("behind", UnavailableReason::label);
        self.spooled.get_or_create(&Unavailable { reason }).inc();
    }

    /// The spool's own.
    pub fn spool(&self) -> &SpoolMetrics {
        &self.spool
    }

    /// As many bytes are held now.
    pub fn buffered(&self, bytes: usize) {
        self.buffered.set(bytes as u64);
    }

    /// As many connections are open now.
    pub fn connections(&self, open: usize) {
        self.connections
            .set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// A connection was ended. Any client can cause that, so it is a debug line.
    pub fn shed(&self, reason: Shed) {
        let reason = reason.label();
        self.shed.get_or_create(&ShedLabel { reason }).inc();
        tracing::debug!(reason, "ended a connection");
    }

    /// The counter of failures to read the certificate again.
    pub fn tls_reload_failures(&self) -> Counter {
        self.tls_reload_failures.clone()
    }
}

impl SpoolMetrics {
    fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Gauge::default(),
            bytes: Gauge::default(),
            refused: Gauge::default(),
            oldest: Gauge::default(),
            drained: Counter::default(),
            // Half a millisecond to eight seconds: a disk that is slower holds senders up.
            commit: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            failures: Counter::default(),
        };
        register(registry, INGEST_SPOOL_RECORDS, metrics.records.clone());
        register(registry, INGEST_SPOOL, metrics.bytes.clone());
        register(registry, INGEST_SPOOL_REFUSED, metrics.refused.clone());
        register(registry, INGEST_SPOOL_OLDEST, metrics.oldest.clone());
        register(registry, INGEST_DRAINED, metrics.drained.clone());
        register(registry, INGEST_SPOOL_COMMIT, metrics.commit.clone());
        register(registry, INGEST_SPOOL_FAILURES, metrics.failures.clone());
        metrics
    }

    /// What the spool holds; `oldest` in microseconds since 1970.
    pub fn holds(&self, records: u64, bytes: u64, refused: u64, oldest: Option<i64>) {
        self.records.set(records);
        self.bytes.set(bytes);
        self.refused.set(refused);
        self.oldest.set(oldest.unwrap_or(0) / 1_000_000);
    }

    /// Kafka took as many.
    pub fn drained(&self, records: u64) {
        self.drained.inc_by(records);
    }

    /// A group was written and fsynced.
    pub fn committed(&self, after: Duration) {
        self.commit.observe(after.as_secs_f64());
    }

    /// A group was not.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
