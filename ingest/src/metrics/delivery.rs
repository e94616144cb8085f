//! The metrics of what the brokers report of records that were handed to them.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::ingest::{CLOCK_DIFFERENCE, INGEST_ACCEPTED};
use sluice_service::kafka::statistics::{ClientStatistics, Statistics};
use sluice_service::metric::register;

/// By how much a broker's clock is ahead, in seconds.
pub type ClockDifference = Gauge<f64, AtomicU64>;

/// What became durable where, and the brokers' clocks.
#[derive(Debug, Clone)]
pub struct DeliveryMetrics {
    raw: Counter,
    spool: Counter,
    clocks: Family<Broker, ClockDifference>,
    clients: ClientStatistics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Accepted {
    to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Broker {
    broker: i32,
}

impl DeliveryMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let accepted = Family::<Accepted, Counter>::default();
        // One after the other: each takes the family's lock.
        let raw = accepted.get_or_create(&Accepted { to: "raw" }).clone();
        let spool = accepted.get_or_create(&Accepted { to: "spool" }).clone();
        let metrics = Self {
            raw,
            spool,
            clocks: Family::default(),
            clients: ClientStatistics::new(registry),
        };
        register(registry, INGEST_ACCEPTED, accepted);
        register(registry, CLOCK_DIFFERENCE, metrics.clocks.clone());
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

    /// A request is durable in the spool.
    pub fn in_spool(&self) {
        self.spool.inc();
    }

    /// The clock of this broker. Asked for once for each look at the topic, for it takes a lock.
    pub fn clock(&self, broker: i32) -> ClockDifference {
        self.clocks.get_or_create(&Broker { broker }).clone()
    }
}
