//! The topic `webhooks.subscriptions`: read whole at the beginning of a command, and written a record at a
//! time, each acknowledged by all in-sync replicas before the next thing is done.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use sluice_schemas::acl::Operation;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::oauth;

use super::ledger::{Entry, Key, Ledger};
use super::sync::Keep;
use crate::client::{Heard, is_refusal};
use crate::failure::Failure;
use crate::records::reader::{Topics, refusal};

/// How long a record may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(20);

/// All is on the first partition, so that one order holds.
const PARTITION: i32 = 0;

/// Who writes to the topic.
pub struct Store {
    producer: BaseProducer<Delivery>,
    topic: String,
    servers: String,
}

/// What came of the record that is under way.
#[derive(Default)]
struct Delivery {
    heard: Heard,
    ended: Mutex<Option<Result<(), KafkaError>>>,
}

impl ClientContext for Delivery {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _line: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.error(error, reason);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let ended = result
            .as_ref()
            .map(|_| ())
            .map_err(|(error, _)| error.clone());
        *self.ended.lock() = Some(ended);
    }
}

/// All that the topic holds.
pub fn read(settings: &Settings) -> Result<Ledger, Failure> {
    let topic = settings.topics.names.subscriptions();
    let topics = Topics::new(settings)?;
    eprintln!("reading {topic}");
    let mut opened = topics.open(std::slice::from_ref(&topic), None)?;
    if let Some(lacking) = opened.lacking.pop() {
        return Err(if settings.has_subscriptions() {
            Failure::Failed(format!("{lacking}; `sluicectl topics apply` makes it"))
        } else {
            Failure::Usage("no source of the settings has options.subscribe".to_owned())
        });
    }
    opened.ranges.retain(|range| range.partition == PARTITION);
    let mut ledger = Ledger::default();
    topics.read(&opened.ranges, &mut |record| {
        ledger.take(&record.key, &record.value);
    })?;
    if ledger.newer > 0 {
        return Err(Failure::Failed(format!(
            "{topic} has records of a newer release than this sluicectl: use the sluicectl of that release"
        )));
    }
    if ledger.unreadable > 0 {
        eprintln!(
            "{} records of {topic} are not what any release writes, and are passed over: who else writes to it?",
            ledger.unreadable
        );
    }
    Ok(ledger)
}

impl Store {
    /// A producer for the topic. Connects when it is first used.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let mut config = base_config(settings).map_err(|faults| Failure::config(&faults))?;
        config
            .set("acks", "all")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("linger.ms", "0")
            .set("log_level", "0");
        let producer = config.create_with_context(Delivery::default());
        let producer = producer.map_err(|error| {
            Failure::config(&[format!(
                "kafka.properties: no producer can be made: {error}"
            )])
        })?;
        Ok(Self {
            producer,
            topic: settings.topics.names.subscriptions(),
            servers: settings.kafka.bootstrap_servers.clone(),
        })
    }

    fn failure(&self, error: &KafkaError) -> Failure {
        let code = error.rdkafka_error_code();
        if code.is_some_and(is_refusal) {
            return Failure::Failed(refusal(&self.topic, Operation::Write));
        }
        if code == Some(RDKafkaErrorCode::PolicyViolation) {
            let topic = &self.topic;
            return Failure::Failed(format!("the brokers refuse a record of {topic}: {error}"));
        }
        let (servers, reasons) = (&self.servers, self.producer.context().heard.reasons());
        let reasons = if reasons.is_empty() {
            error.to_string()
        } else {
            reasons
        };
        Failure::TryAgain(format!(
            "{} cannot be written to, the brokers ({servers}) do not acknowledge: {reasons}",
            self.topic
        ))
    }
}

impl Keep for Store {
    /// Writes an entry, or ends it, and waits for the acknowledgement.
    fn put(&mut self, key: &Key, entry: Option<&Entry>) -> Result<(), Failure> {
        let key = key.to_string();
        let value = entry.map(|entry| serde_json::json!(entry).to_string());
        let mut record = BaseRecord::to(&self.topic).partition(PARTITION).key(&key);
        if let Some(value) = &value {
            record = record.payload(value);
        }
        *self.producer.context().ended.lock() = None;
        let sent = self.producer.send(record);
        sent.map_err(|(error, _)| self.failure(&error))?;
        let end = Instant::now() + PATIENCE + Duration::from_secs(5);
        loop {
            self.producer.poll(Duration::from_millis(20));
            let ended = self.producer.context().ended.lock().take();
            match ended {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => return Err(self.failure(&error)),
                None if Instant::now() > end => {
                    let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
                    return Err(self.failure(&error));
                }
                None => {}
            }
        }
    }
}
