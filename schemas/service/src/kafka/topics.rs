//! The topics that Sluice writes to: what they must be like, creating and verifying them.

use std::time::Duration;

use sluice_schemas::settings::Settings;

mod error;

mod command;

mod compare;

mod look;

mod ensure;

mod examine;

use command::tool;
pub use command::{Growth, alteration, configs_tool};
pub use compare::Difference;
pub use ensure::{create_topics, ensure, ensure_these};
pub use error::EnsureError;
pub use examine::{Examined, examine, examine_settings};

/// `segment.ms` of the dedup-log. Retention deletes whole segments, so this is how coarsely it works.
pub const DEDUP_LOG_SEGMENT: Duration = Duration::from_secs(6 * 3_600);

/// The same of raw: what lives for longer than raw's retention would outlive what the dedup-log is kept for.
const RAW_SEGMENT: Duration = DEDUP_LOG_SEGMENT;

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

/// The command that makes a topic.
pub fn creation(settings: &Settings, spec: &TopicSpec) -> String {
    let TopicSpec {
        name,
        partitions,
        replication,
        configs,
        ..
    } = spec;
    let configs: Vec<String> = configs
        .iter()
        .map(|(key, value, _)| format!(" --config {key}={value}"))
        .collect();
    format!(
        "{} --create --topic {name} --partitions {partitions} --replication-factor {replication}{}",
        tool(settings, "kafka-topics.sh"),
        configs.concat()
    )
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
    /// It must be no smaller, as in [`Rule::AtLeast`]; one that is larger is worth a warning.
    AtLeastAdvisedExactly,
}

/// Which topics a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Raw alone, which is all that ingest writes.
    RawOnly,
    /// All of them.
    All,
}

/// All topics that the services need under these settings, raw first, the event topics last.
pub fn wanted(settings: &Settings) -> Vec<TopicSpec> {
    let names = &settings.topics.names;
    let mut all = vec![
        raw(settings),
        dedup_log(settings),
        duplicates(settings, names.duplicates()),
        rejected(settings),
        dead_letter(settings, names.dead_letter()),
    ];
    let events = settings.event_topics().into_iter();
    all.extend(events.map(|name| event(settings, name)));
    all
}

/// Those, and the topic of subscriptions where a source has some. No service looks at that one.
pub fn planned(settings: &Settings) -> Vec<TopicSpec> {
    let mut all = wanted(settings);
    if settings.has_subscriptions() {
        all.push(subscriptions(settings));
    }
    all
}

/// The last value of a key is what counts, and it is kept for ever. All is on the first partition.
fn subscriptions(settings: &Settings) -> TopicSpec {
    let topics = &settings.topics;
    let isr = (topics.replication - 1).max(1);
    let spec = TopicSpec {
        name: topics.names.subscriptions(),
        partitions: 1,
        partitions_rule: Rule::AtLeast,
        replication: topics.replication,
        configs: Vec::new(),
    };
    spec.with("cleanup.policy", "compact", Rule::Exactly).with(
        "min.insync.replicas",
        isr.to_string(),
        Rule::Advised,
    )
}

fn raw(settings: &Settings) -> TopicSpec {
    let (topics, bytes) = (&settings.topics, settings.raw_max_message_bytes());
    // The dedup log's retention is computed from raw's, so raw may not keep records longer than it says.
    let kept = (topics.retention.raw, Rule::Exactly);
    spec(settings, topics.names.raw(), kept, bytes)
        .like_raw(settings)
        .with("segment.ms", millis(RAW_SEGMENT), Rule::AdvisedExactly)
}

fn dedup_log(settings: &Settings) -> TopicSpec {
    let (topics, bytes) = (&settings.topics, settings.output_max_message_bytes());
    let kept = topics.retention.raw + settings.longest_window() + 2 * DEDUP_LOG_SEGMENT;
    let kept = (kept, Rule::AtLeast);
    spec(settings, topics.names.dedup_log(), kept, bytes)
        .like_raw(settings)
        .with("segment.ms", millis(DEDUP_LOG_SEGMENT), Rule::Exactly)
        // A bound by bytes would remove identities that the window still needs.
        .with("retention.bytes", "-1", Rule::Exactly)
}

