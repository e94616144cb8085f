//! The metrics: one function for each event that is counted.

mod delivery;

mod reasons;

mod spool;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::UNKNOWN_SOURCE;
use sluice_schemas::metric::ingest::{
    INGEST_ACK, INGEST_BROKEN_OFF, INGEST_BUFFERED, INGEST_CONNECTIONS, INGEST_LIMITS,
    INGEST_REQUEST, INGEST_REQUESTS, INGEST_SHED, INGEST_SPOOLED, INGEST_TLS_RELOAD_FAILURES,
    INGEST_UNAVAILABLE,
};
use sluice_service::metric::register;

pub use self::delivery::{Accepted, DeliveryMetrics};
pub use self::reasons::{Part, Shed};
pub use self::spool::SpoolMetrics;
use crate::answer::{Answer, Limit, UnavailableReason};

/// The statuses of answers to a source that is configured, but for those of malformed requests.
const STATUSES: [u16; 8] = [200, 404, 405, 408, 413, 415, 429, 503];

/// What keeps a request from the brokers and puts it into the spool.
const SPOOLED: [Option<UnavailableReason>; 5] = [
    None,
    Some(UnavailableReason::Starting),
    Some(UnavailableReason::Queue),
    Some(UnavailableReason::Acknowledgement),
    Some(UnavailableReason::Broker),
];

/// The trace of a request that is traced.
pub type TraceId = [u8; 16];

/// Ingest's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    request: Family<Source, Latency, fn() -> Latency>,
    limits: Family<LimitLabel, Counter>,
    broken_off: Family<BrokenOff, Counter>,
    unavailable: Family<Unavailable, Counter>,
    ack: Latency,
    buffered: Gauge<u64, AtomicU64>,
    connections: Gauge,
    spooled: Family<Unavailable, Counter>,
    spool: SpoolMetrics,
    delivery: DeliveryMetrics,
    shed: Family<ShedLabel, Counter>,
    tls_reload_failures: Counter,
    unknown: Arc<str>,
}

type Latency = HistogramWithExemplars<Trace>;

/// The label of an exemplar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trace {
    trace_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
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

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let accepted = Accepted::default();
        let metrics = Self {
            requests: Family::default(),
            broken_off: Family::default(),
            unavailable: Family::default(),
            request: Family::new_with_constructor(latency),
            limits: Family::default(),
            ack: latency(),
            buffered: Gauge::default(),
            connections: Gauge::default(),
            spooled: Family::default(),
            spool: SpoolMetrics::new(registry, accepted.series("spool")),
            delivery: DeliveryMetrics::new(registry, accepted),
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
        register(registry, INGEST_REQUEST, metrics.request.clone());
        register(registry, INGEST_LIMITS, metrics.limits.clone());
        metrics.begin();
        metrics
    }

    /// Begins the series of closed lists at 0, so that their first event is a rise.
    fn begin(&self) {
        for limit in Limit::ALL.map(Limit::label) {
            drop(self.limits.get_or_create(&LimitLabel { limit }));
        }
        for reason in UnavailableReason::ALL.map(UnavailableReason::label) {
            drop(self.unavailable.get_or_create(&Unavailable { reason }));
        }
        for reason in SPOOLED.map(spooled_label) {
            drop(self.spooled.get_or_create(&Unavailable { reason }));
        }
        for reason in Shed::ALL.map(Shed::label) {
            drop(self.shed.get_or_create(&ShedLabel { reason }));
        }
    }

    /// Begins the series of a source that is configured at 0. One that is removed keeps them.
    pub fn source(&self, source: &Arc<str>) {
        for status in STATUSES {
            let source = Arc::clone(source);
            drop(self.requests.get_or_create(&Request { source, status }));
        }
        for at in Part::OF_SOURCES.map(Part::label) {
            let source = Arc::clone(source);
            drop(self.broken_off.get_or_create(&BrokenOff { source, at }));
        }
        let source = Arc::clone(source);
        drop(self.request.get_or_create(&Source { source }));
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
        if let Some(limit) = answer.limit().map(Limit::label) {
            self.limits.get_or_create(&LimitLabel { limit }).inc();
        }
        if let Answer::Unavailable(reason) = answer {
            self.unavailable(reason);
        }
    }

    /// A request to a source that is configured was answered so long after its head.
    pub fn took(&self, source: &Arc<str>, after: Duration, trace: Option<TraceId>) {
        let source = Arc::clone(source);
        let request = self.request.get_or_create(&Source { source });
        observe(&request, after, trace);
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
    pub fn acknowledged(&self, after: Duration, trace: Option<TraceId>) {
        observe(&self.ack, after, trace);
    }

    /// A request is durable in the spool: `reason` kept it from the brokers, or it lines up behind the
    /// others.
    pub fn spooled(&self, reason: Option<UnavailableReason>) {
        let reason = spooled_label(reason);
        self.spooled.get_or_create(&Unavailable { reason }).inc();
    }

    /// Those of delivery reports.
    pub fn delivery(&self) -> &DeliveryMetrics {
        &self.delivery
    }

    /// The spool's own.
    pub fn spool(&self) -> &SpoolMetrics {
        &self.spool
    }

    /// As many bytes are held now.
    pub fn buffered(&self, bytes: usize) {
        self.buffered.set(bytes as u64);
    }

    /// One connection more is open. Counted and not set, for several threads may see their numbers in another
    /// order than they came to be.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// One connection less is open.
    pub fn disconnected(&self) {
        self.connections.dec();
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

/// Half a millisecond to eight seconds: past the longest that a sender is kept waiting.
fn latency() -> Latency {
    HistogramWithExemplars::new(exponential_buckets(0.0005, 2.0, 15))
}

/// The trace, if there is one, becomes the exemplar of its bucket.
fn observe(latency: &Latency, after: Duration, trace: Option<TraceId>) {
    let trace = trace.map(|trace| Trace {
        trace_id: hex::encode(trace),
    });
    latency.observe(after.as_secs_f64(), trace, None);
}

fn spooled_label(reason: Option<UnavailableReason>) -> &'static str {
    reason.map_or("behind", UnavailableReason::label)
}
