//! Sending. Comes in: the places of the records that are to be sent. Goes out: those records on raw, and the
//! progress of the group. An idempotent producer without transactions: markers on raw would be lag for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use sluice_schemas::acl::Operation;
use sluice_schemas::record::Record;
use sluice_schemas::settings::{RAW_OVERHEAD, Settings};
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::oauth;

use super::again::again;
use super::candidate::{Candidate, Place};
use super::pace::Pace;
use super::progress::{Group, Position, Run, State};
use crate::client::{Heard, is_write_refused};
use crate::failure::Failure;
use crate::records::reader::{Topics, refusal};

/// How long a record may take to be acknowledged.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last ones are waited for.
const LAST: Duration = Duration::from_secs(35);

/// How often the offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// How many records may be under way.
const MOST_UNDER_WAY: i32 = 5_000;

/// How many bytes of them, in KiB.
const MOST_KIB: u64 = 64 * 1024;

/// The most of a batch, in bytes: under the smallest record limit that there can be.
const BATCH_BYTES: u64 = 128 * 1024;

/// The largest body that any release took.
const LARGEST_BODY: u64 = 64 << 20;

/// How long brokers are waited for that are all away.
const AWAY: Duration = Duration::from_secs(5);

/// One poll of the producer.
const POLL: Duration = Duration::from_millis(20);

/// A record, and whether the brokers have it.
type Delivered = (Place, Result<(), KafkaError>);

/// What the producer says of records.
#[derive(Debug, Clone, Default)]
struct Deliveries {
    heard: Heard,
    done: Arc<Mutex<Vec<Delivered>>>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _line: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Place>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<Place>) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        };
        self.done.lock().push((*place, result));
    }
}

/// Every property of the producer.
fn config(settings: &Settings) -> Result<ClientConfig, Failure> {
    let mut config = base_config(settings).map_err(|faults| Failure::config(&faults))?;
    // Sources may allow less now than when a record came; whether raw takes it, raw decides.
    let largest = settings
        .raw_max_message_bytes()
        .max(LARGEST_BODY + RAW_OVERHEAD);
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set(
            "message.timeout.ms",
            MESSAGE_TIMEOUT.as_millis().to_string(),
        )
        .set("message.max.bytes", largest.to_string())
        .set("batch.size", BATCH_BYTES.to_string())
        .set(
            "queue.buffering.max.kbytes",
            MOST_KIB.max(largest / 1024 + 1).to_string(),
        )
        .set("queue.buffering.max.messages", "100000")
        .set("log_level", "0");
    for (property, other, value) in [
        ("compression.type", "compression.codec", "lz4"),
        ("linger.ms", "queue.buffering.max.ms", "5"),
    ] {
        if config.get(property).is_none() && config.get(other).is_none() {
            config.set(property, value);
        }
    }
    Ok(config)
}

/// Sends the candidates of a run.
pub struct Sending<'a> {
    settings: &'a Settings,
    run: &'a Run,
    group: &'a Group,
    candidates: &'a BTreeMap<Place, Candidate>,
    stop: &'a Arc<AtomicBool>,
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
    positions: BTreeMap<i32, Position>,
    pace: Pace,
    committed: Instant,
    away: Option<Instant>,
    failed: Option<Failure>,
    /// How many the brokers have acknowledged.
    pub sent: u64,
}

impl<'a> Sending<'a> {
    /// Connects when the first record is sent.
    pub fn new(
        settings: &'a Settings,
        run: &'a Run,
        group: &'a Group,
        candidates: &'a BTreeMap<Place, Candidate>,
        stop: &'a Arc<AtomicBool>,
        rate: u32,
    ) -> Result<Self, Failure> {
        let config = config(settings)?;
        let deliveries = Deliveries::default();
        let made = config.create_with_context(deliveries.clone());
        let producer: BaseProducer<Deliveries> = made.map_err(|error| {
            Failure::config(&[format!("kafka.properties: no client can be made: {error}")])
        })?;
        oauth::log_in(&config, || producer.poll(Duration::ZERO));
        let positions = run.ranges.iter();
        let positions = positions.map(|range| (range.partition, Position::at(range.from)));
        Ok(Self {
            settings,
            run,
            group,
            candidates,
            stop,
            producer,
            deliveries,
            positions: positions.collect(),
            pace: Pace::new(rate, Instant::now()),
            committed: Instant::now(),
            away: None,
            failed: None,
            sent: 0,
        })
    }

    /// Reads the records again and sends those that are to be sent; commits as far as they are acknowledged.
    pub fn all(&mut self) -> Result<(), Failure> {
        let topics = Topics::new(self.settings)?.until(self.stop);
        let read = topics.read(&self.run.ranges, &mut |record| self.take(record));
        if self.failed.is_none() {
            self.wait_for_the_last();
        }
        let was_stopped = self.stop.load(Ordering::Relaxed);
        let failed = self.failed.take();
        if failed.is_none() && read.is_ok() && !was_stopped {
            let ends = self.run.ranges.iter();
            let ends: Vec<(i32, i64, State)> = ends
                .map(|range| (range.partition, range.end, State::Done))
                .collect();
            return self
                .group
                .commit(&ends)
                .map_err(|failure| self.so_far(failure));
        }
        // As much as can be kept; whatever is not repeats.
        let _ = self.group.try_commit(&self.offsets());
        Err(match (failed, read) {
            (None, _) if was_stopped => self.so_far(Failure::TryAgain("it was stopped".to_owned())),
            (Some(failure), _) | (None, Err(failure)) => self.so_far(failure),
            (None, Ok(())) => self.so_far(Failure::TryAgain("it was not completed".to_owned())),
        })
    }

