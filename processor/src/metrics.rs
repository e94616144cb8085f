//! What the processor counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::FATES;
use sluice_schemas::reason::Reason;

use crate::fate::Label;

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

/// The counters.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    fates: Family<FateLabels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    /// Makes the counters known to the registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            FATES,
            "Raw records that ended, after the commit",
            metrics.fates.clone(),
        );
        metrics
    }

    /// Raw records that ended alike, in a transaction that is committed.
    pub fn count(&self, labels: &FateLabels, count: u64) {
        self.fates.get_or_create(labels).inc_by(count);
    }
}
