//! What follows from the settings without another look at the world.

use std::collections::BTreeSet;
use std::time::Duration;

use super::file::Settings;
use super::sizes::{OUTPUT_OVERHEAD, RAW_OVERHEAD};
use crate::topic::OTHER;

impl Settings {
    /// The largest record of `webhooks.raw`, in bytes.
    pub fn raw_max_message_bytes(&self) -> u64 {
        self.largest_body() + RAW_OVERHEAD
    }

    /// The largest body that the raw topic and its clients take, in bytes.
    pub(super) fn largest_body(&self) -> u64 {
        let bodies = self.sources.values().map(|source| source.max_body);
        bodies.fold(self.startup_limits.largest_body, u64::max)
    }

    /// The largest record of every topic that the processor writes to, in bytes.
    pub fn output_max_message_bytes(&self) -> u64 {
        self.raw_max_message_bytes() + OUTPUT_OVERHEAD
    }

    /// The longest time for which an event of any source suppresses its repetitions.
    pub fn longest_window(&self) -> Duration {
        let windows = self.sources.values().map(|source| source.dedup_window);
        let longest = windows.max().unwrap_or(self.processor.dedup_window);
        longest.max(self.startup_limits.longest_window)
    }

    /// The full names of all event topics. A disabled source's are among them, for its raw records
    /// are still judged.
    pub fn event_topics(&self) -> BTreeSet<String> {
        let mut topics = BTreeSet::new();
        for source in self.sources.values() {
            let provider = source.provider.spec().name;
            for r#type in source.topic_types().chain([OTHER]) {
                topics.insert(self.topics.names.event(provider, r#type));
            }
        }
        topics
    }

    /// Whether the operator's command line is to subscribe a source at its provider, and keeps the ids.
    pub fn has_subscriptions(&self) -> bool {
        let mut sources = self.sources.values();
        sources.any(|source| source.verifier.subscribe().is_some())
    }

    /// The consumer group's full name.
    pub fn group_id(&self) -> String {
        format!("{}{}", self.topics.names.prefix, self.processor.group)
    }

    /// The `transactional.id` of a worker, and with static membership its `group.instance.id`.
    pub fn transactional_id(&self, worker: u32) -> String {
        let (group, member) = (self.group_id(), &self.processor.member);
        format!("{group}.{member}.{worker}")
    }
}
