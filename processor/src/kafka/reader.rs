//! The clients of a restore, and of a worker that asks what is visible.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::topic::TopicNames;

use super::api::{BrokerUnavailable, HeaderOf, LogTopic, Outputs, Place, Read, Reader, View};
use super::cluster::Cluster;
use super::watchdog::Calls;

pub(crate) mod config;

mod clients;

mod outputs;

pub mod message;

use clients::Clients;
use config::Quiet;
use message::{headers, is_information, is_unreadable, known, last_header};
use outputs::{configured, is_output, partition_count};

/// How long one question to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a question may take that the worker's own thread asks between two transactions.
const SHORT_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks and reads by two clients, as they are needed for what is stable and for what is there at all.
pub struct LogReader {
    clients: Clients,
    /// What [`Reader::start`] began to read.
    reads: Cell<View>,
    source: Cell<LogTopic>,
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
        Ok(Self {
            clients: Clients::new(cluster)?,
            reads: Cell::new(View::Stable),
            source: Cell::new(LogTopic::Raw),
            names: settings.topics.names.clone(),
            configured: configured(settings),
            raw: settings.topics.names.raw(),
            log: settings.topics.names.dedup_log(),
            calls: cluster.calls.clone(),
        })
    }

    fn stable(&self) -> &BaseConsumer<Quiet> {
        self.clients.stable()
    }

    fn newest(&self) -> &BaseConsumer<Quiet> {
        self.clients.newest()
    }

    fn serve(&self) {
        self.calls.watched(|| self.clients.serve());
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
        self.serve();
        let mut list = TopicPartitionList::with_capacity(places.len());
        for place in places {
            // By name, the list is searched from its start for each.
            list.add_partition(&place.topic, place.partition)
                .set_offset(asked)?;
        }
        let ask = || {
            self.clients
                .of(view)
                .offsets_for_times(list, SHORT_REQUEST_TIMEOUT)
        };
        let list = self.calls.watched(ask)?;
        let found = list.elements().into_iter().filter_map(|found| {
            found.error().ok()?;
            let place = Place {
                topic: found.topic().into(),
                partition: found.partition(),
            };
            Some((place, known(found.offset())))
        });
        Ok(found.collect())
    }

    /// Polls what a scan has assigned, until each partition has reported its end or `each` breaks.
    fn scan_assigned(
        &self,
        topic: &str,
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
                Some(Err(error)) => return Err(self.clients.failed(topic, &error)),
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
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                let error = KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed);
                Err(self.clients.failed(topic, &error))
            }
            error => Err(BrokerUnavailable(format!(
                "{topic} is not listed ({error:?})"
            ))),
        }
    }

    fn group_offsets(
        &self,
        partitions: &[i32],
        view: View,
        wait: Duration,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        self.serve();
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions {
            list.add_partition(&self.raw, partition);
        }
        let ask = || self.clients.of(view).committed_offsets(list, wait);
        let list = self.calls.watched(ask);
        let list = list.map_err(|error| self.clients.failed(&self.raw, &error))?;
        let mut offsets = BTreeMap::new();
        for found in list.elements() {
            let failed = |error| self.clients.failed(&self.raw, &error);
            found.error().map_err(failed)?;
            if let Some(offset) = known(found.offset()) {
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
        partition_count(&metadata, &self.raw)
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
        Ok(known(found.offset()))
    }

    fn start(
        &self,
        source: LogTopic,
        partition: i32,
        offset: i64,
        view: View,
    ) -> Result<(), BrokerUnavailable> {
        let list = single(self.topic(source), partition, Offset::Offset(offset))?;
        self.serve();
        self.reads.set(view);
        self.source.set(source);
        self.clients.assigned(Some(view));
        Ok(self.calls.watched(|| self.clients.of(view).assign(&list))?)
    }

    fn read(&self) -> Result<Read, BrokerUnavailable> {
        let client = self.clients.of(self.reads.get());
        match self.calls.watched(|| client.poll(REQUEST_TIMEOUT)) {
            Some(Ok(message)) => Ok(Read::Record {
                offset: message.offset(),
                appended_ms: message.timestamp().to_millis().unwrap_or(0),
                value: message.payload().unwrap_or_default().to_vec(),
                headers: headers(&message),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(Read::End),
            Some(Err(error)) if is_information(&error) => Ok(Read::Transient),
            Some(Err(error)) if is_unreadable(&error) => Ok(Read::Unreadable(error.to_string())),
            Some(Err(error)) => Err(self.clients.failed(self.topic(self.source.get()), &error)),
            None => Err(KafkaError::NoMessageReceived.into()),
        }
    }

    fn stop(&self) -> Result<(), BrokerUnavailable> {
        let client = self.clients.of(self.reads.get());
        self.calls.watched(|| client.unassign())?;
        self.clients.assigned(None);
        Ok(())
    }

    // All topics at once: of a source that is no longer configured a transaction may be left as well.
    fn outputs(&self) -> Result<Outputs, BrokerUnavailable> {
        self.serve();
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
        Ok(ends
            .into_iter()
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
        Ok(since
            .into_iter()
            .filter_map(|(place, offset)| Some((place, offset?)))
            .collect())
    }

    // One topic at a time, for the report of an end has the partition's number alone.
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
        self.clients.assigned(Some(View::Stable));
        self.calls.watched(|| self.stable().assign(&list))?;
        let read = self.scan_assigned(topic, &mut next, &mut open, each);
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

fn single(topic: &str, partition: i32, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, offset)?;
    Ok(list)
}
