//! The transactional producer: how it is set, what it reports, what its errors mean, and when a new one
//! is the safer one.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_schemas::settings::OUTPUT_QUEUE_BYTES;
use sluice_service::kafka::oauth;
use sluice_service::kafka::statistics;

use super::api::{
    CallError, Failure, InitError, Message, Producer, SendError, TRANSACTION_TIMEOUT,
};
use super::cluster::Cluster;
use super::watchdog::Calls;

mod context;

mod errors;

use context::OutContext;
use errors::{call_error, failure, hangs, is_fenced};

/// How long one record may take. Under [`TRANSACTION_TIMEOUT`], so that a record cannot arrive late.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(25);

/// How long an unknown topic is hoped for before it counts as missing.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer whose call took longer than this is replaced: something behind it has changed.
const SLOW_CALL: Duration = Duration::from_secs(1);

/// How long one call of the transaction's protocol may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the offsets may take.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(10);

/// When a call that should have ended by its time-out is given up, with its producer.
const OFFSETS_PATIENCE: Duration = Duration::from_secs(12);

/// How long one piece of an abort may take.
const ABORT_PIECE: Duration = Duration::from_millis(100);

/// How long a new producer waits for the coordinator before the worker polls again.
const INIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Every property of the producer.
pub(crate) fn config(cluster: &Cluster<'_>) -> ClientConfig {
    let Cluster {
        settings,
        base,
        worker,
        ..
    } = *cluster;
    let size = settings.output_max_message_bytes();
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
        .set(
            "queue.buffering.max.kbytes",
            (OUTPUT_QUEUE_BYTES / 1024).to_string(),
        )
        // Success is proved by the commit; a report for each record would cost as much as judging it.
        .set("delivery.report.only.error", "true");
    statistics::enable(&mut config);
    config
}

/// One transactional producer.
pub struct Transactor {
    producer: Option<Arc<BaseProducer<OutContext>>>,
    raw: String,
    calls: Calls,
    slow: bool,
    /// An abort under way, in pieces, since then.
    aborting: Option<Instant>,
}

impl Transactor {
    /// Makes the producer and takes over its name: an open transaction of a predecessor is ended.
    pub fn new(cluster: &Cluster<'_>) -> Result<Self, InitError> {
        let Cluster {
            settings, calls, ..
        } = *cluster;
        let later = |error: KafkaError| InitError::Later(error.to_string());
        let config = config(cluster);
        let context = OutContext {
            statistics: cluster.statistics("producer"),
            raw: settings.topics.names.raw(),
            group: settings.group_id(),
            id: settings.transactional_id(cluster.worker),
            ..OutContext::default()
        };
        let producer: BaseProducer<OutContext> =
            config.create_with_context(context).map_err(later)?;
        // The next call blocks, and would wait for a token that nobody gets.
        oauth::log_in(&config, || producer.poll(Duration::ZERO));
        let transactor = Self {
            producer: Some(Arc::new(producer)),
            raw: settings.topics.names.raw(),
            calls: calls.clone(),
            slow: false,
            aborting: None,
        };
        let init = || transactor.producer().init_transactions(INIT_TIMEOUT);
        match calls.watched(init) {
            Ok(()) => Ok(transactor),
            Err(KafkaError::Transaction(error)) if is_fenced(&error) => {
                Err(InitError::Fenced(error.to_string()))
            }
            Err(error) => {
                let why = transactor.producer().context().why(&error);
                Err(InitError::Later(why))
            }
        }
    }

    fn failure(&self, error: &KafkaError, topic: &str) -> Failure {
        let cause = self.producer().context().cause(error);
        let why = cause.unwrap_or_else(|| format!("{topic}: {error}"));
        failure(error, why)
    }

    fn call_error(&self, error: &KafkaError) -> CallError {
        self.producer().context().taint(error);
        call_error(error, self.producer().context().why(error))
    }

    #[expect(clippy::expect_used, reason = "it is there until the drop takes it")]
    fn producer(&self) -> &BaseProducer<OutContext> {
        self.producer.as_deref().expect("only drop takes it")
    }

    /// Makes a call, and remembers if it was a slow one.
    fn timed<T>(&mut self, call: impl FnOnce(&BaseProducer<OutContext>) -> T) -> T {
        let started = Instant::now();
        let result = self.calls.watched(|| call(self.producer()));
        self.slow |= started.elapsed() > SLOW_CALL;
        result
    }
}

