//! Every property of every client of Kafka.

use std::fmt::Write as _;
use std::path::Path;

use rdkafka::ClientConfig;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::statistics::ClientStatistics;

use super::golden::compare;
use crate::kafka::cluster::Cluster;
use crate::kafka::watchdog::Calls;
use crate::kafka::{consumer, lag, producer, reader};

/// Words in the names of properties whose values are never written down.
const SECRET: [&str; 4] = ["password", "passphrase", "secret", "key.pem"];

/// Every property that may be set, after the smallest settings.
const SETTINGS: [(&str, &str); 4] = [
    (
        "smallest",
        "{kafka: {bootstrap_servers: 'localhost:9092'}, processor: {member: m-0}, SOURCES}",
    ),
    (
        "static membership, a prefix, a second worker, large bodies",
        "{kafka: {bootstrap_servers: 'a:1,b:2'}, topics: {prefix: 'eu.'}, \
         processor: {member: m-0, group: g, membership: static}, LARGE}",
    ),
    (
        "properties of the settings, those that each client chooses too",
        "{kafka: {bootstrap_servers: 'localhost:9092', properties: {client.id: mine, \
         client.rack: here, session.timeout.ms: 20000, heartbeat.interval.ms: 5000, \
         fetch.queue.backoff.ms: 20, queued.max.messages.kbytes: 1024, \
         queued.min.messages: 10, fetch.wait.max.ms: 50, retry.backoff.ms: 7, linger.ms: 9, \
         compression.type: zstd, metadata.max.age.ms: 60000, \
         topic.metadata.refresh.interval.ms: 60000, topic.metadata.propagation.max.ms: 100}}, \
         processor: {member: m-0}, SOURCES}",
    ),
    (
        "a password in a file",
        "{kafka: {bootstrap_servers: 'localhost:9092', properties: {security.protocol: SASL_SSL, \
         sasl.mechanism: PLAIN, sasl.username: sluice}, secret_properties: {sasl.password: \
         password}}, secrets_dir: 'DIR', processor: {member: m-0}, SOURCES}",
    ),
];

fn settings(dir: &Path, text: &str) -> Settings {
    let text = text
        .replace("DIR", &dir.display().to_string())
        .replace("SOURCES", "sources: {s: {provider: flock, secrets: [s]}}")
        .replace(
            "LARGE",
            "sources: {s: {provider: flock, secrets: [s], max_body: 3MiB}}",
        );
    let file = dir.join("settings.yaml");
    std::fs::write(&file, text).expect("the settings");
    sluice_service::settings::load(&file).expect("settings without faults")
}

fn show(text: &mut String, client: &str, config: &ClientConfig) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n[{client}]");
    for (property, value) in config.config_map() {
        let secret = SECRET.iter().any(|word| property.contains(word));
        let value = if secret { "***" } else { value };
        let _ = writeln!(text, "{property} = {value}");
    }
}

#[test]
fn every_property_of_every_client_is_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("password"), "not to be seen").expect("a secret");
    let (calls, statistics) = (Calls::default(), ClientStatistics::default());
    let mut text = String::new();
    for (number, (what, yaml)) in SETTINGS.into_iter().enumerate() {
        let settings = settings(dir.path(), yaml);
        let base = base_config(&settings).expect("properties without faults");
        let cluster = Cluster {
            settings: &settings,
            base: &base,
            worker: u32::from(number == 1),
            calls: &calls,
            statistics: &statistics,
            reads_for: "reader",
        };
        let _ = writeln!(text, "{}== {what}", if number == 0 { "" } else { "\n" });
        show(&mut text, "consumer of raw", &consumer::config(&cluster));
        show(
            &mut text,
            "transactional producer",
            &producer::config(&cluster),
        );
        for isolation in ["read_committed", "read_uncommitted"] {
            let client = format!("restore and look, {isolation}");
            show(
                &mut text,
                &client,
                &reader::config::config(&cluster, isolation),
            );
        }
        show(&mut text, "lag", &lag::config(&settings, &base));
        // Topics are made and verified with these alone.
        show(&mut text, "admin", &base);
    }
    assert!(!text.contains("not to be seen"));
    compare("kafka-clients.txt", &text);
}
