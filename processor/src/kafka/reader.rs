//! The clients of a restore, and of whoever asks what is visible.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use sluice_schemas::providers::ALL;
use sluice_schemas::settings::Settings;
use sluice_schemas::topic::TopicNames;
use sluice_service::kafka::client as kafka;

use super::api::{BrokerUnavailable, HeaderOf, LogTopic, Outputs, Place, Read, Reader, View};
use super::cluster::{Cluster, QUEUED_MESSAGES};
use super::watchdog::Calls;

/// How long one question to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a question may take that the worker's own thread asks between two transactions.
const SHORT_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What these clients call back: nothing that the calls do not tell.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is called an error, and is what a read waits for.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::info!(%error, reason, "the restorer's connection to Kafka");
        }
    }
}

impl ConsumerContext for Quiet {}

/// Every property of a client, by its `isolation.level`.
pub(crate) fn config(cluster: &Cluster<'_>, isolation: &str) -> ClientConfig {
    let (settings, base) = (cluster.settings, cluster.base);
    let mut config = base.clone();
    config
        .set("group.id", settings.group_id())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", isolation)
        // A follower may know less than the leader that is asked where a partition ends.
        .set("client.rack", "")
        // Questions by offset take leaders from the cache alone, and these clients consume nothing
        // that would have them refresh it: one that is gone would be asked until it is back.
        .set("metadata.max.age.ms", "5000")
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("queued.max.messages.kbytes", "16384")
        .set("queued.min.messages", QUEUED_MESSAGES)
        .set("fetch.queue.backoff.ms", "10")
        // The end of the partition is reported by a fetch that finds nothing: it need not wait.
        .set("fetch.wait.max.ms", "10")
        .set(
            "message.max.bytes",
            settings.fed_max_message_bytes().to_string(),
        );
    config
}

/// Two clients: what is stable, and what is there at all. Both bear the group's name for its committed
/// offsets, and never join it.
pub struct LogReader {
    stable: Option<BaseConsumer<Quiet>>,
    newest: Option<BaseConsumer<Quiet>>,
    /// What [`Reader::start`] began to read.
    reads: Cell<View>,
    names: TopicNames,
    /// The topics that are configured, which must be in the metadata or not be there at all.
    configured: Vec<String>,
    raw: String,
    log: String,
    calls: Calls,
}

impl LogReader {
    /// Both clients, without a connection yet.
    pub fn new(cluster: &Cluster<'_>) -> Result<Self, KafkaError> {
        let settings = cluster.settings;
        let client = |isolation: &str| config(cluster, isolation).create_with_context(Quiet);
        Ok(Self {
            stable: Some(client("read_committed")?),
            newest: Some(client("read_uncommitted")?),
            reads: Cell::new(View::Stable),
            names: settings.topics.names.clone(),
            configured: configured(settings),
            raw: settings.topics.names.raw(),
            log: settings.topics.names.dedup_log(),
            calls: cluster.calls.clone(),
        })
    }

    #[expect(clippy::expect_used, reason = "it is there until the drop takes it")]
    fn stable(&self) -> &BaseConsumer<Quiet> {
        self.stable.as_ref().expect("only drop takes it")
    }

    #[expect(clippy::expect_used, reason = "it is there until the drop takes it")]
    fn newest(&self) -> &BaseConsumer<Quiet> {
        self.newest.as_ref().expect("only drop takes it")
    }

    fn client(&self, view: View) -> &BaseConsumer<Quiet> {
        match view {
            View::Stable => self.stable(),
            View::All => self.newest(),
        }
    }

    /// Asks for offsets by time; `None` where there is none, and no entry where the leader gave no answer.
    fn offsets(
        &self,
        places: &[Place],
        asked: Offset,
        view: View,
    ) -> Result<BTreeMap<Place, Option<i64>>, BrokerUnavailable> {
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut list = TopicPartitionList::with_capacity(places.len());
        for place in places {
            list.add_partition_offset(&place.topic, place.partition, asked)?;
        }
        let ask = || {
            self.client(view)
                .offsets_for_times(list, SHORT_REQUEST_TIMEOUT)
        };
        let list = self.calls.watched(ask)?;
        let found = places.iter().filter_map(|place| {
            let found = list.find_partition(&place.topic, place.partition)?;
            found.error().ok()?;
            let offset = match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Some((place.clone(), offset))
        });
        Ok(found.collect())
    }

