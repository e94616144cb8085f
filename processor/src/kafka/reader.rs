//! The clients of a restore.

use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use sluice_schemas::service::kafka;

use super::calls::Calls;
use super::consumer::QUEUED_MESSAGES;
use super::librdkafka::Cluster;
use super::{Read, Reader, Source, Unanswered};

/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(10);

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

/// Two clients: what is stable, and what is there at all. Both bear the group's name for its committed
/// offsets, and never join it.
pub struct LogReader {
    stable: Option<BaseConsumer<Quiet>>,
    newest: Option<BaseConsumer<Quiet>>,
    raw: String,
    log: String,
    calls: Calls,
}

impl LogReader {
    /// Both clients, without a connection yet.
    pub fn new(cluster: &Cluster<'_>) -> Result<Self, KafkaError> {
        let (settings, base) = (cluster.settings, cluster.base);
        let client = |isolation: &str| {
            let mut config = base.clone();
            config
                .set("group.id", settings.group_id())
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false")
                .set("enable.partition.eof", "true")
                .set("auto.offset.reset", "error")
                .set("isolation.level", isolation)
                .set("queued.max.messages.kbytes", "16384")
                .set("queued.min.messages", QUEUED_MESSAGES)
                .set("fetch.queue.backoff.ms", "10")
                // The end of the partition is reported by a fetch that finds nothing: it need not wait.
                .set("fetch.wait.max.ms", "10")
                .set(
                    "message.max.bytes",
                    settings.fed_max_message_bytes().to_string(),
                )
                .create_with_context(Quiet)
        };
        Ok(Self {
            stable: Some(client("read_committed")?),
            newest: Some(client("read_uncommitted")?),
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

    fn topic(&self, source: Source) -> &str {
        match source {
            Source::Raw => &self.raw,
            Source::DedupLog => &self.log,
        }
    }
}

impl Reader for LogReader {
    fn partitions(&self) -> Result<u32, Unanswered> {
        let ask = || self.stable().fetch_metadata(Some(&self.raw), ASK);
        let metadata = self.calls.watched(ask)?;
        let topic = metadata.topics().first();
        let count = topic.map_or(0, |found| found.partitions().len());
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn committed(&self, partition: i32) -> Result<Option<i64>, Unanswered> {
        let list = single(&self.raw, partition, Offset::Invalid)?;
        let list = self
            .calls
            .watched(|| self.stable().committed_offsets(list, ASK))?;
        let Some(found) = list.find_partition(&self.raw, partition) else {
            return Ok(None);
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    fn stable_bounds(&self, source: Source, partition: i32) -> Result<(i64, i64), Unanswered> {
        let topic = self.topic(source);
        let ask = || self.stable().fetch_watermarks(topic, partition, ASK);
        Ok(self.calls.watched(ask)?)
    }

    fn log_bounds(&self, partition: i32) -> Result<(i64, i64), Unanswered> {
        let ask = || self.newest().fetch_watermarks(&self.log, partition, ASK);
        Ok(self.calls.watched(ask)?)
    }

    fn log_since(&self, partition: i32, since_ms: i64) -> Result<Option<i64>, Unanswered> {
        let list = single(&self.log, partition, Offset::Offset(since_ms))?;
        let list = self
            .calls
            .watched(|| self.stable().offsets_for_times(list, ASK))?;
        let Some(found) = list.find_partition(&self.log, partition) else {
            return Err(KafkaError::NoMessageReceived.into());
        };
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    fn start(&self, source: Source, partition: i32, offset: i64) -> Result<(), Unanswered> {
        let list = single(self.topic(source), partition, Offset::Offset(offset))?;
        Ok(self.calls.watched(|| self.stable().assign(&list))?)
    }

    fn read(&self) -> Result<Read, Unanswered> {
        match self.calls.watched(|| self.stable().poll(ASK)) {
            Some(Ok(message)) => Ok(Read::Record {
                offset: message.offset(),
                appended_ms: message.timestamp().to_millis().unwrap_or(0),
                value: message.payload().unwrap_or_default().to_vec(),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(Read::End),
            Some(Err(error)) if is_information(&error) => Ok(Read::News),
            Some(Err(error)) => Err(error.into()),
            None => Err(KafkaError::NoMessageReceived.into()),
        }
    }

    fn stop(&self) -> Result<(), Unanswered> {
        Ok(self.calls.watched(|| self.stable().unassign())?)
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        // Closing a client was seen to hang: it does so on a thread that nobody waits for.
        let clients = (self.stable.take(), self.newest.take());
        std::thread::spawn(move || drop(clients));
    }
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
