//! The metrics of the spool.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sluice_schemas::metric::ingest::{
    INGEST_DRAIN_HALTED, INGEST_DRAINED, INGEST_SPOOL, INGEST_SPOOL_COMMIT, INGEST_SPOOL_FAILURES,
    INGEST_SPOOL_OLDER, INGEST_SPOOL_OLDEST, INGEST_SPOOL_RECORDS, INGEST_SPOOL_REFUSED,
};
use sluice_service::metric::register;

use crate::spool::Halt;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Halted {
    reason: &'static str,
}

/// The metrics of the spool.
#[derive(Debug, Clone)]
pub struct SpoolMetrics {
    records: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
    refused: Gauge<u64, AtomicU64>,
    older: Gauge<u64, AtomicU64>,
    halted: Family<Halted, Gauge>,
    oldest: Gauge,
    drained: Counter,
    commit: Histogram,
    failures: Counter,
    accepted: Counter,
}

impl SpoolMetrics {
    /// Registers them. Each record of a written group counts in `accepted`.
    pub fn new(registry: &mut Registry, accepted: Counter) -> Self {
        let metrics = Self {
            records: Gauge::default(),
            bytes: Gauge::default(),
            refused: Gauge::default(),
            older: Gauge::default(),
            halted: Family::default(),
            oldest: Gauge::default(),
            drained: Counter::default(),
            // Half a millisecond to eight seconds: a disk that is slower holds senders up.
            commit: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            failures: Counter::default(),
            accepted,
        };
        register(registry, INGEST_SPOOL_RECORDS, metrics.records.clone());
        register(registry, INGEST_SPOOL, metrics.bytes.clone());
        register(registry, INGEST_SPOOL_REFUSED, metrics.refused.clone());
        register(registry, INGEST_SPOOL_OLDER, metrics.older.clone());
        register(registry, INGEST_DRAIN_HALTED, metrics.halted.clone());
        register(registry, INGEST_SPOOL_OLDEST, metrics.oldest.clone());
        register(registry, INGEST_DRAINED, metrics.drained.clone());
        register(registry, INGEST_SPOOL_COMMIT, metrics.commit.clone());
        register(registry, INGEST_SPOOL_FAILURES, metrics.failures.clone());
        metrics.halted(None);
        metrics
    }

    /// What the spool holds; `oldest` in microseconds since 1970.
    pub fn holds(&self, records: u64, bytes: u64, refused: u64, oldest: Option<i64>) {
        self.records.set(records);
        self.bytes.set(bytes);
        self.refused.set(refused);
        self.oldest.set(oldest.unwrap_or(0) / 1_000_000);
    }

    /// As many records wait because they are too old.
    pub fn older(&self, records: u64) {
        self.older.set(records);
    }

    /// What holds the drain, if anything does.
    pub fn halted(&self, halt: Option<Halt>) {
        for one in Halt::ALL {
            let reason = one.label();
            let gauge = self.halted.get_or_create(&Halted { reason });
            gauge.set(i64::from(halt == Some(one)));
        }
    }

    /// Kafka took as many.
    pub fn drained(&self, records: u64) {
        self.drained.inc_by(records);
    }

    /// A group was written and fsynced.
    pub fn committed(&self, records: usize, after: Duration) {
        self.commit.observe(after.as_secs_f64());
        self.accepted.inc_by(records as u64);
    }

    /// A group was not.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
