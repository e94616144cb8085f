//! The metrics of the processor.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sluice_schemas::metric::processor::{
    ABORTED_RECORDS, BATCH_RECORDS, DEDUP, DEDUP_KEYS, DEDUP_LIMIT, DEDUP_PARTITION, DEDUP_PAUSES,
    FATES, FENCES, FRESHNESS, HELD_BACK, KEY_LAST_VERIFIED, PARTITIONS, PRODUCERS_RECREATED,
    REBALANCES, RESTORE, TRANSACTION, TRANSACTIONS, UNKNOWN_TYPES, UNVERIFIED_SIGNATURES,
};
use sluice_schemas::metric::{Metric, UNKNOWN_SOURCE};
use sluice_schemas::reason::Reason;
use sluice_schemas::settings::Settings;
use sluice_schemas::trace::TraceContext;
use sluice_service::metric::register;

use crate::engine::observed::Observed;
use crate::engine::outcome::TxOutcome;
use crate::fate_bytes::FateBytes;
use crate::pipeline::outgoing::{FateLabels, label};
use crate::signing::SigningSeen;

mod dedup;

/// One label with a text of ours.
type Named = [(&'static str, &'static str); 1];

/// One label with a text from the settings, or a number.
type Owned = [(&'static str, String); 1];

/// The exemplar of an observation: its trace.
type Exemplar = [(&'static str, String); 1];

/// A histogram with exemplars.
type Traced = HistogramWithExemplars<Exemplar>;

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;

/// Why a producer was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It reported an error, or a call of it was slow.
    Suspect,
    /// A transaction ended in an error that it does not survive.
    Broken,
    /// Another producer took its name.
    Fenced,
}

impl Replaced {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Suspect, Self::Broken, Self::Fenced];

    /// As labels have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Broken => "broken",
            Self::Fenced => "fenced",
        }
    }
}

/// The states of a partition, in the order of [`Metrics::partitions`].
pub const STATES: [&str; 5] = ["restoring", "waiting", "ready", "stopped", "suspended"];

/// The metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    fates: Counters<FateLabels>,
    unverified: Counters<Owned>,
    held_back: Family<Owned, Gauge<f64, AtomicU64>>,
    freshness: Family<Owned, Traced, fn() -> Traced>,
    batch_records: Histogram,
    transactions: Counters<Named>,
    transaction: Traced,
    aborted_records: Counter,
    recreated: Counters<Named>,
    fences: Counter,
    rebalances: Counter,
    partitions: Family<Named, Gauge>,
    restore: Histogram,
    dedup_keys: Family<Owned, Gauge>,
    dedup_partition: Family<Owned, Gauge>,
    dedup_bytes: Gauge,
    dedup_limit: Gauge,
    dedup_pauses: Counter,
    unknown_types: Counters<Owned>,
    key_last_verified: Family<[(&'static str, String); 2], Gauge>,
    /// What the topics of refused and repeated records hold.
    pub fate_bytes: FateBytes,
    signing: SigningSeen,
}

/// A hundredth of a second to five minutes, with the bounds of the service level, 1 s and 10 s.
fn freshness() -> Traced {
    let bounds = [
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    ];
    HistogramWithExemplars::new(bounds.into_iter())
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            fates: Family::default(),
            unverified: Family::default(),
            held_back: Family::default(),
            freshness: Family::new_with_constructor(freshness),
            batch_records: Histogram::new(exponential_buckets(1.0, 4.0, 7)),
            transactions: Family::default(),
            // A millisecond to 65 s: past the longest that a commit is asked for.
            transaction: HistogramWithExemplars::new(exponential_buckets(0.001, 2.0, 17)),
            aborted_records: Counter::default(),
            recreated: Family::default(),
            fences: Counter::default(),
            rebalances: Counter::default(),
            partitions: Family::default(),
            // A hundredth of a second to three minutes.
            restore: Histogram::new(exponential_buckets(0.01, 2.0, 15)),
            dedup_keys: Family::default(),
            dedup_partition: Family::default(),
            dedup_bytes: Gauge::default(),
            dedup_limit: Gauge::default(),
            dedup_pauses: Counter::default(),
            unknown_types: Family::default(),
            key_last_verified: Family::default(),
            fate_bytes: FateBytes::default(),
            signing: SigningSeen::default(),
        };
        for outcome in TxOutcome::NAMES {
            drop(metrics.transactions.get_or_create(&[("outcome", outcome)]));
        }
        for cause in Replaced::ALL {
            drop(metrics.recreated.get_or_create(&[("cause", cause.name())]));
        }
        for state in STATES {
            drop(metrics.partitions.get_or_create(&[("state", state)]));
        }
        metrics
    }
}

