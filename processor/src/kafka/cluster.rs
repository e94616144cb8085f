//! A cluster: what all clients of a worker are made from.

use rdkafka::ClientConfig;
use sluice_schemas::settings::Settings;

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
}
