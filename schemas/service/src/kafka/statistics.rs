//! What librdkafka says of each client, as metrics: queues, round trips, errors and throttling by broker.
//!
//! A client that was asked to writes one JSON text every five seconds, which waits in its queue of events:
//! polling serves the callback. A client that is not polled gives none, and keeps each text in its memory.
//! So a client with statistics must be polled, be it now and then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use serde::Deserialize;
use sluice_schemas::metric::service::{
    KAFKA_ERRORS, KAFKA_FETCHED_RECORDS, KAFKA_QUEUE, KAFKA_QUEUE_RECORDS, KAFKA_ROUND_TRIP,
    KAFKA_THROTTLE,
};

use crate::metric::register;

/// The property that has a client report, and how often it does. 0 turns the reports off.
const INTERVAL: (&str, &str) = ("statistics.interval.ms", "5000");

/// What librdkafka calls a broker that is no address but a role, such as the group's coordinator. The broker
/// that has the role stands in the list as well.
const ROLE: &str = "logical";

type ClientLabel = [(&'static str, String); 1];

type BrokerLabels = [(&'static str, String); 2];

/// Has a client report, unless the operator has set how often. Its context must take the reports, for the
/// wrapper's own writes each of them to the log.
pub fn enable(config: &mut ClientConfig) {
    let (property, value) = INTERVAL;
    if config.get(property).is_none() {
        config.set(property, value);
    }
}

/// The metrics of all Kafka clients of a process.
#[derive(Debug, Clone, Default)]
pub struct ClientStatistics(Arc<Metrics>);

#[derive(Debug, Default)]
struct Metrics {
    queue_records: Family<ClientLabel, Gauge>,
    queue: Family<ClientLabel, Gauge>,
    fetched: Family<ClientLabel, Gauge>,
    round_trip: Family<BrokerLabels, Gauge<f64, AtomicU64>>,
    errors: Family<BrokerLabels, Counter>,
    throttle: Family<BrokerLabels, Gauge<f64, AtomicU64>>,
    /// How many clients of each name there have been.
    made: Mutex<BTreeMap<String, u64>>,
}

impl ClientStatistics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        register(registry, KAFKA_QUEUE_RECORDS, metrics.queue_records.clone());
        register(registry, KAFKA_QUEUE, metrics.queue.clone());
        register(registry, KAFKA_FETCHED_RECORDS, metrics.fetched.clone());
        register(registry, KAFKA_ROUND_TRIP, metrics.round_trip.clone());
        register(registry, KAFKA_ERRORS, metrics.errors.clone());
        register(registry, KAFKA_THROTTLE, metrics.throttle.clone());
        Self(Arc::new(metrics))
    }

    /// What a new client of this name reports to. The names are a closed set, for each is a series. A client
    /// of the same name may still be closing: what is measured is the new one's from now on.
    pub fn of(&self, client: &str) -> Statistics {
        let mut made = self.0.made.lock();
        let number = made.entry(client.to_owned()).or_default();
        *number += 1;
        Statistics(Some(Reporter {
            metrics: Arc::clone(&self.0),
            client: client.to_owned(),
            number: *number,
            last: Mutex::default(),
        }))
    }
}

/// Where one client's reports go. The default drops them.
#[derive(Debug, Default)]
pub struct Statistics(Option<Reporter>);

impl Statistics {
    /// Takes a report, the JSON as librdkafka wrote it. Only what is measured is kept of it: a client that
    /// knows thousands of partitions reports megabytes, on the thread that polls it.
    pub fn take(&self, report: &[u8]) {
        let Some(reporter) = &self.0 else {
            return;
        };
        match serde_json::from_slice(report) {
            Ok(report) => reporter.take(&report),
            Err(error) => tracing::debug!(%error, "a report of a Kafka client cannot be read"),
        }
    }
}

/// What is measured of a report. The names are librdkafka's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    #[serde(rename = "type")]
    client_type: String,
    msg_cnt: u64,
    msg_size: u64,
    brokers: HashMap<String, Broker>,
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Broker {
    nodeid: i32,
    source: String,
    txerrs: u64,
    rxerrs: u64,
    req_timeouts: u64,
    rtt: Option<Window>,
    throttle: Option<Window>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Window {
    p99: i64,
    max: i64,
    cnt: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Topic {
    partitions: HashMap<i32, Partition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Partition {
    fetchq_cnt: i64,
}

#[derive(Debug)]
struct Reporter {
    metrics: Arc<Metrics>,
    client: String,
    /// The first client of the name is 1.
    number: u64,
    last: Mutex<Last>,
}

/// What the last report said.
#[derive(Debug, Default)]
struct Last {
    /// The errors since the client was made, by librdkafka's name of the connection: a broker that was
    /// configured by another name than its own has two.
    errors: HashMap<String, u64>,
    brokers: BTreeSet<i32>,
}

impl Reporter {
    fn take(&self, report: &Report) {
        let mut last = self.last.lock();
        let real = report
            .brokers
            .iter()
            .filter(|(_, broker)| broker.nodeid >= 0 && broker.source != ROLE);
        let mut brokers = BTreeSet::new();
        for (name, broker) in real.clone() {
            brokers.insert(broker.nodeid);
            self.count_errors(&mut last.errors, name, broker);
        }
        let made = self.metrics.made.lock();
        if made.get(&self.client) != Some(&self.number) {
            return;
        }
        self.measure_queues(report);
        for (_, broker) in real {
            self.measure(broker);
        }
        for gone in last.brokers.difference(&brokers) {
            self.forget(*gone);
        }
        last.brokers = brokers;
    }

    /// By how much the client's own count has grown: that of a new client begins with 0.
    fn count_errors(&self, before: &mut HashMap<String, u64>, name: &str, broker: &Broker) {
        let errors = broker.txerrs + broker.rxerrs + broker.req_timeouts;
        let known = before.insert(name.to_owned(), errors).unwrap_or(0);
        let more = errors.checked_sub(known).unwrap_or(errors);
        let counter = self
            .metrics
            .errors
            .get_or_create_owned(&self.labels(broker.nodeid));
        counter.inc_by(more);
    }

    fn measure_queues(&self, report: &Report) {
        let client = [("client", self.client.clone())];
        if report.client_type == "producer" {
            let records = self.metrics.queue_records.get_or_create_owned(&client);
            records.set(gauge(report.msg_cnt));
            let bytes = self.metrics.queue.get_or_create_owned(&client);
            bytes.set(gauge(report.msg_size));
        } else {
            let partitions = report
                .topics
                .values()
                .flat_map(|topic| topic.partitions.values());
            let records = partitions.map(|partition| partition.fetchq_cnt).sum();
            let fetched = self.metrics.fetched.get_or_create_owned(&client);
            fetched.set(records);
        }
    }

    fn measure(&self, broker: &Broker) {
        let labels = self.labels(broker.nodeid);
        // Without a request in the interval the last one that had one is the best that is known.
        if let Some(trip) = broker.rtt.as_ref().filter(|trip| trip.cnt > 0) {
            let round_trip = self.metrics.round_trip.get_or_create_owned(&labels);
            round_trip.set(scaled(trip.p99, 1e6));
        }
        let longest = broker.throttle.as_ref().map_or(0, |held| held.max);
        let throttle = self.metrics.throttle.get_or_create_owned(&labels);
        throttle.set(scaled(longest, 1e3));
    }

    /// What is measured of a broker that this client knows no longer. Its errors stay counted.
    fn forget(&self, broker: i32) {
        let labels = self.labels(broker);
        self.metrics.round_trip.remove(&labels);
        self.metrics.throttle.remove(&labels);
    }

    fn labels(&self, broker: i32) -> BrokerLabels {
        [
            ("client", self.client.clone()),
            ("broker", broker.to_string()),
        ]
    }
}

impl Drop for Reporter {
    /// A client that is gone has no queue, unless another one has its name by now.
    fn drop(&mut self) {
        let made = self.metrics.made.lock();
        if made.get(&self.client) != Some(&self.number) {
            return;
        }
        let client = [("client", self.client.clone())];
        self.metrics.queue_records.remove(&client);
        self.metrics.queue.remove(&client);
        self.metrics.fetched.remove(&client);
        for broker in &self.last.lock().brokers {
            self.forget(*broker);
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Estimates of times, exact below 2⁵³ units.
#[expect(
    clippy::cast_precision_loss,
    reason = "a time in milli- or microseconds"
)]
fn scaled(value: i64, units_a_second: f64) -> f64 {
    value.max(0) as f64 / units_a_second
}

#[cfg(test)]
mod tests;
