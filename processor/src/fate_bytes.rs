//! How much the topics of refused and repeated records hold, and whether one of them nears its bound by
//! bytes.
//!
//! Brokers give a topic's size to no client of librdkafka, so it is estimated: the offsets that the brokers
//! hold, of all writers, times the mean size of the records that this process wrote there, before
//! compression. Each transaction's marker has an offset too. So it is more than the brokers store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rdkafka::consumer::BaseConsumer;
use sluice_schemas::fate::Fate;
use sluice_schemas::metric::processor::FATE_TOPIC;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::offsets::bounds_by;
use sluice_service::kafka::read::ReadError;
use sluice_service::metric::register;

use crate::kafka::base::{Base, Generation};
use crate::kafka::lag::{self, Silent};

/// How often the brokers are asked.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long one question is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// From which share of its bound on a partition is reported, and below which it may be reported again.
const FULL: (f64, f64) = (0.9, 0.8);

/// What this process wrote for one fate.
#[derive(Debug, Default)]
struct Written {
    records: AtomicU64,
    bytes: AtomicU64,
}

/// What this process wrote, and what the topics hold.
#[derive(Debug, Clone, Default)]
pub struct FateBytes {
    held: Family<[(&'static str, String); 1], Gauge>,
    written: Arc<[Written; 3]>,
}

/// The measuring. It ends with this.
#[derive(Debug)]
pub struct Measuring {
    _end: Sender<()>,
}

const fn place(fate: Fate) -> Option<usize> {
    match fate {
        Fate::Duplicate => Some(0),
        Fate::Rejected => Some(1),
        Fate::DeadLetter => Some(2),
        Fate::Event => None,
    }
}

impl FateBytes {
    /// Registers the metric.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, FATE_TOPIC, self.held.clone());
    }

    /// A transaction with these bytes of a fate's records was committed.
    pub fn wrote(&self, fate: Fate, records: u64, bytes: u64) {
        if let Some(written) = place(fate).and_then(|at| self.written.get(at)) {
            written.records.fetch_add(records, Ordering::Relaxed);
            written.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The mean size of a record; `None` before the first.
    fn mean(&self, fate: Fate) -> Option<u64> {
        let written = self.written.get(place(fate)?)?;
        let records = written.records.load(Ordering::Relaxed);
        written.bytes.load(Ordering::Relaxed).checked_div(records)
    }

    /// Asks the brokers from now on.
    pub fn measure(self, settings: Arc<Settings>, base: Arc<Base>) -> std::io::Result<Measuring> {
        let (end, ended) = channel();
        let mut reported = BTreeSet::new();
        let mut asking = Asking {
            settings: Arc::clone(&settings),
            base,
            made: None,
        };
        let work = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                for topic in topics(&settings) {
                    let Some(mean) = self.mean(topic.fate) else {
                        continue;
                    };
                    match asking.bounds(&topic.name) {
                        Ok(held) => self.look(&topic, mean, &held, &mut reported),
                        Err(error) => tracing::debug!(%error, "the size of a topic of fates"),
                    }
                }
            }
        };
        thread::Builder::new()
            .name("bytes".to_owned())
            .spawn(work)?;
        Ok(Measuring { _end: end })
    }

    /// Shows what a topic holds, and reports its partitions that are nearly full, each once.
    fn look(
        &self,
        topic: &FateTopic,
        mean: u64,
        held: &[(i64, i64)],
        reported: &mut BTreeSet<(String, usize)>,
    ) {
        let mut total = 0_u64;
        for (partition, (start, end)) in held.iter().enumerate() {
            let bytes = end
                .saturating_sub(*start)
                .max(0)
                .unsigned_abs()
                .saturating_mul(mean);
            total = total.saturating_add(bytes);
            let Some(bound) = topic.bound else {
                continue;
            };
            let (place, share) = ((topic.name.clone(), partition), share(bytes, bound));
            if share >= FULL.0 && reported.insert(place.clone()) {
                topic.report(partition, bytes, bound);
            } else if share < FULL.1 {
                reported.remove(&place);
            }
        }
        self.show(&topic.name, total);
    }

    /// Sets what a topic holds.
    pub(crate) fn show(&self, topic: &str, bytes: u64) {
        let gauge = self
            .held
            .get_or_create_owned(&[("topic", topic.to_owned())]);
        gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
fn share(bytes: u64, bound: u64) -> f64 {
    bytes as f64 / bound as f64
}

/// Who asks: in the service's own group, which is the one that it has rights for, and with one client, so
/// that an outage has the lines of one.
struct Asking {
    settings: Arc<Settings>,
    base: Arc<Base>,
    made: Option<(Arc<Generation>, BaseConsumer<Silent>)>,
}

impl Asking {
    fn bounds(&mut self, topic: &str) -> Result<Vec<(i64, i64)>, ReadError> {
        let now = self.base.now();
        let made = self.made.take();
        let client = match made.filter(|(then, _)| Arc::ptr_eq(then, &now)) {
            Some((_, client)) => client,
            None => lag::client(&self.settings, &now.config)?,
        };
        lag::serve(&client);
        let (_, client) = self.made.insert((now, client));
        bounds_by(client, topic, PATIENCE)
    }
}

/// A topic of refused or repeated records.
struct FateTopic {
    fate: Fate,
    name: String,
    /// `retention.bytes` of a partition, by the settings.
    bound: Option<u64>,
}

impl FateTopic {
    /// Strangers fill `rejected`, which is bounded for that: what it loses is worth a warning. What the
    /// others lose is an authentic sender's.
    fn report(&self, partition: usize, bytes: u64, bound: u64) {
        let topic = self.name.as_str();
        if self.fate == Fate::Rejected {
            tracing::warn!(
                topic,
                partition,
                bytes,
                bound,
                "the partition is estimated to near its bound by bytes"
            );
        } else {
            tracing::error!(
                topic,
                partition,
                bytes,
                bound,
                "the partition is estimated (before compression, transaction markers counted) to be near its bound by bytes: past it records are cut before their time"
            );
        }
    }
}

fn topics(settings: &Settings) -> [FateTopic; 3] {
    let topics = &settings.topics;
    let topic = |fate, name, bound| FateTopic { fate, name, bound };
    [
        topic(
            Fate::Duplicate,
            topics.names.duplicates(),
            topics.duplicates_bytes,
        ),
        topic(
            Fate::Rejected,
            topics.names.rejected(),
            Some(topics.rejected_bytes),
        ),
        topic(
            Fate::DeadLetter,
            topics.names.dead_letter(),
            topics.dead_letter_bytes,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::Consumer;
    use rdkafka::mocking::MockCluster;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn shown(bytes: &FateBytes) -> i64 {
        let labels = [("topic", "webhooks.dead-letter".to_owned())];
        bytes.held.get_or_create_owned(&labels).get()
    }

    #[test]
    fn what_a_topic_holds_is_offsets_times_the_mean_and_is_reported_once() {
        let bytes = FateBytes::default();
        assert_eq!(bytes.mean(Fate::DeadLetter), None);
        bytes.wrote(Fate::DeadLetter, 2, 300);
        bytes.wrote(Fate::Event, 9, 9_000);
        assert_eq!(bytes.mean(Fate::DeadLetter), Some(150));
        let topic = FateTopic {
            fate: Fate::DeadLetter,
            name: "webhooks.dead-letter".to_owned(),
            bound: Some(1_500),
        };
        let mut reported = BTreeSet::new();
        bytes.look(&topic, 150, &[(0, 8), (90, 98)], &mut reported);
        assert_eq!((shown(&bytes), reported.len()), (16 * 150, 0));
        // Nine of ten, in the second partition alone.
        bytes.look(&topic, 150, &[(0, 8), (90, 99)], &mut reported);
        let full = ("webhooks.dead-letter".to_owned(), 1);
        assert_eq!(reported, BTreeSet::from([full.clone()]));
        // A little less is still the same report; well below, the next one is another.
        bytes.look(&topic, 150, &[(0, 8), (91, 99)], &mut reported);
        assert!(reported.contains(&full));
        bytes.look(&topic, 150, &[(0, 8), (98, 99)], &mut reported);
        assert!(reported.is_empty());
    }

    #[test]
    fn one_client_asks_in_the_group_of_the_service_until_its_credentials_change() {
        let broker = MockCluster::new(1).expect("a broker");
        broker.create_topic("t", 2, 1).expect("a topic");
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        let text = "kafka: {bootstrap_servers: b}\n\
                    sources: {s: {provider: flowcode, secrets: [a]}}\n";
        std::fs::write(&file, text).expect("the settings");
        let settings = sluice_service::settings::load(&file).expect("settings without faults");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        let base = Base::new(config.clone(), CancellationToken::new());
        let mut asking = Asking {
            settings: Arc::new(settings),
            base: Arc::new(base),
            made: None,
        };
        let ask = |asking: &mut Asking| {
            assert_eq!(asking.bounds("t").expect("bounds"), [(0, 0), (0, 0)]);
            let (_, client) = asking.made.as_ref().expect("it is kept");
            client.client().native_ptr()
        };
        let first = ask(&mut asking);
        assert_eq!(ask(&mut asking), first);
        let made = lag::config(&asking.settings, &config);
        let group = asking.settings.group_id();
        assert_eq!(made.get("group.id"), Some(group.as_str()));
        asking.base.renew(config);
        ask(&mut asking);
        let (then, _) = asking.made.as_ref().expect("it is kept");
        assert!(Arc::ptr_eq(then, &asking.base.now()));
    }
}
