//! What is counted: one function a happening.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sluice_schemas::metric::{INGEST_REQUESTS, UNKNOWN_SOURCE};

use crate::answer::{Answer, Lack};

/// Counter: requests answered with 503, by what was lacking.
const UNAVAILABLE: &str = "sluice_ingest_unavailable";
/// Histogram: from handing a record over until all in-sync replicas have it.
const ACK: &str = "sluice_ingest_ack";
/// Gauge: bytes of bodies held now.
const BUFFERED: &str = "sluice_ingest_buffered";
/// Gauge: connections open now.
const CONNECTIONS: &str = "sluice_ingest_connections";

/// Ingest's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    unavailable: Family<Unavailable, Counter>,
    ack: Histogram,
    buffered: Gauge<u64, AtomicU64>,
    connections: Gauge,
    unknown: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    source: Arc<str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unavailable {
    reason: &'static str,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            unavailable: Family::default(),
            // Half a millisecond to eight seconds: past the longest that a sender is kept waiting.
            ack: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            buffered: Gauge::default(),
            connections: Gauge::default(),
            unknown: UNKNOWN_SOURCE.into(),
        };
        registry.register(
            INGEST_REQUESTS,
            "Requests answered",
            metrics.requests.clone(),
        );
        let help = "Requests answered with 503, by what was lacking";
        registry.register(UNAVAILABLE, help, metrics.unavailable.clone());
        let help = "Time until all in-sync replicas had a record";
        registry.register_with_unit(ACK, help, Unit::Seconds, metrics.ack.clone());
        let help = "Bodies held now";
        registry.register_with_unit(BUFFERED, help, Unit::Bytes, metrics.buffered.clone());
        registry.register(
            CONNECTIONS,
            "Connections open now",
            metrics.connections.clone(),
        );
        metrics
    }

    /// A request was answered. `source` is `None` where no source of that name is answered.
    pub fn answered(&self, source: Option<&Arc<str>>, answer: Answer) {
        let request = Request {
            source: Arc::clone(source.unwrap_or(&self.unknown)),
            status: answer.status().as_u16(),
        };
        self.requests.get_or_create(&request).inc();
        if let Answer::Unavailable(lack) = answer {
            self.lacking(lack);
        }
    }

    fn lacking(&self, lack: Lack) {
        let reason = lack.label();
        self.unavailable
            .get_or_create(&Unavailable { reason })
            .inc();
        tracing::debug!(reason, "answered 503");
    }

    /// A record was acknowledged.
    pub fn acknowledged(&self, after: Duration) {
        self.ack.observe(after.as_secs_f64());
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
}
