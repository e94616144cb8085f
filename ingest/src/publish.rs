//! Hands raw records to Kafka, and reports when all in-sync replicas have them.

mod deliveries;

mod handover;

mod outcome;

mod retiring;

mod types;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use sluice_schemas::placement;
use sluice_schemas::raw::{REQUEST, TRACEPARENT};
use sluice_schemas::settings::{Fault, RAW_OVERHEAD, Settings};
use sluice_service::admin::Readiness;
use sluice_service::kafka::check;
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::refusal::{Call, lacking};
use sluice_service::kafka::statistics;
use sluice_service::telemetry::Repeated;

use self::deliveries::{Deliveries, Raw};
pub use self::handover::Handover;
pub use self::outcome::{Delivered, Outcome, Undelivered};
use self::retiring::{RETIRE_POLL, Retiring, retire};
pub use self::types::{Hold, Publish, Record, Refused};
use crate::metrics::DeliveryMetrics;

/// The most of a batch, in bytes. Under the smallest record limit that there can be; a larger record is a
/// batch of its own.
pub(crate) const BATCH_BYTES: u64 = 128 * 1024;

/// Of the time that a sender waits, the share in percent after which a record is given up: the rest
/// is for the answer.
const PATIENCE_PERCENT: u32 = 95;

/// What one record takes of the producer's memory in addition to its bytes, for bounding their number.
const RECORD_COST: u64 = 2 * 1024;

/// The largest record that any release wrote to a spool: a body of 64 MiB, and what stands next to it.
const LARGEST_SPOOLED: u64 = (64 << 20) + RAW_OVERHEAD;

/// Wrong by this much, our clock costs good webhooks: providers' signatures are valid for five minutes.
const CLOCK_LIMIT: Duration = Duration::from_secs(120);

/// Kafka's raw topic.
pub struct Kafka {
    producer: ArcSwap<ThreadedProducer<Deliveries>>,
    r#use: Use,
    metrics: DeliveryMetrics,
    raw: Raw,
    enough_replicas: usize,
    /// Over how many of raw's partitions keys are placed.
    key_partitions: i32,
    /// Nothing is taken until the producer that is being replaced has delivered what it has.
    is_held: AtomicBool,
    /// Producers that were replaced and deliver what they have, on threads of their own.
    retiring: Arc<AtomicUsize>,
    refusals: Mutex<Repeated>,
}

