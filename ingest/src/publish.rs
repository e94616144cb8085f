//! Hands raw records to Kafka, and reports when all in-sync replicas have them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use sluice_schemas::raw::{REQUEST, TRACEPARENT};
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client as kafka;
use tokio::sync::oneshot;

use crate::byte_budget::Permit;

/// What a record takes in addition to key, value and headers, in bytes: lengths, offsets and the head of the
/// batch it comes in, generously.
const RECORD_OVERHEAD: usize = 256;

/// The most of a batch, in bytes. Under the smallest record limit that there can be.
const BATCH_BYTES: u64 = 128 * 1024;

/// Of the time that a sender waits, the share in percent after which a record is given up: the rest
/// is for the answer.
const PATIENCE_PERCENT: u32 = 95;

/// What one record takes of the producer's memory in addition to its bytes, for bounding their number.
const RECORD_COST: u64 = 2 * 1024;

/// For how long after a failed delivery without a good one since this process is not ready.
const FAILING: Duration = Duration::from_secs(5);

/// How often failed deliveries are logged, at most.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// A raw record in its parts.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The partition key.
    pub key: &'a [u8],
    /// The body.
    pub value: &'a [u8],
    /// The header `request`.
    pub request: &'a [u8],
    /// The header `traceparent`.
    pub traceparent: &'a str,
}

impl Record<'_> {
    /// The bytes that the record takes in the topic, at most.
    pub fn size(&self) -> usize {
        let headers =
            REQUEST.len() + self.request.len() + TRACEPARENT.len() + self.traceparent.len();
        self.key.len() + self.value.len() + headers + RECORD_OVERHEAD
    }
}

/// What waits for a record's delivery.
#[derive(Debug)]
pub struct Hold {
    /// Receives the outcome.
    pub reply: oneshot::Sender<Result<(), Undelivered>>,
    /// The permit to hold the body's bytes: given back when the producer holds them no longer, even
    /// if the sender was answered before. What comes from the spool is bounded otherwise.
    pub permit: Option<Arc<Permit>>,
}

/// Why the producer refused a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The producer's queue is full.
    QueueFull,
    /// It is larger than the topic takes.
    TooLarge,
    /// The producer does not work.
    Broken,
}

/// Why a record is not known to be durable. It may be all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// The brokers did not acknowledge in time.
    TimedOut,
    /// The brokers found it too large.
    TooLarge,
    /// The brokers find it invalid, and will again.
    Invalid,
    /// The brokers refused it, or it was given up.
    Refused,
}

/// Where raw records go. Returns at once; the hold receives the outcome.
pub trait Publish: Debug + Send + Sync + 'static {
    /// Accepts a record, or returns why not and drops the hold.
    fn publish(&self, record: &Record<'_>, hold: Box<Hold>) -> Result<(), Refused>;
}

/// Kafka's raw topic.
pub struct Kafka {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    enough_replicas: usize,
}

impl Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kafka({})", self.topic)
    }
}

/// What a producer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Requests whose senders wait: a record is given up in time to answer them.
    Live,
    /// The spool: no record is given up, for those behind it would overtake it.
    Drain,
}

