//! The consumer of raw: how it is set, what it calls back, and what its answers mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, Consumer as _, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use sluice_schemas::settings::Membership;
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::oauth;
use sluice_service::kafka::refusal::{self, Call};
use sluice_service::kafka::statistics::{self, Statistics};

use super::api::{BrokerUnavailable, Consumer, Polled};
use super::cluster::{Cluster, QUEUED_MESSAGES};
use super::reader::message::is_unreadable;
use super::watchdog::Calls;
use crate::kafka::assignment::Assignments;
use crate::record::Record;

/// How long a question about committed offsets may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a seek may take.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the look at the stable offset may take.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the consumer may take to leave its group.
const CLOSE: Duration = Duration::from_secs(10);

/// Every property of the consumer.
pub(crate) fn config(cluster: &Cluster<'_>) -> ClientConfig {
    let Cluster {
        settings,
        base,
        worker,
        ..
    } = *cluster;
    let mut config = base.clone();
    let size = settings.output_max_message_bytes();
    for (property, value) in [
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "3000"),
        // For so long the group waits for a member that does not join again, and a member for an answer that
        // the coordinator forgot: five minutes by the client's own default. A turn of a worker may take a
        // commit's minute and what comes before and after it.
        ("max.poll.interval.ms", "120000"),
        // A queue that filled once is asked again after this, and not after a second.
        ("fetch.queue.backoff.ms", "10"),
        ("queued.max.messages.kbytes", "16384"),
        // The bound above counts values alone: this one bounds what large headers may cost.
        ("queued.min.messages", QUEUED_MESSAGES),
        // What one answer brings is unpacked at once, whatever the queue holds: of each partition so much
        // before it is unpacked, 1 MiB by the client's own default.
        ("fetch.message.max.bytes", "131072"),
        ("fetch.wait.max.ms", "100"),
    ] {
        // Properties under `kafka.properties` override our defaults.
        if config.get(property).is_none() {
            config.set(property, value);
        }
    }
    config
        .set("group.id", settings.group_id())
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("message.max.bytes", size.to_string());
    statistics::enable(&mut config);
    if settings.processor.membership == Membership::Static {
        config.set("group.instance.id", settings.transactional_id(worker));
    }
    config
}

/// The consumer, subscribed to raw.
pub struct RawConsumer {
    consumer: BaseConsumer<RawContext>,
    raw: String,
    calls: Calls,
}

impl RawConsumer {
    /// A member of the group that has yet to join it, which polling does.
    pub fn new(cluster: &Cluster<'_>, assignments: Arc<Assignments>) -> Result<Self, KafkaError> {
        let Cluster {
            settings, calls, ..
        } = *cluster;
        let context = RawContext {
            assignments,
            statistics: cluster.statistics("consumer"),
            raw: settings.topics.names.raw(),
            group: settings.group_id(),
        };
        let consumer: BaseConsumer<RawContext> = config(cluster).create_with_context(context)?;
        let raw = settings.topics.names.raw();
        consumer.subscribe(&[&raw])?;
        Ok(Self {
            consumer,
            raw,
            calls: calls.clone(),
        })
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions {
            list.add_partition(&self.raw, partition);
        }
        list
    }
}

impl Consumer for RawConsumer {
    type Member = ConsumerGroupMetadata;

