//! Hands raw records to Kafka, and reports when all in-sync replicas have them.

mod deliveries;

mod types;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use sluice_schemas::raw::{REQUEST, TRACEPARENT};
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::statistics;
use sluice_service::telemetry::Repeated;

use self::deliveries::Deliveries;
pub use self::types::{Delivered, Hold, Publish, Record, Refused, Undelivered};
use crate::metrics::DeliveryMetrics;

/// The most of a batch, in bytes. Under the smallest record limit that there can be.
const BATCH_BYTES: u64 = 128 * 1024;

/// Of the time that a sender waits, the share in percent after which a record is given up: the rest
/// is for the answer.
const PATIENCE_PERCENT: u32 = 95;

/// What one record takes of the producer's memory in addition to its bytes, for bounding their number.
const RECORD_COST: u64 = 2 * 1024;

/// Kafka's raw topic.
pub struct Kafka {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    enough_replicas: usize,
    refusals: Mutex<Repeated>,
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

impl Use {
    /// The client's name in the metrics.
    fn client(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Drain => "drain",
        }
    }
}

impl Kafka {
    /// Makes a producer. Connects in the background.
    pub fn new(
        settings: &Settings,
        r#use: Use,
        metrics: DeliveryMetrics,
    ) -> Result<Self, Vec<Fault>> {
        let deliveries = Deliveries::new(metrics, r#use.client(), r#use == Use::Live);
        let producer = client_config(settings, r#use)?
            .create_with_context(deliveries)
            .map_err(|error| {
                let (path, message) = ("kafka".to_owned(), error.to_string());
                vec![Fault { path, message }]
            })?;
        let replication = usize::try_from(settings.topics.replication).unwrap_or(1);
        Ok(Self {
            producer,
            topic: settings.topics.names.raw(),
            enough_replicas: replication.saturating_sub(1).max(1),
            refusals: Mutex::default(),
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
        let leaders = topic.partitions().iter();
        let leaders = leaders.map(|partition| (partition.id(), partition.leader()));
        self.producer.context().led_by(leaders);
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

    fn broken(&self, error: &KafkaError) -> Refused {
        if let Some(repeated) = self.refusals.lock().came(Instant::now()) {
            tracing::warn!(
                %error,
                repeated,
                "the producer refused a record; its sender gets 503, or its request is spooled"
            );
        }
        Refused::Broken
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
    statistics::enable(&mut config);
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
                _ => self.broken(&error),
            })
    }
}
