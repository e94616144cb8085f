//! The topics that Sluice writes to: what they must be like, creating and verifying them.

use std::time::Duration;

use sluice_schemas::settings::Settings;

mod compare;

mod ensure;

pub use ensure::{EnsureError, ensure, ensure_these};

/// `segment.ms` of the dedup-log. Retention deletes whole segments, so this is how coarsely it works.
pub const DEDUP_LOG_SEGMENT: Duration = Duration::from_secs(6 * 3_600);

/// What a topic must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The full name.
    pub name: String,
    /// How many partitions it is created with.
    pub partitions: i32,
    /// Whether it must have exactly as many, or may have more.
    pub partitions_rule: Rule,
    /// Replicas of each partition, when it is created.
    pub replication: i32,
    /// Topic settings: key, value, and how an existing topic's value is compared with it.
    pub configs: Vec<(&'static str, String, Rule)>,
}

/// How what a topic has is compared with what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It must be the same.
    Exactly,
    /// It must be a number that is no smaller; -1 stands for no bound.
    AtLeast,
    /// Topics are created with it; a smaller number is worth a warning and no more.
    Advised,
    /// Worth a warning where it differs.
    AdvisedExactly,
}

/// Which topics a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Raw alone, which is all that ingest writes.
    RawOnly,
    /// All of them.
    All,
}

/// All topics under these settings, raw first, the event topics last.
pub fn wanted(settings: &Settings) -> Vec<TopicSpec> {
    let (topics, names) = (&settings.topics, &settings.topics.names);
    let raw_bytes = settings.raw_max_message_bytes().to_string();
    let output_bytes = settings.output_max_message_bytes().to_string();
    let isr = (topics.replication - 1).max(1).to_string();
    let spec = |name: String, kept: Duration, bytes: &str, kept_rule: Rule| TopicSpec {
        name,
        partitions: topics.event_partitions,
        partitions_rule: Rule::AtLeast,
        replication: topics.replication,
        configs: vec![
            ("retention.ms", millis(kept), kept_rule),
            ("max.message.bytes", bytes.to_owned(), Rule::AtLeast),
            ("min.insync.replicas", isr.clone(), Rule::Advised),
        ],
    };
    let as_raw = |mut spec: TopicSpec| {
        spec.partitions = topics.partitions;
        spec.partitions_rule = Rule::Exactly;
        spec.configs
            .push(("cleanup.policy", "delete".to_owned(), Rule::Exactly));
        let append_time = (
            "message.timestamp.type",
            "LogAppendTime".to_owned(),
            Rule::Exactly,
        );
        spec.configs.push(append_time);
        spec
    };
    // The audit looks for fates by their timestamps, and writes those again that are gone before their time.
    let fate = |name: String, kept: Duration| {
        let mut spec = spec(name, kept, &output_bytes, Rule::AtLeast);
        spec.configs.extend(any_timestamp());
        spec.configs
            .push(("cleanup.policy", "delete".to_owned(), Rule::AdvisedExactly));
        spec
    };
    let by_creation = |mut spec: TopicSpec, rule| {
        let create_time = ("message.timestamp.type", "CreateTime".to_owned(), rule);
        spec.configs.push(create_time);
        spec
    };
    let by_time_alone = |mut spec: TopicSpec| {
        spec.configs
            .push(("retention.bytes", "-1".to_owned(), Rule::AdvisedExactly));
        spec
    };

    let kept = &topics.retention;
    // The dedup log's retention is computed from raw's, so raw may not keep records longer than it says.
    let raw = as_raw(spec(names.raw(), kept.raw, &raw_bytes, Rule::Exactly));
    let dedup_kept = kept.raw + settings.longest_window() + 2 * DEDUP_LOG_SEGMENT;
    let mut dedup_log = as_raw(spec(
        names.dedup_log(),
        dedup_kept,
        &output_bytes,
        Rule::AtLeast,
    ));
    dedup_log.configs.extend([
        ("segment.ms", millis(DEDUP_LOG_SEGMENT), Rule::Exactly),
        // A bound by bytes would remove identities that the window still needs.
        ("retention.bytes", "-1".to_owned(), Rule::Exactly),
    ]);
    let mut rejected = by_creation(fate(names.rejected(), kept.rejected), Rule::AdvisedExactly);
    let bound = (
        "retention.bytes",
        topics.rejected_bytes.to_string(),
        Rule::Exactly,
    );
    rejected.configs.push(bound);

    let kept_fate = |name, kept| by_creation(by_time_alone(fate(name, kept)), Rule::AdvisedExactly);
    let mut all = vec![
        raw,
        dedup_log,
        kept_fate(names.duplicates(), kept.duplicates),
        rejected,
        kept_fate(names.dead_letter(), kept.dead_letter),
    ];
    let events = settings.event_topics().into_iter();
    all.extend(events.map(|name| {
        let event = by_time_alone(fate(name, kept.events));
        by_creation(event, Rule::Exactly)
    }));
    all
}

/// Any timestamp is accepted: a producer's fast clock, or a record judged late, never blocks a batch.
fn any_timestamp() -> [(&'static str, String, Rule); 2] {
    [
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
    ]
    .map(|key| (key, i64::MAX.to_string(), Rule::AtLeast))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
