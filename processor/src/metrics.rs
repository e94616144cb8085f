//! The metrics of the processor.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::{FATES, HELD_BACK, UNVERIFIED_SIGNATURES};
use sluice_schemas::reason::Reason;
use sluice_service::metric::register;

use crate::pipeline::outgoing::Label;

/// The labels of [`FATES`], in their order on the wire: source, provider, fate, reason.
pub type FateLabels = [(&'static str, String); 4];

impl From<Label<'_>> for FateLabels {
    fn from(label: Label<'_>) -> Self {
        let reason = label.reason.map_or("", Reason::name);
        [
            ("source", label.source.to_owned()),
            ("provider", label.provider.to_owned()),
            ("fate", label.fate.name().to_owned()),
            ("reason", reason.to_owned()),
        ]
    }
}

/// The metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    fates: Family<FateLabels, Counter<u64, AtomicU64>>,
    unverified: Family<[(&'static str, String); 1], Counter<u64, AtomicU64>>,
    held_back: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        register(registry, FATES, metrics.fates.clone());
        register(registry, UNVERIFIED_SIGNATURES, metrics.unverified.clone());
        register(registry, HELD_BACK, metrics.held_back.clone());
        metrics
    }

    /// For how long a topic's last stable offset has stood still behind its end: the longest of its
    /// partitions.
    pub fn held_back(&self, topic: &str, still: Duration) {
        self.held_back
            .get_or_create(&[("topic", topic.to_owned())])
            .set(still.as_secs_f64());
    }

    /// Counts raw records with the same labels, in a committed transaction.
    pub fn count(&self, labels: &FateLabels, count: u64) {
        self.fates.get_or_create(labels).inc_by(count);
    }

    /// Counts events of a source with a signature that no secret is configured for. The first of a source are
    /// logged.
    pub fn unverified(&self, source: &str, count: u64) {
        let counter = self
            .unverified
            .get_or_create(&[("source", source.to_owned())]);
        if counter.inc_by(count) == 0 {
            tracing::warn!(
                source,
                "requests carry a signature, and the source has no secret to verify it: configure the secret"
            );
        }
    }
}
