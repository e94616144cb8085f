//! The transactional producer: how it is set, what it reports, and when a new one is the safer one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use sluice_schemas::service::kafka;
use sluice_schemas::service::settings::Settings;

/// How long the broker keeps a transaction open for a process that is gone. While it does, readers
/// wait; a restart under the same name ends it at once.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one record may take. Under [`TRANSACTION_TIMEOUT`], so that a record cannot arrive late.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(25);

/// How long an unknown topic is hoped for before it counts as missing.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer whose call took longer than this is made anew: something behind it has changed.
pub const SLOW_CALL: Duration = Duration::from_secs(1);

/// How long a new producer waits for the coordinator before the worker polls again.
const INIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the producer calls back.
#[derive(Debug, Default)]
pub struct OutContext {
    failed: Mutex<Option<(KafkaError, String)>>,
    suspect: AtomicBool,
}

impl ClientContext for OutContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.suspect.store(true, Ordering::Relaxed);
        tracing::info!(%error, reason, "the producer's connection to Kafka");
    }
}

impl ProducerContext for OutContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| (error.clone(), message.topic().to_owned()));
        }
    }
}

/// One transactional producer. Its name fences whoever had it before.
pub struct Transactor {
    producer: Option<BaseProducer<OutContext>>,
    slow: bool,
}

/// Why a new producer is not ready.
#[derive(Debug)]
pub enum InitError {
    /// The coordinator is not there yet: try again.
    Later(String),
    /// Another process has taken the name.
    Fenced(String),
}

impl Transactor {
    /// Makes the producer and takes over its name: an open transaction of a predecessor is ended.
    pub fn new(settings: &Settings, base: &ClientConfig, worker: u32) -> Result<Self, InitError> {
        let later = |error: KafkaError| InitError::Later(error.to_string());
        let size = settings.fed_max_message_bytes();
        let mut config = base.clone();
        for (property, value) in [
            // Without this, a transaction that begins before the markers of the last one are
            // written waits 100 ms.
            ("retry.backoff.ms", "5"),
            ("linger.ms", "2"),
            ("compression.type", "lz4"),
        ] {
            if config.get(property).is_none() {
                config.set(property, value);
            }
        }
        config
            .set("transactional.id", settings.transactional_id(worker))
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            .set(
                "message.timeout.ms",
                MESSAGE_TIMEOUT.as_millis().to_string(),
            )
            .set("message.max.bytes", size.to_string())
            .set("batch.size", (size / 2).min(1_000_000).to_string())
            .set(
                "topic.metadata.propagation.max.ms",
                TOPIC_TIMEOUT.as_millis().to_string(),
            )
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536")
            // Success is told by the commit; a report for each record would cost as much as judging it.
            .set("delivery.report.only.error", "true");
        let producer: BaseProducer<OutContext> = config
            .create_with_context(OutContext::default())
            .map_err(later)?;
        let transactor = Self {
            producer: Some(producer),
            slow: false,
        };
        match transactor.producer().init_transactions(INIT_TIMEOUT) {
            Ok(()) => Ok(transactor),
            Err(KafkaError::Transaction(error)) if is_fenced(&error) => {
                Err(InitError::Fenced(error.to_string()))
            }
            Err(error) => Err(later(error)),
        }
    }

    /// The client.
    #[expect(clippy::expect_used, reason = "it is there until the drop takes it")]
    pub fn producer(&self) -> &BaseProducer<OutContext> {
        self.producer.as_ref().expect("only drop takes it")
    }

    /// Nothing has failed yet, as far as a new transaction is concerned.
    pub fn forget_failure(&self) {
        *self.failed() = None;
    }

    /// The first record that could not be delivered since, and its topic.
    pub fn take_failure(&self) -> Option<(KafkaError, String)> {
        self.failed().take()
    }

    fn failed(&self) -> MutexGuard<'_, Option<(KafkaError, String)>> {
        let context = self.producer().context();
        context
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A call made in pieces took this long in all.
    pub fn took(&mut self, time: Duration) {
        self.slow |= time > SLOW_CALL;
    }

    /// Whether something happened after which a new producer is the safer one.
    pub fn is_suspect(&self) -> bool {
        // What was reported while nothing was sent waits to be asked for.
        self.producer().poll(Duration::ZERO);
        self.slow || self.producer().context().suspect.load(Ordering::Relaxed)
    }

    /// Makes a call, and remembers if it was a slow one.
    pub fn timed<T>(&mut self, call: impl FnOnce(&BaseProducer<OutContext>) -> T) -> T {
        let started = Instant::now();
        let result = call(self.producer());
        self.slow |= started.elapsed() > SLOW_CALL;
        result
    }
}

impl Drop for Transactor {
    fn drop(&mut self) {
        // Closing a client was seen to hang: it does so on a thread that nobody waits for.
        if let Some(producer) = self.producer.take() {
            thread::spawn(move || drop(producer));
        }
    }
}

/// Whether another producer has taken the name, or the broker has given it away.
pub fn is_fenced(error: &RDKafkaError) -> bool {
    matches!(
        error.code(),
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}