impl Metrics {
    /// Registers all metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut counter = |metric: Metric, counter: &Counter| {
            register(registry, metric, counter.clone());
        };
        counter(ABORTED_RECORDS, &metrics.aborted_records);
        counter(FENCES, &metrics.fences);
        counter(REBALANCES, &metrics.rebalances);
        counter(DEDUP_PAUSES, &metrics.dedup_pauses);
        register(registry, FATES, metrics.fates.clone());
        register(registry, UNVERIFIED_SIGNATURES, metrics.unverified.clone());
        register(registry, HELD_BACK, metrics.held_back.clone());
        register(registry, FRESHNESS, metrics.freshness.clone());
        register(registry, BATCH_RECORDS, metrics.batch_records.clone());
        register(registry, TRANSACTIONS, metrics.transactions.clone());
        register(registry, TRANSACTION, metrics.transaction.clone());
        register(registry, PRODUCERS_RECREATED, metrics.recreated.clone());
        register(registry, PARTITIONS, metrics.partitions.clone());
        register(registry, RESTORE, metrics.restore.clone());
        register(registry, DEDUP_KEYS, metrics.dedup_keys.clone());
        register(registry, DEDUP_PARTITION, metrics.dedup_partition.clone());
        register(registry, DEDUP, metrics.dedup_bytes.clone());
        register(registry, DEDUP_LIMIT, metrics.dedup_limit.clone());
        register(registry, UNKNOWN_TYPES, metrics.unknown_types.clone());
        register(
            registry,
            KEY_LAST_VERIFIED,
            metrics.key_last_verified.clone(),
        );
        metrics.fate_bytes.register(registry);
        metrics
    }

    /// Begins the series of all sources, so that the first of a kind is seen as an increase.
    pub fn sources(&self, settings: &Settings) {
        self.signing.configure(settings);
        for source in settings.sources.values() {
            drop(self.fates.get_or_create(&label(Some(source), None).into()));
            for reason in Reason::ALL {
                if reason != Reason::UnknownSource {
                    let label = label(Some(source), Some(reason));
                    drop(self.fates.get_or_create(&label.into()));
                }
            }
            let labels = [("source", source.name.clone())];
            drop(self.freshness.get_or_create(&labels));
            drop(self.unknown_types.get_or_create(&labels));
            drop(self.unverified.get_or_create(&labels));
            for secret in &source.secrets {
                let labels = key_labels(&source.name, &secret.key_id);
                drop(self.key_last_verified.get_or_create(&labels));
            }
        }
        let unknown = label(None, Some(Reason::UnknownSource));
        drop(self.fates.get_or_create(&unknown.into()));
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

    /// What was seen of the records of a batch that is committed now.
    pub fn observed(&self, observed: &Observed) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX);
        for (source, seen) in &observed.sources {
            if source == UNKNOWN_SOURCE {
                continue;
            }
            let labels = [("source", source.clone())];
            let freshness = self.freshness.get_or_create(&labels);
            for &received_at in &seen.received_at {
                freshness.observe(seconds(now, received_at), None, None);
            }
            if seen.unknown_types > 0 {
                let counter = self.unknown_types.get_or_create(&labels);
                counter.inc_by(seen.unknown_types);
            }
            self.signing.see(source, seen);
            for (key, &at) in &seen.keys {
                let gauge = self
                    .key_last_verified
                    .get_or_create(&key_labels(source, key));
                // Partitions are committed in any order.
                gauge.set((at / 1_000_000).max(gauge.get()));
            }
        }
        for span in &observed.spans {
            if let (Some(trace), Some(received_at)) = (span.sampled(), span.received_at)
                && span.source != UNKNOWN_SOURCE
            {
                let labels = [("source", span.source.clone())];
                let freshness = self.freshness.get_or_create(&labels);
                let seconds = seconds(now, received_at);
                freshness.observe(seconds, Some(exemplar(&trace)), None);
            }
        }
    }

    /// A batch is to be judged.
    pub fn batch(&self, records: usize) {
        #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
        self.batch_records.observe(records as f64);
    }

    /// An attempt of a transaction ended. `aborted`: its records, where it did not commit.
    pub fn transaction(
        &self,
        outcome: &'static str,
        took: Duration,
        aborted: usize,
        trace: Option<&TraceContext>,
    ) {
        self.transactions
            .get_or_create(&[("outcome", outcome)])
            .inc();
        self.transaction
            .observe(took.as_secs_f64(), trace.map(exemplar), None);
        self.aborted_records.inc_by(aborted as u64);
    }

    /// A producer replaced another.
    pub fn recreated(&self, cause: Replaced) {
        self.recreated
            .get_or_create(&[("cause", cause.name())])
            .inc();
    }

    /// Another producer took a name of ours.
    pub fn fenced(&self) {
        self.fences.inc();
    }

    /// The group gave or took partitions so many times.
    pub fn rebalanced(&self, times: u64) {
        self.rebalances.inc_by(times);
    }

    /// A partition was restored.
    pub fn restored(&self, took: Duration) {
        self.restore.observe(took.as_secs_f64());
    }

    /// The partitions of a worker in each of [`STATES`]: how many they were, and are.
    pub fn partitions(&self, states: [i64; 5], new: [i64; 5]) {
        for ((state, was), is) in STATES.into_iter().zip(states).zip(new) {
            self.partitions
                .get_or_create(&[("state", state)])
                .inc_by(is - was);
        }
    }
}

