//! The client that looks how far raw has come, apart from the workers' own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::oauth;

use super::api::BrokerUnavailable;
use super::base::{Base, Generation};

/// How long a question for offsets may take.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the records at some offsets are waited for, all together.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// How many events are served at once: more than come between two looks.
const EVENTS: usize = 8;

/// What the lag is measured on, and the time.
pub trait RawLog {
    /// The first and the next offset of partitions; those whose leader does not answer are left out.
    fn bounds(&self, partitions: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, BrokerUnavailable>;

    /// When the records at these offsets were appended, milliseconds since 1970; those that did not come
    /// in time are left out.
    fn appended(&self, at: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, BrokerUnavailable>;

    /// The leader of each partition of raw; less than 0 where it has none.
    fn leaders(&self) -> Result<BTreeMap<i32, i32>, BrokerUnavailable>;

    /// The wall clock, milliseconds since 1970.
    fn wall_ms(&self) -> i64;
}

/// Every property of the client.
pub(crate) fn config(settings: &Settings, base: &ClientConfig) -> ClientConfig {
    let mut config = base.clone();
    config
        // The client cannot be assigned anything without one, and never joins it.
        .set("group.id", settings.group_id())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        // Raw has no transactions: what the leader has is what there is.
        .set("isolation.level", "read_uncommitted")
        .set("client.rack", "")
        // As in the reader: questions by offset take leaders from the cache alone.
        .set("metadata.max.age.ms", "5000")
        .set("topic.metadata.refresh.interval.ms", "5000")
        // One record of each partition is looked at, and nothing is read ahead. A batch that is larger is
        // returned where its partition stands first in the request, and each does in its turn.
        .set("fetch.message.max.bytes", "16384")
        .set("queued.min.messages", "1")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", "10")
        .set(
            "message.max.bytes",
            settings.output_max_message_bytes().to_string(),
        );
    config
}

/// Without a connection yet. What it is asked for is asked again and again, so it is kept.
pub(crate) fn client(
    settings: &Settings,
    base: &ClientConfig,
) -> Result<BaseConsumer<Silent>, KafkaError> {
    let config = config(settings, base);
    let client: BaseConsumer<Silent> = config.create_with_context(Silent)?;
    oauth::log_in(&config, || drop(client.poll(Duration::ZERO)));
    Ok(client)
}

/// Serves the events of a client to which nothing is assigned: questions do not.
pub(crate) fn serve(client: &BaseConsumer<Silent>) {
    for _ in 0..EVENTS {
        let _ = client.poll(Duration::ZERO);
    }
}

/// What the client calls back: nothing that its user does not see from what stays away.
pub(crate) struct Silent;

impl ClientContext for Silent {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    // Where the settings ask all clients for statistics: the wrapper's own logs them.
    fn stats_raw(&self, _report: &[u8]) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the connection to Kafka of a client that asks for offsets");
    }
}

impl ConsumerContext for Silent {}

/// The client, made again when its credentials change.
pub struct RenewedClient {
    settings: Arc<Settings>,
    base: Arc<Base>,
    made: RefCell<(Arc<Generation>, RawClient)>,
}

impl RenewedClient {
    /// Without a connection yet.
    pub fn new(settings: &Arc<Settings>, base: &Arc<Base>) -> Result<Self, KafkaError> {
        let now = base.now();
        let client = RawClient::new(settings, &now.config)?;
        Ok(Self {
            settings: Arc::clone(settings),
            base: Arc::clone(base),
            made: RefCell::new((now, client)),
        })
    }

    fn renew(&self) -> Result<(), KafkaError> {
        let now = self.base.now();
        let mut made = self.made.borrow_mut();
        if !Arc::ptr_eq(&now, &made.0) {
            let client = RawClient::new(&self.settings, &now.config)?;
            *made = (now, client);
        }
        Ok(())
    }
}

impl RawLog for RenewedClient {
    fn bounds(&self, partitions: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, BrokerUnavailable> {
        self.renew()?;
        self.made.borrow().1.bounds(partitions)
    }

    fn appended(&self, at: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        self.made.borrow().1.appended(at)
    }

    fn leaders(&self) -> Result<BTreeMap<i32, i32>, BrokerUnavailable> {
        self.renew()?;
        self.made.borrow().1.leaders()
    }

    fn wall_ms(&self) -> i64 {
        self.made.borrow().1.wall_ms()
    }
}

/// The client.
pub struct RawClient {
    client: BaseConsumer<Silent>,
    raw: String,
}

impl RawClient {
    /// Without a connection yet.
    pub fn new(settings: &Settings, base: &ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self {
            client: client(settings, base)?,
            raw: settings.topics.names.raw(),
        })
    }

    fn list(
        &self,
        of: impl ExactSizeIterator<Item = (i32, Offset)>,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(of.len());
        for (partition, offset) in of {
            list.add_partition_offset(&self.raw, partition, offset)?;
        }
        Ok(list)
    }

    fn offsets(&self, partitions: &[i32], asked: Offset) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let list = self.list(partitions.iter().map(|partition| (*partition, asked)))?;
        let answers = self.client.offsets_for_times(list, OFFSETS_TIMEOUT)?;
        let known = answers.elements().into_iter().filter_map(|found| {
            found.error().ok()?;
            match found.offset() {
                Offset::Offset(offset) => Some((found.partition(), offset)),
                _ => None,
            }
        });
        Ok(known.collect())
    }

    /// Polls what is assigned until there is a record of each partition, or the time is up.
    fn first_records(&self, at: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let until = Instant::now() + RECORDS_TIMEOUT;
        let mut found = BTreeMap::new();
        while found.len() < at.len() {
            let left = until.saturating_duration_since(Instant::now());
            match self.client.poll(left) {
                Some(Ok(message)) => {
                    let wanted = at.get(&message.partition());
                    let wanted = wanted.is_some_and(|offset| message.offset() >= *offset);
                    if let (true, Some(ms)) = (wanted, message.timestamp().to_millis()) {
                        found.entry(message.partition()).or_insert(ms);
                    }
                }
                // The client goes on by itself, or the partition gives nothing in time.
                Some(Err(error)) => tracing::debug!(%error, "the oldest records of raw are read"),
                None => {}
            }
            if left.is_zero() {
                break;
            }
        }
        found
    }
}

impl RawLog for RawClient {
    fn bounds(&self, partitions: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, BrokerUnavailable> {
        serve(&self.client);
        let starts = self.offsets(partitions, Offset::Beginning)?;
        let ends = self.offsets(partitions, Offset::End)?;
        let both = starts
            .into_iter()
            .filter_map(|(partition, start)| Some((partition, (start, *ends.get(&partition)?))));
        Ok(both.collect())
    }

    fn appended(&self, at: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let places = at.iter();
        let list = self.list(places.map(|(partition, at)| (*partition, Offset::Offset(*at))))?;
        self.client.assign(&list)?;
        let found = self.first_records(at);
        self.client.unassign()?;
        Ok(found)
    }

    fn leaders(&self) -> Result<BTreeMap<i32, i32>, BrokerUnavailable> {
        let metadata = self
            .client
            .fetch_metadata(Some(&self.raw), OFFSETS_TIMEOUT)?;
        let topics = metadata.topics().iter();
        let partitions = topics.flat_map(rdkafka::metadata::MetadataTopic::partitions);
        Ok(partitions
            .map(|partition| (partition.id(), partition.leader()))
            .collect())
    }

    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }
}
