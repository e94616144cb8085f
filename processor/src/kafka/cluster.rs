//! Kafka by way of librdkafka.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use sluice_schemas::settings::Settings;

use super::consumer::RawConsumer;
use super::producer::Transactor;
use super::reader::LogReader;
use super::watchdog::Calls;
use super::{InitError, Kafka, Unanswered};
use crate::kafka::assignment::Assignments;

/// A cluster, as one worker's clients see it.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// Kafka's part of them, with its secrets.
    pub base: &'a ClientConfig,
    /// The worker's number.
    pub worker: u32,
    /// The watch over its thread.
    pub calls: &'a Calls,
}

impl Kafka for Cluster<'_> {
    type Consumer = RawConsumer;
    type Producer = Transactor;
    type Reader = LogReader;

    fn consumer(&self, assignments: Arc<Assignments>) -> Result<RawConsumer, String> {
        RawConsumer::new(self, assignments).map_err(|error| error.to_string())
    }

    fn producer(&self) -> Result<Transactor, InitError> {
        Transactor::new(self)
    }

    fn reader(&self) -> Result<LogReader, Unanswered> {
        Ok(LogReader::new(self)?)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}

impl From<KafkaError> for Unanswered {
    fn from(error: KafkaError) -> Self {
        Self(error.to_string())
    }
}