    /// Polls what a scan has assigned, until each partition has told its end or `each` breaks.
    fn scan_assigned(
        &self,
        next: &mut BTreeMap<i32, i64>,
        open: &mut BTreeSet<i32>,
        each: &mut dyn FnMut(&[u8], &HeaderOf<'_>) -> ControlFlow<()>,
    ) -> Result<(), BrokerUnavailable> {
        while !open.is_empty() {
            match self.calls.watched(|| self.stable().poll(REQUEST_TIMEOUT)) {
                Some(Ok(message)) => {
                    next.insert(message.partition(), message.offset() + 1);
                    let header = |name: &str| last_header(&message, name);
                    if each(message.payload().unwrap_or_default(), &header).is_break() {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) if is_information(&error) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(KafkaError::NoMessageReceived.into()),
            }
        }
        Ok(())
    }

    /// A topic that the metadata of all topics does not list is missing, which is no reason to wait, or
    /// hidden from us, which is.
    fn must_not_exist(&self, topic: &str) -> Result<(), BrokerUnavailable> {
        let ask = || {
            self.newest()
                .fetch_metadata(Some(topic), SHORT_REQUEST_TIMEOUT)
        };
        let metadata = self.calls.watched(ask)?;
        let error = metadata.topics().first().and_then(MetadataTopic::error);
        match error {
            Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
            ) => Ok(()),
            error => Err(BrokerUnavailable(format!(
                "{topic} is not listed ({error:?}): the processor's principal must be allowed to DESCRIBE and READ it"
            ))),
        }
    }

    fn group_offsets(
        &self,
        partitions: &[i32],
        view: View,
        wait: Duration,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions {
            list.add_partition(&self.raw, partition);
        }
        let ask = || self.client(view).committed_offsets(list, wait);
        let list = self.calls.watched(ask)?;
        let mut offsets = BTreeMap::new();
        for found in list.elements() {
            found.error()?;
            if let Offset::Offset(offset) = found.offset() {
                offsets.insert(found.partition(), offset);
            }
        }
        Ok(offsets)
    }

    fn topic(&self, source: LogTopic) -> &str {
        match source {
            LogTopic::Raw => &self.raw,
            LogTopic::DedupLog => &self.log,
        }
    }
}

impl Reader for LogReader {
    type Member = ConsumerGroupMetadata;

