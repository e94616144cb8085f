//! A cluster: what all clients of a worker are made from.

use rdkafka::ClientConfig;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::statistics::{ClientStatistics, Statistics};

use super::watchdog::Calls;

/// How many records of a partition the client fetches ahead, about.
pub const QUEUED_MESSAGES: &str = "4000";

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
    /// What the clients report to.
    pub statistics: &'a ClientStatistics,
    /// What the clients that read logs are for: `reader` or `restorer`.
    pub reads_for: &'static str,
}

impl Cluster<'_> {
    /// Where a client of this worker reports to.
    pub fn statistics(&self, client: &str) -> Statistics {
        self.statistics.of(&format!("{client}-{}", self.worker))
    }
}
