//! Every property of every Kafka client that ingest makes. The client that creates and verifies topics has
//! the properties that all clients share, and no others.

use std::fmt::Write;

use sluice_ingest::publish::{Use, client_config};
use sluice_service::kafka::client::base_config;

use super::{same_as_golden, settings};

/// Properties that come from files of secrets, and the files' contents.
const SECRETS: [(&str, &str); 2] = [("sasl.password", "s3cret"), ("ssl.key.password", "pa55")];

/// Cases: a name, `kafka.properties`, and further lines of the settings.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("minimal settings", "", ""),
    (
        "other sizes and times",
        "",
        "ingest: {ack_timeout: 3s, max_buffered: 200MiB}\n",
    ),
    (
        "a spool",
        "",
        "ingest: {spool: {dir: /nowhere, wait: 700ms}}\n",
    ),
    (
        "overridden by the operator",
        "compression.type: zstd, linger.ms: '7', socket.nagle.disable: 'false', \
         reconnect.backoff.max.ms: '8000', retry.backoff.max.ms: '900', client.id: ours",
        "",
    ),
    (
        "overridden under their other names",
        "compression.codec: gzip, queue.buffering.max.ms: '9'",
        "",
    ),
    (
        "secrets",
        "security.protocol: SASL_SSL, sasl.mechanism: PLAIN, sasl.username: me",
        "",
    ),
];

#[test]
fn the_properties_of_clients_are_unchanged() {
    let secrets = tempfile::tempdir().unwrap();
    for (property, content) in SECRETS {
        std::fs::write(secrets.path().join(property), content).unwrap();
    }
    let mut text = String::new();
    for (name, properties, more) in SETTINGS {
        let files = if *name == "secrets" {
            SECRETS
                .map(|(name, _)| format!("{name}: {name}"))
                .join(", ")
        } else {
            String::new()
        };
        let settings = settings(&format!(
            "kafka: {{bootstrap_servers: 'k1:9092,k2:9092', properties: {{{properties}}}, \
             secret_properties: {{{files}}}}}\nsecrets_dir: {}\n\
             sources: {{site: {{provider: flowcode, secrets: [x], max_body: 3MiB}}}}\n{more}",
            secrets.path().display()
        ));
        for (client, config) in [
            ("requests", client_config(&settings, Use::Live)),
            ("drain", client_config(&settings, Use::Drain)),
            ("topics", base_config(&settings)),
        ] {
            let config = config.unwrap();
            let mut pairs: Vec<_> = config.config_map().into_iter().collect();
            pairs.sort_unstable();
            writeln!(text, "== {name}: the client for {client}").unwrap();
            for (property, value) in pairs {
                let secret = SECRETS.iter().find(|(name, _)| *name == property);
                let value = secret.map_or(value, |(_, content)| {
                    assert_eq!(config.get(property), Some(*content), "{property}");
                    "***"
                });
                writeln!(text, "{property}={value}").unwrap();
            }
            text.push('\n');
        }
    }
    same_as_golden("clients.txt", &text);
}