    fn partitions(&self) -> Result<u32, BrokerUnavailable> {
        let ask = || {
            self.stable()
                .fetch_metadata(Some(&self.raw), REQUEST_TIMEOUT)
        };
        let metadata = self.calls.watched(ask)?;
        let topic = metadata.topics().first();
        let count = topic.map_or(0, |found| found.partitions().len());
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn committed(&self, partition: i32) -> Result<Option<i64>, BrokerUnavailable> {
        let list = single(&self.raw, partition, Offset::Invalid)?;
        let list = self
            .calls
            .watched(|| self.stable().committed_offsets(list, REQUEST_TIMEOUT))?;
        let Some(found) = list.find_partition(&self.raw, partition) else {
            return Ok(None);
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    fn stable_bounds(
        &self,
        source: LogTopic,
        partition: i32,
    ) -> Result<(i64, i64), BrokerUnavailable> {
        let topic = self.topic(source);
        let ask = || {
            self.stable()
                .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
        };
        Ok(self.calls.watched(ask)?)
    }

    fn watermarks(&self, partition: i32) -> Result<(i64, i64), BrokerUnavailable> {
        let ask = || {
            self.newest()
                .fetch_watermarks(&self.log, partition, REQUEST_TIMEOUT)
        };
        Ok(self.calls.watched(ask)?)
    }

    fn offset_for_time(
        &self,
        partition: i32,
        since_ms: i64,
    ) -> Result<Option<i64>, BrokerUnavailable> {
        let list = single(&self.log, partition, Offset::Offset(since_ms))?;
        let list = self
            .calls
            .watched(|| self.stable().offsets_for_times(list, REQUEST_TIMEOUT))?;
        let Some(found) = list.find_partition(&self.log, partition) else {
            return Err(KafkaError::NoMessageReceived.into());
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    fn start(
        &self,
        source: LogTopic,
        partition: i32,
        offset: i64,
        view: View,
    ) -> Result<(), BrokerUnavailable> {
        let list = single(self.topic(source), partition, Offset::Offset(offset))?;
        self.reads.set(view);
        Ok(self.calls.watched(|| self.client(view).assign(&list))?)
    }

    fn read(&self) -> Result<Read, BrokerUnavailable> {
        let client = self.client(self.reads.get());
        match self.calls.watched(|| client.poll(REQUEST_TIMEOUT)) {
            Some(Ok(message)) => Ok(Read::Record {
                offset: message.offset(),
                appended_ms: message.timestamp().to_millis().unwrap_or(0),
                value: message.payload().unwrap_or_default().to_vec(),
                headers: headers(&message),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(Read::End),
            Some(Err(error)) if is_information(&error) => Ok(Read::Transient),
            Some(Err(error)) => Err(error.into()),
            None => Err(KafkaError::NoMessageReceived.into()),
        }
    }

    fn stop(&self) -> Result<(), BrokerUnavailable> {
        let client = self.client(self.reads.get());
        Ok(self.calls.watched(|| client.unassign())?)
    }

    // All topics at once: of a source that is no longer configured a transaction may be left as well.
    fn outputs(&self) -> Result<Outputs, BrokerUnavailable> {
        let ask = || self.newest().fetch_metadata(None, SHORT_REQUEST_TIMEOUT);
        let metadata = self.calls.watched(ask)?;
        let mut outputs = Outputs::default();
        let mut missing: BTreeSet<&str> = self.configured.iter().map(String::as_str).collect();
        for topic in metadata.topics() {
            if !is_output(&self.names, topic.name()) || topic.error().is_some() {
                continue;
            }
            missing.remove(topic.name());
            let name: Arc<str> = topic.name().into();
            for partition in topic.partitions() {
                let place = Place {
                    topic: Arc::clone(&name),
                    partition: partition.id(),
                };
                if partition.leader() < 0 {
                    outputs.leaderless.push(place);
                } else {
                    outputs.places.push(place);
                }
            }
        }
        for topic in missing {
            self.must_not_exist(topic)?;
        }
        Ok(outputs)
    }

    fn ends(
        &self,
        places: &[Place],
        view: View,
    ) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        let ends = self.offsets(places, Offset::End, view)?;
        let known = ends.into_iter();
        Ok(known
            .filter_map(|(place, end)| Some((place, end?)))
            .collect())
    }

    fn since(&self, places: &[Place], ms: i64) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        let since = self.offsets(places, Offset::Offset(ms.max(0)), View::Stable)?;
        if let Some(place) = places.iter().find(|place| !since.contains_key(place)) {
            return Err(BrokerUnavailable(format!(
                "{place} gives no offset for a time"
            )));
        }
        let known = since.into_iter();
        Ok(known
            .filter_map(|(place, offset)| Some((place, offset?)))
            .collect())
    }

    // One topic at a time, for the news of an end tells the partition's number alone.
    fn scan(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        each: &mut dyn FnMut(&[u8], &HeaderOf<'_>) -> ControlFlow<()>,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let mut next = from.clone();
        let mut open: BTreeSet<i32> = from.keys().copied().collect();
        let mut list = TopicPartitionList::with_capacity(from.len());
        for (&partition, &offset) in from {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        }
        self.reads.set(View::Stable);
        self.calls.watched(|| self.stable().assign(&list))?;
        let read = self.scan_assigned(&mut next, &mut open, each);
        // Also where it failed: what is assigned goes on being fetched.
        self.stop()?;
        read.map(|()| next)
    }

    fn stable_offsets(
        &self,
        partitions: &[i32],
        wait: Duration,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        self.group_offsets(partitions, View::Stable, wait)
    }

    // Another answer for another isolation: this one does not wait for what is undecided.
    fn last_offset(&self, partition: i32) -> Result<Option<i64>, BrokerUnavailable> {
        let offsets = self.group_offsets(&[partition], View::All, SHORT_REQUEST_TIMEOUT)?;
        Ok(offsets.get(&partition).copied())
    }

    fn outsider(&self) -> Option<ConsumerGroupMetadata> {
        self.stable().group_metadata()
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        // Closing a client was seen to hang: it does so on a thread that nobody waits for.
        let clients = (self.stable.take(), self.newest.take());
        std::thread::spawn(move || drop(clients));
    }
}

/// The topics that the settings have a worker write to.
fn configured(settings: &Settings) -> Vec<String> {
    let names = &settings.topics.names;
    let mut topics = vec![
        names.duplicates(),
        names.rejected(),
        names.dead_letter(),
        names.dedup_log(),
    ];
    topics.extend(settings.event_topics());
    topics
}

/// Whether a worker's transactions may write to a topic, now or in an earlier release of the settings.
fn is_output(names: &TopicNames, topic: &str) -> bool {
    let event = |provider: &str| {
        let events = topic.strip_prefix(names.prefix.as_str());
        let events = events.and_then(|rest| rest.strip_prefix("events."));
        let events = events.and_then(|rest| rest.strip_prefix(provider));
        events.is_some_and(|rest| rest.starts_with('.'))
    };
    [
        names.duplicates(),
        names.rejected(),
        names.dead_letter(),
        names.dedup_log(),
    ]
    .iter()
    .any(|name| name == topic)
        || ALL.iter().any(|provider| event(provider.spec().name))
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    let headers = message.headers().into_iter().flat_map(|all| all.iter());
    headers
        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        .collect()
}

fn last_header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m [u8]> {
    let headers = message.headers()?;
    let mut last = None;
    for header in headers.iter() {
        if header.key == name {
            last = header.value;
        }
    }
    last
}

/// A broker that goes away is no answer to the question: the client asks another.
fn is_information(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn single(topic: &str, partition: i32, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, offset)?;
    Ok(list)
}
