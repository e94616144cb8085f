//! Kafka by way of librdkafka.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use super::api::{BrokerUnavailable, InitError, Kafka};
use super::assignment::Assignments;
use super::cluster::Cluster;
use super::consumer::RawConsumer;
use super::producer::Transactor;
use super::reader::LogReader;

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

    fn reader(&self) -> Result<LogReader, BrokerUnavailable> {
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

impl From<KafkaError> for BrokerUnavailable {
    fn from(error: KafkaError) -> Self {
        Self(error.to_string())
    }
}
