//! Ingest's part of the settings, in the form that each request needs.

use std::time::Duration;

use sluice_schemas::settings::{Limits, PeerFrom, Settings};

use crate::auth::SourceAuth;
use crate::byte_budget::LARGEST_HEAD;

/// Ingest's part of the settings.
#[derive(Debug)]
pub struct Config {
    /// How long a sender waits for the acknowledgement before 503.
    pub ack_timeout: Duration,
    /// How long the head of a request may take from its first byte.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// Bytes of heads and bodies held at once, over all requests.
    pub max_buffered: usize,
    /// The largest record of the raw topic, in bytes.
    pub max_record: usize,
    /// The raw topic.
    pub raw_topic: String,
    /// The share of requests whose trace is sampled, 0 to 1.
    pub trace_ratio: f64,
    /// Which address is trusted to be the sender's.
    pub peer_from: PeerFrom,
    /// The limits of a connection, a peer and a source.
    pub limits: Limits,
    /// The sources that are answered.
    pub auth: SourceAuth,
}

impl Config {
    /// From settings that were checked when they were loaded.
    pub fn new(settings: &Settings) -> Self {
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let max_buffered = bytes(settings.ingest.max_buffered);
        let sources = settings.sources.values();
        let largest = bytes(sources.map(|source| source.max_body).max().unwrap_or(0));
        // Settings that leave room for the largest body and not for its head are good.
        let with_head = largest..largest.saturating_add(LARGEST_HEAD);
        let max_buffered = if with_head.contains(&max_buffered) {
            with_head.end
        } else {
            max_buffered
        };
        Self {
            ack_timeout: settings.ingest.ack_timeout,
            header_timeout: settings.ingest.header_timeout,
            body_timeout: settings.ingest.body_timeout,
            max_buffered,
            max_record: bytes(settings.raw_max_message_bytes()),
            raw_topic: settings.topics.names.raw(),
            trace_ratio: settings.telemetry.trace_ratio,
            peer_from: settings.ingest.peer,
            limits: settings.ingest.limits.clone(),
            auth: SourceAuth::new(
                settings.sources.values().filter(|source| source.enabled),
                (max_buffered, settings.ingest.limits.source_buffered),
                settings.ingest.peer != PeerFrom::Connection,
            ),
        }
    }
}