    /// A failure, with what was sent before it.
    fn so_far(&self, failure: Failure) -> Failure {
        let (sent, all) = (self.sent, self.candidates.len());
        let so_far = format!(
            "{sent} of {all} records were sent and acknowledged; the same command goes on there, and what it \
             repeats becomes a duplicate"
        );
        match failure {
            Failure::TryAgain(line) => Failure::TryAgain(format!("{line}; {so_far}")),
            Failure::Failed(line) => Failure::Failed(format!("{line}; {so_far}")),
            other => other,
        }
    }

    fn take(&mut self, record: Record) {
        if self.is_over() {
            return;
        }
        let place = (record.partition, record.offset);
        let is_sent = self.candidates.contains_key(&place);
        if is_sent {
            self.wait_for_the_pace();
            let Some(again) = again(record, self.settings).filter(|_| !self.is_over()) else {
                return;
            };
            self.send(place, &again);
            if self.is_over() {
                return;
            }
        }
        if let Some(position) = self.positions.get_mut(&place.0) {
            position.read(place.1, is_sent);
        }
        self.serve(Duration::ZERO);
    }

    fn is_over(&self) -> bool {
        self.failed.is_some() || self.stop.load(Ordering::Relaxed)
    }

    fn wait_for_the_pace(&mut self) {
        loop {
            let wait = self.pace.wait(Instant::now());
            let is_full = self.producer.in_flight_count() >= MOST_UNDER_WAY;
            if (wait.is_zero() && !is_full) || self.is_over() {
                break;
            }
            self.serve(if is_full { POLL } else { wait.min(POLL) });
        }
        self.pace.sent(Instant::now());
    }

    fn send(&mut self, place: Place, record: &Record) {
        loop {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                let value = Some(value.as_slice());
                headers = headers.insert(Header { key, value });
            }
            let mut out = BaseRecord::with_opaque_to(&record.topic, Box::new(place))
                .partition(record.partition)
                .payload(record.value.as_slice())
                .headers(headers);
            if !record.key.is_empty() {
                out = out.key(record.key.as_slice());
            }
            let Err((error, _)) = self.producer.send::<[u8], [u8]>(out) else {
                return;
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return self.fail(place, &error);
            }
            self.serve(POLL);
            if self.is_over() {
                return;
            }
        }
    }

    /// Takes what the brokers have acknowledged, and commits from time to time.
    fn serve(&mut self, wait: Duration) {
        self.producer.poll(wait);
        let done: Vec<_> = std::mem::take(&mut *self.deliveries.done.lock());
        for (place, result) in done {
            match result {
                Ok(()) => {
                    self.sent += 1;
                    self.away = None;
                    if let Some(position) = self.positions.get_mut(&place.0) {
                        position.acknowledged(place.1);
                    }
                }
                Err(error) => self.fail(place, &error),
            }
        }
        self.look_whether_they_are_there();
        if self.committed.elapsed() > COMMIT_EVERY && self.failed.is_none() {
            // One that fails is made good by the next. A refusal is not.
            let tried = self.group.try_commit(&self.offsets());
            if let Err(failure @ Failure::Failed(_)) = tried {
                self.end(failure);
            }
            self.committed = Instant::now();
        }
    }

    /// All brokers are away, something is under way, and nothing is acknowledged for a while.
    fn look_whether_they_are_there(&mut self) {
        if self.producer.in_flight_count() == 0 {
            self.away = None;
        } else if self.deliveries.heard.take_all_down() {
            self.away.get_or_insert_with(Instant::now);
        }
        if self.away.is_some_and(|since| since.elapsed() > AWAY) {
            let reasons = self.deliveries.heard.reasons();
            self.end(Failure::TryAgain(format!(
                "the brokers are away: {reasons}"
            )));
        }
    }

    fn offsets(&self) -> Vec<(i32, i64, State)> {
        let positions = self.positions.iter();
        let offset = |(partition, position): (&i32, &Position)| {
            (*partition, position.done(), self.run.open(*partition))
        };
        positions.map(offset).collect()
    }

    fn wait_for_the_last(&mut self) {
        let end = Instant::now() + LAST;
        while self.producer.in_flight_count() > 0 && self.failed.is_none() {
            self.serve(POLL);
            if Instant::now() > end {
                let line = "the brokers do not acknowledge the last records".to_owned();
                self.end(Failure::TryAgain(line));
            }
        }
        self.serve(Duration::ZERO);
    }

    /// The first failure ends the reading too.
    fn end(&mut self, failure: Failure) {
        self.failed.get_or_insert(failure);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn fail(&mut self, place: Place, error: &KafkaError) {
        let raw = self.settings.topics.names.raw();
        let (partition, offset) = place;
        let failure = match error.rdkafka_error_code() {
            _ if is_write_refused(&self.producer, error) => {
                Failure::Failed(refusal(&raw, Operation::Write))
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Failure::Failed(format!(
                "{raw} does not take the record at {partition}/{offset}, it is larger than max.message.bytes: \
                 raise that setting of the topic"
            )),
            _ => {
                let heard = self.deliveries.heard.reasons();
                let heard = if heard.is_empty() {
                    error.to_string()
                } else {
                    heard
                };
                Failure::TryAgain(format!(
                    "{raw} did not take the record at {partition}/{offset}: {heard}"
                ))
            }
        };
        self.end(failure);
    }
}