    fn poll(&self, wait: Duration) -> Polled {
        match self.calls.watched(|| self.consumer.poll(wait)) {
            None => Polled::Nothing,
            Some(Ok(message)) => Polled::Record(Record::from(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => Polled::End(partition),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                Polled::Fatal(format!("the consumer failed for good: {code}"))
            }
            // The client has lost a position and cannot be sought out of that state, or it could not
            // read a batch and would pass over it. A new process restores, or stops the partition.
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange),
            ))) => Polled::Fatal(format!("raw cannot be read on: {code}")),
            Some(Err(error)) if is_unreadable(&error) => {
                Polled::Fatal(format!("raw cannot be read on: {error}"))
            }
            Some(Err(error)) => {
                // Information: the client goes on by itself, and the watchdog sees if it does not.
                tracing::info!(%error, "a poll of raw returned an error: the client handles it");
                Polled::Transient
            }
        }
    }

    fn seek(&self, partition: i32, offset: i64) -> Result<(), BrokerUnavailable> {
        let to = Offset::Offset(offset);
        Ok(self
            .calls
            .watched(|| self.consumer.seek(&self.raw, partition, to, SEEK_TIMEOUT))?)
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable> {
        Ok(self.consumer.pause(&self.list(partitions))?)
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable> {
        Ok(self.consumer.resume(&self.list(partitions))?)
    }

    fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let list = self.list(partitions);
        let list = self
            .calls
            .watched(|| self.consumer.committed_offsets(list, REQUEST_TIMEOUT))?;
        let mut committed = BTreeMap::new();
        for found in list.elements() {
            found.error()?;
            if let Offset::Offset(offset) = found.offset() {
                committed.insert(found.partition(), offset);
            }
        }
        Ok(committed)
    }

    fn last_stable_offset(&self, partition: i32) -> Result<i64, BrokerUnavailable> {
        let bounds = || {
            self.consumer
                .fetch_watermarks(&self.raw, partition, WATCHDOG_TIMEOUT)
        };
        let (_, stable) = self.calls.watched(bounds)?;
        Ok(stable)
    }

    fn member(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }

    fn assignment_lost(&self) -> bool {
        self.consumer.assignment_lost()
    }

    // A close was seen to hang: it is not waited for without end.
    fn close(self) {
        let (closed, wait) = channel();
        thread::spawn(move || {
            self.consumer.unsubscribe();
            drop(self);
            let _ = closed.send(());
        });
        if wait.recv_timeout(CLOSE).is_err() {
            tracing::warn!("the consumer did not close in time");
        }
    }
}

/// What the client calls back while it is polled.
struct RawContext {
    /// Shared with the worker and its restorer.
    assignments: Arc<Assignments>,
    statistics: Statistics,
    raw: String,
    group: String,
}

impl ClientContext for RawContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    fn stats_raw(&self, report: &[u8]) {
        self.statistics.take(report);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is called an error, and comes back from the poll as well.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let call = Call::Consume {
            topic: &self.raw,
            group: &self.group,
        };
        refusal::note(call, error.rdkafka_error_code());
        // Brokers come and go; what matters comes back from a call. The log keeps the trace.
        tracing::info!(%error, reason, "the consumer's connection to Kafka");
    }
}

impl ConsumerContext for RawContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers: Vec<i32> = partitions
            .elements()
            .iter()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
            .collect();
        let cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let lost = consumer.assignment_lost();
        let outcome = if matches!(error, RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
            self.assignments.assign(numbers.iter().copied());
            // A place to stand, not a place to read: the partition is paused until it is restored,
            // and then sought to where reading begins. A place of its own keeps the client from asking
            // for a committed offset that may not be there. A number would not do: a fetch may go out
            // before the pause is heard, and fail for good where raw begins later than that.
            let stand = partitions
                .set_all_offsets(Offset::Beginning)
                .and_then(|()| {
                    if cooperative {
                        consumer.incremental_assign(partitions)
                    } else {
                        consumer.assign(partitions)
                    }
                });
            stand.and_then(|()| consumer.pause(partitions))
        } else {
            if lost {
                self.assignments.lose(numbers.iter().copied());
            } else {
                self.assignments.revoke(numbers.iter().copied());
            }
            if cooperative {
                consumer.incremental_unassign(partitions)
            } else {
                consumer.unassign()
            }
        };
        match outcome {
            Ok(()) => tracing::info!(partitions = ?numbers, ?error, lost, "rebalanced"),
            Err(failure) => {
                // Not owned as far as we are concerned: nothing of these is judged.
                self.assignments
                    .fail(numbers.iter().copied(), &failure.to_string());
                tracing::warn!(partitions = ?numbers, ?error, %failure, "a rebalance failed");
            }
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(Duration::from_millis(100))
    }
}

impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            appended_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(<[u8]>::to_vec),
            // A record without a value is a body without bytes: nobody but ingest writes here.
            value: message.payload().unwrap_or_default().to_vec(),
            headers,
        }
    }
}
