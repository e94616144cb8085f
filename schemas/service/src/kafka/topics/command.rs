//! The commands of Kafka's own tools that mend a topic.

use sluice_schemas::settings::Settings;

/// A tool of Kafka's, with what it needs to reach the brokers.
pub fn tool(settings: &Settings, script: &str) -> String {
    let servers = &settings.kafka.bootstrap_servers;
    let mut properties = settings.kafka.properties.iter();
    let is_secured = |(name, value): &(String, String)| {
        name == "security.protocol" && !value.eq_ignore_ascii_case("plaintext")
    };
    let credentials = if properties.any(is_secured) {
        " --command-config client.properties"
    } else {
        ""
    };
    format!("{script} --bootstrap-server {servers}{credentials}")
}

/// Kafka's tool for the settings of topics.
pub fn configs_tool(settings: &Settings) -> String {
    tool(settings, "kafka-configs.sh")
}

/// The command by which [`configs_tool`] gives a topic these settings.
pub fn alteration<'c>(
    tool: &str,
    name: &str,
    configs: impl Iterator<Item = (&'c str, &'c str)>,
) -> String {
    let configs: Vec<String> = configs
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!(
        "{tool} --alter --entity-type topics --entity-name {name} --add-config {}",
        configs.join(",")
    )
}

/// How another number of partitions than a topic must have is mended.
#[derive(Debug, Clone)]
pub struct Growth {
    tool: String,
    raw: String,
    dedup_log: String,
    key_partitions: usize,
}

impl Growth {
    /// Under these settings.
    pub fn new(settings: &Settings) -> Self {
        let topics = &settings.topics;
        Self {
            tool: tool(settings, "kafka-topics.sh"),
            raw: topics.names.raw(),
            dedup_log: topics.names.dedup_log(),
            key_partitions: usize::try_from(topics.key_partitions).unwrap_or_default(),
        }
    }

    /// What to do about a topic that must have `wanted` partitions. No command adds some to raw: whether keys
    /// stay where they are is a matter of the settings. The dedup-log has as many as raw, and places no keys.
    pub fn mend(&self, (name, wanted): (&str, i32), has: usize) -> String {
        let lacks = usize::try_from(wanted).is_ok_and(|wanted| has < wanted);
        if name == self.raw || (name == self.dedup_log && !lacks) {
            return format!(
                "set topics.partitions to {has} and topics.key_partitions to {}: see \"More partitions\" in \
                 docs/operating.md",
                self.key_partitions.min(has)
            );
        }
        format!("{} --alter --topic {name} --partitions {wanted}", self.tool)
    }
}