fn rejected(settings: &Settings) -> TopicSpec {
    let topics = &settings.topics;
    let bytes = topics.rejected_bytes.to_string();
    let kept = (topics.retention.rejected, Rule::AtLeast);
    fate(settings, topics.names.rejected(), kept)
        .by_creation(Rule::AdvisedExactly)
        .with("retention.bytes", bytes, Rule::Exactly)
}

fn duplicates(settings: &Settings, name: String) -> TopicSpec {
    let topics = &settings.topics;
    let kept = (topics.retention.duplicates, Rule::AtLeast);
    kept_fate(settings, name, kept, topics.duplicates_bytes)
}

fn dead_letter(settings: &Settings, name: String) -> TopicSpec {
    let topics = &settings.topics;
    let kept = (topics.retention.dead_letter, Rule::AtLeastAdvisedExactly);
    kept_fate(settings, name, kept, topics.dead_letter_bytes)
}

/// A topic of fates that is bounded by time alone, unless the settings say otherwise.
fn kept_fate(
    settings: &Settings,
    name: String,
    kept: (Duration, Rule),
    bytes: Option<u64>,
) -> TopicSpec {
    let bytes = bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
    fate(settings, name, kept)
        .with("retention.bytes", bytes, Rule::AdvisedExactly)
        .by_creation(Rule::AdvisedExactly)
}

/// Events, like dead letters, hold what authentic senders say of people: a topic that keeps them for longer
/// than the settings say is worth a warning.
fn event(settings: &Settings, name: String) -> TopicSpec {
    let kept = (
        settings.topics.retention.events,
        Rule::AtLeastAdvisedExactly,
    );
    fate(settings, name, kept)
        .with("retention.bytes", "-1", Rule::AdvisedExactly)
        .by_creation(Rule::Exactly)
}

/// A topic of fates. The audit looks for fates by their timestamps, and writes those again that are gone
/// before their time.
fn fate(settings: &Settings, name: String, kept: (Duration, Rule)) -> TopicSpec {
    let bytes = settings.output_max_message_bytes();
    let any = i64::MAX.to_string();
    spec(settings, name, kept, bytes)
        // Any timestamp is accepted: a producer's fast clock, or a record judged late, never blocks a batch.
        .with("message.timestamp.after.max.ms", any.clone(), Rule::AtLeast)
        .with("message.timestamp.before.max.ms", any, Rule::AtLeast)
        .with("cleanup.policy", "delete", Rule::AdvisedExactly)
}

fn spec(
    settings: &Settings,
    name: String,
    (kept, kept_rule): (Duration, Rule),
    bytes: u64,
) -> TopicSpec {
    let topics = &settings.topics;
    let isr = (topics.replication - 1).max(1);
    let spec = TopicSpec {
        name,
        partitions: topics.event_partitions,
        partitions_rule: Rule::AtLeast,
        replication: topics.replication,
        configs: Vec::new(),
    };
    spec.with("retention.ms", millis(kept), kept_rule)
        .with("max.message.bytes", bytes.to_string(), Rule::AtLeast)
        .with("min.insync.replicas", isr.to_string(), Rule::Advised)
}

impl TopicSpec {
    fn with(mut self, key: &'static str, value: impl Into<String>, rule: Rule) -> Self {
        self.configs.push((key, value.into(), rule));
        self
    }

    /// The same for a topic that has so many replicas, whatever the settings say of new ones: with three, one
    /// in sync is not enough for a record to outlive a broker.
    fn on_replicas(&self, replicas: usize) -> Self {
        let mut spec = self.clone();
        let in_sync = |config: &&mut (&str, String, Rule)| config.0 == "min.insync.replicas";
        if replicas >= 3
            && let Some(config) = spec.configs.iter_mut().find(in_sync)
            && config.1 == "1"
        {
            "2".clone_into(&mut config.1);
        }
        spec
    }

    /// Partitioned and stamped as raw is.
    fn like_raw(mut self, settings: &Settings) -> Self {
        self.partitions = settings.topics.partitions;
        self.partitions_rule = Rule::Exactly;
        self.with("cleanup.policy", "delete", Rule::Exactly).with(
            "message.timestamp.type",
            "LogAppendTime",
            Rule::Exactly,
        )
    }

    fn by_creation(self, rule: Rule) -> Self {
        self.with("message.timestamp.type", "CreateTime", rule)
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