impl Kafka {
    /// Makes a producer. Connects in the background.
    pub fn new(settings: &Settings, r#use: Use) -> Result<Self, Vec<Fault>> {
        let producer = client_config(settings, r#use)?
            .create_with_context(Deliveries::default())
            .map_err(|error| {
                let (path, message) = ("kafka".to_owned(), error.to_string());
                vec![Fault { path, message }]
            })?;
        let replication = usize::try_from(settings.topics.replication).unwrap_or(1);
        Ok(Self {
            producer,
            topic: settings.topics.names.raw(),
            enough_replicas: replication.saturating_sub(1).max(1),
        })
    }

    /// Asks the brokers whether the raw topic would take a record now. Blocks for up to `patience`.
    pub fn probe(&self, patience: Duration) -> Result<(), String> {
        let metadata = self
            .producer
            .client()
            .fetch_metadata(Some(&self.topic), patience)
            .map_err(|error| format!("the brokers do not answer: {error}"))?;
        let Some(topic) = metadata.topics().first() else {
            return Err(format!("the brokers say nothing of {}", self.topic));
        };
        if topic.error().is_some() || topic.partitions().is_empty() {
            return Err(format!("{} is not there", self.topic));
        }
        for partition in topic.partitions() {
            // A topic made with fewer replicas than the settings say has no more to lose.
            let replicas = partition.replicas().len();
            let enough = self.enough_replicas.min(replicas.saturating_sub(1).max(1));
            if partition.leader() < 0 {
                return Err(format!("{} {} has no leader", self.topic, partition.id()));
            }
            if partition.isr().len() < enough {
                return Err(format!(
                    "{} {} lacks replicas in sync",
                    self.topic,
                    partition.id()
                ));
            }
        }
        Ok(())
    }

    /// Whether recent deliveries succeeded, if there were any.
    pub fn delivering(&self) -> Result<(), String> {
        self.producer.context().delivering(Instant::now())
    }

    /// The fatal error of the producer, if there is one.
    pub fn fatal(&self) -> Option<String> {
        let (code, reason) = self.producer.client().fatal_error()?;
        Some(format!("{code}: {reason}"))
    }

    /// Waits until nothing is in flight, for up to `patience`. Blocks.
    pub fn flush(&self, patience: Duration) -> Result<(), String> {
        let flushed = self.producer.flush(patience);
        flushed.map_err(|_| format!("{} records are left", self.producer.in_flight_count()))
    }
}

/// The properties of a producer for this use: the settings' own and, on top, those that durability and
/// order rest on.
pub fn client_config(settings: &Settings, r#use: Use) -> Result<ClientConfig, Vec<Fault>> {
    let mut config = kafka::base_config(settings)?;
    let spool = settings.ingest.spool.as_ref();
    let wait = spool.map_or(settings.ingest.ack_timeout, |spool| spool.wait);
    let patience = match r#use {
        Use::Live => wait / 100 * PATIENCE_PERCENT,
        // 0 means never to librdkafka.
        Use::Drain => Duration::ZERO,
    };
    let kib = settings
        .ingest
        .max_buffered
        .max(settings.raw_max_message_bytes())
        / 1024;
    let records = (settings.ingest.max_buffered / RECORD_COST).clamp(1_000, 1_000_000);
    for (property, value, is_ours) in [
        ("acks", "all".to_owned(), true),
        ("enable.idempotence", "true".to_owned(), true),
        ("partitioner", "murmur2_random".to_owned(), true),
        (
            "message.max.bytes",
            settings.raw_max_message_bytes().to_string(),
            true,
        ),
        ("batch.size", BATCH_BYTES.to_string(), true),
        ("message.timeout.ms", patience.as_millis().to_string(), true),
        ("queue.buffering.max.kbytes", kib.to_string(), true),
        ("queue.buffering.max.messages", records.to_string(), true),
        // Properties that the operator may set.
        ("compression.type", "lz4".to_owned(), false),
        ("linger.ms", "1".to_owned(), false),
        ("socket.nagle.disable", "true".to_owned(), false),
        // An election takes a second or two; the default of ten would outlast every sender.
        ("reconnect.backoff.max.ms", "1000".to_owned(), false),
        ("retry.backoff.max.ms", "500".to_owned(), false),
    ] {
        if is_ours || !is_set(settings, property) {
            config.set(property, value);
        }
    }
    Ok(config)
}

/// Whether the operator set a property, under either of its names.
fn is_set(settings: &Settings, property: &str) -> bool {
    let other = match property {
        "compression.type" => "compression.codec",
        "linger.ms" => "queue.buffering.max.ms",
        other => other,
    };
    let properties = &settings.kafka.properties;
    properties
        .iter()
        .any(|(found, _)| found == property || found == other)
}

impl Publish for Kafka {
    fn publish(&self, record: &Record<'_>, hold: Box<Hold>) -> Result<(), Refused> {
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header {
                key: REQUEST,
                value: Some(record.request),
            })
            .insert(Header {
                key: TRACEPARENT,
                value: Some(record.traceparent),
            });
        let record = BaseRecord::with_opaque_to(&self.topic, hold)
            .key(record.key)
            .payload(record.value)
            .headers(headers);
        self.producer
            .send(record)
            .map_err(|(error, _)| match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => Refused::QueueFull,
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => Refused::TooLarge,
                _ => {
                    tracing::warn!(%error, "the producer refused a record; its sender gets 503, or its request is spooled");
                    Refused::Broken
                }
            })
    }
}

/// Receives each delivery report, on the producer's thread.
#[derive(Debug, Default)]
struct Deliveries(Mutex<Health>);

#[derive(Debug, Default)]
struct Health {
    /// The last failed delivery, if none went through since.
    failed: Option<(Instant, RDKafkaErrorCode)>,
    /// When a failure was last logged: not each one is.
    warned: Option<Instant>,
}

impl Deliveries {
    fn delivering(&self, now: Instant) -> Result<(), String> {
        let health = self.0.lock();
        match health.failed {
            Some((at, code)) if now.saturating_duration_since(at) < FAILING => {
                Err(format!("records are not delivered: {code}"))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, failed: Option<RDKafkaErrorCode>) {
        let mut health = self.0.lock();
        let Some(code) = failed else {
            health.failed = None;
            return;
        };
        let now = Instant::now();
        health.failed = Some((now, code));
        if health
            .warned
            .is_none_or(|warned| now.saturating_duration_since(warned) > WARN_INTERVAL)
        {
            health.warned = Some(now);
            tracing::warn!(error = %code, "records are not delivered; senders get 503, or their requests are spooled");
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        kafka::log_error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Hold>;

    fn delivery(&self, result: &DeliveryResult<'_>, hold: Box<Hold>) {
        let failed = result.as_ref().err().map(|(error, _)| {
            error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::Unknown)
        });
        self.note(failed);
        let outcome = match failed {
            None => Ok(()),
            Some(RDKafkaErrorCode::MessageTimedOut) => Err(Undelivered::TimedOut),
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Err(Undelivered::TooLarge),
            Some(RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidTimestamp) => {
                Err(Undelivered::Invalid)
            }
            Some(_) => Err(Undelivered::Refused),
        };
        let Hold { reply, permit } = *hold;
        // First, so that the receiver of the outcome finds the room.
        drop(permit);
        // The sender may have been answered already, or be gone.
        let _ = reply.send(outcome);
    }
}
