//! Writing shadow topics: idempotent, without transactions, for no group.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use sluice_processor::pipeline::outgoing::Outgoing;
use sluice_schemas::acl::Operation;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::oauth;

use super::shadow::{Shadow, ShadowTopic};
use crate::client::is_write_refused;
use crate::failure::Failure;
use crate::records::reader::refusal;

/// How long a record may take.
const DELIVERY: Duration = Duration::from_secs(60);

/// For how long after that the last report is waited for.
const BEHIND: Duration = Duration::from_secs(5);

/// What the producer hears.
#[derive(Debug, Clone, Default)]
struct Deliveries {
    failed: Arc<Mutex<Option<(String, KafkaError)>>>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _line: &str) {}

    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock();
            failed.get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
    }
}

/// Writes to shadow topics: idempotent, without transactions.
pub struct Writer<'a> {
    shadow: &'a Shadow,
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
}

impl<'a> Writer<'a> {
    /// A producer under the settings' credentials.
    pub fn new(shadow: &'a Shadow, settings: &Settings) -> Result<Self, Failure> {
        let mut config = base_config(settings).map_err(|faults| Failure::config(&faults))?;
        let largest = shadow.largest().unwrap_or("8388608");
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string())
            .set("message.max.bytes", largest)
            .set("queue.buffering.max.kbytes", "65536")
            .set("delivery.report.only.error", "true");
        let deliveries = Deliveries::default();
        let made = config.create_with_context(deliveries.clone());
        let producer: BaseProducer<Deliveries> = made.map_err(|error| {
            Failure::config(&[format!("kafka.properties: no client can be made: {error}")])
        })?;
        oauth::log_in(&config, || {
            producer.poll(Duration::ZERO);
        });
        Ok(Self {
            shadow,
            producer,
            deliveries,
        })
    }

    /// Writes a record to the shadow of its topic.
    pub fn write(&self, out: &Outgoing<'_>) -> Result<(), Failure> {
        let Some(topic) = self.shadow.of(out.topic).map(ShadowTopic::name) else {
            return Err(Failure::Failed(format!("{} has no shadow", out.topic)));
        };
        let mut headers = OwnedHeaders::new_with_capacity(out.headers.len());
        for (key, value) in &out.headers {
            headers = headers.insert(Header {
                key,
                value: value.as_deref(),
            });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(topic)
            .payload(out.value.as_ref())
            .headers(headers)
            .timestamp(out.timestamp_ms);
        record.key = out.key;
        loop {
            self.producer.poll(Duration::ZERO);
            self.look()?;
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(50));
                }
                Err((error, _)) => return Err(self.failure(topic, &error)),
            }
        }
    }

    /// Waits until all is there.
    pub fn finish(&self) -> Result<(), Failure> {
        let flushed = self.producer.flush(DELIVERY + BEHIND);
        self.look()?;
        flushed.map_err(|error| Failure::TryAgain(format!("shadow topics: {error}")))
    }

    fn failure(&self, topic: &str, error: &KafkaError) -> Failure {
        if is_write_refused(&self.producer, error) {
            return Failure::Failed(refusal(topic, Operation::Write));
        }
        Failure::TryAgain(format!(
            "{topic} cannot be written: {error}; what is there is not all: delete it, or take another prefix"
        ))
    }

    fn look(&self) -> Result<(), Failure> {
        match &*self.deliveries.failed.lock() {
            None => Ok(()),
            Some((topic, error)) => Err(self.failure(topic, error)),
        }
    }
}