fn key_labels(source: &str, key: &str) -> [(&'static str, String); 2] {
    [("source", source.to_owned()), ("key_id", key.to_owned())]
}

fn exemplar(trace: &TraceContext) -> Exemplar {
    [("trace_id", trace.trace())]
}

/// From a receipt until now, in microseconds since 1970. Ingest's clock may be ahead of ours.
fn seconds(now: i64, received_at: i64) -> f64 {
    let micros = u64::try_from(now.saturating_sub(received_at)).unwrap_or(0);
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_called_by_its_key_id() {
        let text = "kafka: {bootstrap_servers: b}\nsources: {s: {provider: flowcode, secrets: [a, {name: b, \
                    key_id: new}]}}";
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        std::fs::write(&file, text).expect("the settings");
        let settings = sluice_service::settings::load(&file).expect("settings without faults");
        let mut registry = Registry::default();
        Metrics::new(&mut registry).sources(&settings);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let named = |id: &str| text.contains(&format!("{{source=\"s\",key_id=\"{id}\"}}"));
        assert!(named("a") && named("new") && !named("b"), "{text}");
    }

    #[test]
    fn two_hundred_sources_with_twenty_types_each_have_a_bounded_number_of_series() {
        let types: Vec<String> = (0..20).map(|n| format!("type.{n}")).collect();
        let sources: Vec<String> = (0..200)
            .map(|n| {
                let types = types.join(", ");
                format!("  s{n}: {{provider: flowcode, secrets: [a, b], events: [{types}]}}\n")
            })
            .collect();
        let text = format!(
            "kafka: {{bootstrap_servers: b}}\nsources:\n{}",
            sources.concat()
        );
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        std::fs::write(&file, text).expect("the settings");
        let settings = sluice_service::settings::load(&file).expect("settings without faults");
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.sources(&settings);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        println!("{series} series");
        // Ingest has some 5,000 more.
        assert!(series < 12_000, "{series}");
    }
}
