//! Following topics: each record as it comes, until the caller has enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use sluice_schemas::record::Record;
use sluice_service::kafka::read::record;

use super::{POLL, PROBE, Range, Topics};
use crate::failure::Failure;

/// How long who follows topics waits for brokers that are away.
const FOLLOW_AWAY: Duration = Duration::from_secs(60);

impl Topics {
    /// Goes on with what comes to these partitions until it is stopped or `each` has enough.
    pub fn follow(
        self,
        ranges: &[Range],
        stop: &AtomicBool,
        each: &mut dyn FnMut(Record) -> bool,
    ) -> Result<(), Failure> {
        self.assign(ranges.iter().map(|range| (range, range.from)))?;
        let mut away: Option<Instant> = None;
        self.heard.take_all_down();
        while !stop.load(Ordering::Relaxed) {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    if !each(record(&message)) {
                        return Ok(());
                    }
                    away = None;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => away = None,
                Some(Err(error)) => self.look_at("", &error)?,
                None => {}
            }
            if self.heard.take_all_down() && away.is_none() {
                let (servers, reasons) = (&self.servers, self.heard.reasons());
                let reasons = match reasons.as_str() {
                    "" => String::new(),
                    reasons => format!(": {reasons}"),
                };
                eprintln!("the brokers ({servers}) do not answer{reasons}; waiting for a minute");
                away = Some(Instant::now());
            }
            if let Some(since) = away {
                // No record says that they are back where none comes. This takes none off the queue.
                if self.consumer.fetch_metadata(None, PROBE).is_ok() {
                    eprintln!("the brokers are back");
                    away = None;
                } else if since.elapsed() > FOLLOW_AWAY {
                    return Err(self.away("they were away for a minute"));
                }
            }
        }
        Ok(())
    }
}