impl Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kafka({})", self.raw.name)
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
        let raw = Raw::new(settings);
        let base = kafka::base_config(settings)?;
        let config = config_on(base, settings, r#use);
        let producer = made(&config, r#use, &metrics, &raw)?;
        let replication = usize::try_from(settings.topics.replication).unwrap_or(1);
        Ok(Self {
            producer: ArcSwap::from_pointee(producer),
            r#use,
            metrics,
            raw,
            enough_replicas: replication.saturating_sub(1).max(1),
            key_partitions: settings.topics.key_partitions,
            is_held: AtomicBool::new(false),
            retiring: Arc::default(),
            refusals: Mutex::default(),
        })
    }

    /// Replaces the producer by one with these properties. The old one delivers what it has, on a thread of
    /// its own, or on this one where the order of records counts. Blocks only then.
    pub fn renew(&self, settings: &Settings, base: &ClientConfig) -> Result<(), Vec<Fault>> {
        let config = config_on(base.clone(), settings, self.r#use);
        let producer = Arc::new(made(&config, self.r#use, &self.metrics, &self.raw)?);
        // What cannot be taken now is tried again by the spool's drain, in its order.
        self.is_held
            .store(self.r#use == Use::Drain, Ordering::SeqCst);
        // Counted before it is replaced, so that no flush passes it over.
        let retiring = Retiring::new(&self.retiring);
        let old = self.producer.swap(producer);
        match self.r#use {
            Use::Drain => {
                retire(old);
                self.is_held.store(false, Ordering::SeqCst);
            }
            Use::Live => {
                let retired = std::thread::Builder::new().name("old-producer".to_owned());
                let retire = move || {
                    retire(old);
                    drop(retiring);
                };
                // Without a thread the old one ends with what it has: senders get 503 or are spooled.
                if let Err(error) = retired.spawn(retire) {
                    tracing::warn!(%error, "the producer that is replaced cannot be waited for");
                }
            }
        }
        Ok(())
    }

    /// Asks the brokers whether the raw topic would take a record now. Blocks for up to `patience`.
    pub fn probe(&self, patience: Duration) -> Result<(), String> {
        let (producer, name) = (self.producer.load(), &self.raw.name);
        let metadata = producer
            .client()
            .fetch_metadata(Some(name), patience)
            .map_err(|error| format!("the brokers do not answer: {error}"))?;
        let Some(topic) = metadata.topics().first() else {
            return Err(format!("the brokers say nothing of {name}"));
        };
        if let Some(error) = topic.error() {
            let lacks = lacking(Call::Write(name), error.into());
            return Err(match lacks {
                Some(rule) => format!("Kafka refuses {rule}"),
                None => format!("{name} is not there"),
            });
        }
        if topic.partitions().is_empty() {
            return Err(format!("{name} is not there"));
        }
        let leaders = topic.partitions().iter();
        let leaders = leaders.map(|partition| (partition.id(), partition.leader()));
        producer.context().led_by(leaders);
        let keyed = usize::try_from(self.key_partitions).unwrap_or_default();
        let has = topic.partitions().len();
        if has < keyed {
            return Err(format!(
                "{name} has {has} partitions, fewer than topics.key_partitions, {keyed}"
            ));
        }
        // No record goes to the others.
        let keyed = topic.partitions().iter();
        for partition in keyed.filter(|partition| partition.id() < self.key_partitions) {
            // A topic made with fewer replicas than the settings say has no more to lose.
            let replicas = partition.replicas().len();
            let enough = self.enough_replicas.min(replicas.saturating_sub(1).max(1));
            if partition.leader() < 0 {
                return Err(format!("{name} {} has no leader", partition.id()));
            }
            if partition.isr().len() < enough {
                return Err(format!("{name} {} lacks replicas in sync", partition.id()));
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

    /// Reports whether our clock is right, by what the brokers say of the records that were delivered.
    pub fn report_clock(&self, readiness: &Readiness) {
        self.metrics.clocks().report(readiness, CLOCK_LIMIT);
    }

    /// Whether recent deliveries succeeded, if there were any.
    pub fn delivering(&self) -> Result<(), String> {
        self.producer.load().context().delivering(Instant::now())
    }

    /// The fatal error of the producer, if there is one.
    pub fn fatal(&self) -> Option<String> {
        let (code, reason) = self.producer.load().client().fatal_error()?;
        let lacks = lacking(Call::Write(&self.raw.name), code);
        let lacks = lacks.map_or_else(String::new, |rule| format!("; Kafka refuses {rule}"));
        Some(format!("{code}: {reason}{lacks}"))
    }

    /// Waits until nothing is in flight, for up to `patience`. Blocks.
    pub fn flush(&self, patience: Duration) -> Result<(), String> {
        let until = Instant::now() + patience;
        let producer = self.producer.load_full();
        let flushed = producer.flush(patience);
        flushed.map_err(|_| format!("{} records are left", producer.in_flight_count()))?;
        // It may be one that retires by now, and waits for its last user.
        drop(producer);
        while self.retiring.load(Ordering::SeqCst) > 0 {
            if Instant::now() >= until {
                return Err("a producer that was replaced has records left".to_owned());
            }
            std::thread::sleep(RETIRE_POLL);
        }
        Ok(())
    }
}

fn made(
    config: &ClientConfig,
    r#use: Use,
    metrics: &DeliveryMetrics,
    raw: &Raw,
) -> Result<ThreadedProducer<Deliveries>, Vec<Fault>> {
    let is_live = r#use == Use::Live;
    let deliveries = Deliveries::new(metrics.clone(), r#use.client(), is_live, raw.clone());
    config.create_with_context(deliveries).map_err(|error| {
        let (path, message) = ("kafka".to_owned(), error.to_string());
        vec![Fault { path, message }]
    })
}

/// The properties of a producer for this use: the settings' own and, on top, those that durability and
/// order rest on.
pub fn client_config(settings: &Settings, r#use: Use) -> Result<ClientConfig, Vec<Fault>> {
    Ok(config_on(kafka::base_config(settings)?, settings, r#use))
}

/// What is wrong with the properties of the producers. Connects nowhere.
pub fn faults(settings: &Settings) -> Vec<Fault> {
    let base = match kafka::base_config(settings) {
        Ok(base) => base,
        Err(faults) => return faults,
    };
    let drain = settings.ingest.spool.as_ref().map(|_| Use::Drain);
    let uses = [Some(Use::Live), drain].into_iter().flatten();
    let fault = |r#use: Use| {
        let config = config_on(base.clone(), settings, r#use);
        check::client_fault(r#use.client(), &config, check::Kind::Producer)
    };
    uses.filter_map(fault).collect()
}

fn config_on(mut config: ClientConfig, settings: &Settings, r#use: Use) -> ClientConfig {
    let spool = settings.ingest.spool.as_ref();
    let wait = spool.map_or(settings.ingest.ack_timeout, |spool| spool.wait);
    let patience = match r#use {
        Use::Live => wait / 100 * PATIENCE_PERCENT,
        // 0 means never to librdkafka.
        Use::Drain => Duration::ZERO,
    };
    let largest = match r#use {
        Use::Live => settings.raw_max_message_bytes(),
        // Sources may allow less now than when a record was spooled; whether raw takes it, raw decides.
        Use::Drain => settings.raw_max_message_bytes().max(LARGEST_SPOOLED),
    };
    let kib = settings.ingest.max_buffered.max(largest) / 1024;
    let records = (settings.ingest.max_buffered / RECORD_COST).clamp(1_000, 1_000_000);
    for (property, value, is_ours) in [
        ("acks", "all".to_owned(), true),
        ("enable.idempotence", "true".to_owned(), true),
        ("message.max.bytes", largest.to_string(), true),
        ("batch.size", BATCH_BYTES.to_string(), true),
        ("message.timeout.ms", patience.as_millis().to_string(), true),
        ("queue.buffering.max.kbytes", kib.to_string(), true),
        ("queue.buffering.max.messages", records.to_string(), true),
        // Properties that the operator may set.
        ("compression.type", "lz4".to_owned(), false),
        // A produce request has the records of one partition, and costs much whatever their number is.
        ("linger.ms", "4".to_owned(), false),
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
    config
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
        let producer = self.producer.load();
        if self.is_held.load(Ordering::SeqCst) {
            return Err(Refused::QueueFull);
        }
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header {
                key: REQUEST,
                value: Some(record.request),
            })
            .insert(Header {
                key: TRACEPARENT,
                value: Some(record.traceparent),
            });
        let record = BaseRecord::with_opaque_to(&self.raw.name, hold)
            // Not the client's choice: it would place keys over all partitions that raw has now.
            .partition(placement::partition(record.key, self.key_partitions))
            .key(record.key)
            .payload(record.value)
            .headers(headers);
        producer
            .send(record)
            .map_err(|(error, _)| match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => Refused::QueueFull,
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => Refused::TooLarge,
                _ => self.broken(&error),
            })
    }
}
