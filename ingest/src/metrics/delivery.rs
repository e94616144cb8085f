//! The metrics of what the brokers report of records that were handed to them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::ingest::INGEST_ACCEPTED;
use sluice_service::kafka::clocks::Clocks;
use sluice_service::kafka::statistics::{ClientStatistics, Statistics};
use sluice_service::metric::register;

/// What became durable where, and the brokers' clocks.
#[derive(Debug, Clone)]
pub struct DeliveryMetrics {
    raw: Counter,
    clocks: Clocks,
    clients: ClientStatistics,
}

/// Requests made durable, by where.
#[derive(Debug, Clone, Default)]
pub struct Accepted(Family<To, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    to: &'static str,
}

impl Accepted {
    /// The series of a place.
    pub fn series(&self, to: &'static str) -> Counter {
        self.0.get_or_create(&To { to }).clone()
    }
}

impl DeliveryMetrics {
    /// Registers them, and `accepted` with both of its series.
    pub fn new(registry: &mut Registry, accepted: Accepted) -> Self {
        let raw = accepted.series("raw");
        let metrics = Self {
            raw,
            clocks: Clocks::new(registry),
            clients: ClientStatistics::new(registry),
        };
        register(registry, INGEST_ACCEPTED, accepted.0);
        metrics
    }

    /// Where a producer reports its statistics, by its name.
    pub fn client(&self, name: &str) -> Statistics {
        self.clients.of(name)
    }

    /// The brokers have a request's record, its sender answered or not.
    pub fn on_raw(&self) {
        self.raw.inc();
    }

    /// The brokers' clocks.
    pub const fn clocks(&self) -> &Clocks {
        &self.clocks
    }
}