impl Producer for Transactor {
    type Member = ConsumerGroupMetadata;

    fn begin(&mut self) -> Result<(), CallError> {
        // An error of a transaction that is over.
        let _ = self.take_failure();
        *self.producer().context().refused() = None;
        self.timed(rdkafka::producer::Producer::begin_transaction)
            .map_err(|error| self.call_error(&error))
    }

    fn send(&mut self, message: &Message<'_>) -> Result<(), SendError> {
        match self.producer().send(laid_out(message)) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err(SendError::Full)
            }
            Err((error, _)) => Err(SendError::Failed(self.failure(&error, message.topic))),
        }
    }

    fn serve(&self, wait: Duration) {
        self.producer().poll(wait);
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.producer().in_flight_count()).unwrap_or(usize::MAX)
    }

    fn take_failure(&self) -> Option<Failure> {
        let context = self.producer().context();
        let mut failed = context
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (error, topic) = failed.take()?;
        Some(self.failure(&error, &topic))
    }

    fn send_offsets(
        &mut self,
        offsets: &BTreeMap<i32, i64>,
        member: ConsumerGroupMetadata,
    ) -> Result<(), CallError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (&partition, &offset) in offsets {
            list.add_partition_offset(&self.raw, partition, Offset::Offset(offset))
                .map_err(|error| self.call_error(&error))?;
        }
        let Some(producer) = self.producer.clone() else {
            return Err(hangs());
        };
        // On a thread of its own: the call was seen to stay for good, with no heed to its time-out, once
        // its coordinator had been restarted (librdkafka's issues 5456 and 5511).
        let (answer, answered) = channel();
        let call = move || {
            let sent = producer.send_offsets_to_transaction(&list, &member, OFFSETS_TIMEOUT);
            // Before the answer, so that its receiver may drop the last of the producer.
            drop(producer);
            let _ = answer.send(sent);
        };
        let started = Instant::now();
        let thread = thread::Builder::new().name("send-offsets".to_owned());
        thread.spawn(call).map_err(|error| CallError::Broken {
            why: error.to_string(),
            fenced: false,
        })?;
        let sent = answered.recv_timeout(OFFSETS_PATIENCE);
        self.slow |= started.elapsed() > SLOW_CALL;
        let Ok(sent) = sent else {
            self.calls.abandon();
            return Err(hangs());
        };
        sent.map_err(|error| self.call_error(&error))
    }

    fn commit(&mut self) -> Result<(), CallError> {
        self.timed(|producer| producer.commit_transaction(CALL_TIMEOUT))
            .map_err(|error| self.call_error(&error))
    }

    // The call waits for the reports of what it purged, and those come by polling alone: so it is made
    // in short pieces, which it is able to take up again.
    fn abort(&mut self) -> Result<(), CallError> {
        let started = *self.aborting.get_or_insert_with(Instant::now);
        let abort = || self.producer().abort_transaction(ABORT_PIECE);
        let result = self.calls.watched(abort);
        let until = Instant::now() + CALL_TIMEOUT;
        while self.producer().in_flight_count() > 0 && Instant::now() < until {
            self.producer().poll(Duration::from_millis(1));
        }
        let result = result.map_err(|error| self.call_error(&error));
        if !matches!(result, Err(CallError::Again(_))) {
            self.slow |= started.elapsed() > SLOW_CALL;
            self.aborting = None;
        }
        result
    }

    fn is_suspect(&self) -> bool {
        // What was reported while nothing was sent waits to be asked for.
        self.producer().poll(Duration::ZERO);
        self.slow || self.producer().context().suspect.load(Ordering::Relaxed)
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

fn laid_out<'m>(message: &Message<'m>) -> BaseRecord<'m, [u8], [u8]> {
    let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
    for (name, value) in message.headers {
        headers = headers.insert(Header {
            key: name,
            value: value.as_deref(),
        });
    }
    BaseRecord {
        topic: message.topic,
        partition: message.partition,
        payload: Some(message.value),
        key: message.key,
        timestamp: message.timestamp_ms,
        headers: (!message.headers.is_empty()).then_some(headers),
        delivery_opaque: (),
    }
}
