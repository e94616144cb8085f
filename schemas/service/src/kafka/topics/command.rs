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
