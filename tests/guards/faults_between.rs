//! Faults of the settings that no single key shows, and those of the secret files.

use std::fmt::Write as _;
use std::path::Path;

use sluice_service::secrets::Store;

use crate::faults::{load, shown};
use crate::golden::compare;

/// What no single key shows: the file itself, names, properties, and what must hold between keys.
const TABLE: [&str; 50] = [
    "",
    "[]",
    "x",
    "{",
    "a: 1\na: 2",
    "KAFKA",
    "KAFKA\nsources: {}",
    "KAFKA\nsources: {unknown: {provider: flock, secrets: [f]}}",
    "KAFKA\nsources: {Upper: {provider: flock, secrets: [f]}}",
    "KAFKA\nsources: {a_b: {provider: flock, secrets: [f]}}",
    "KAFKA\nsources: {s: {}}",
    "KAFKA\nsources: {s: {provider: nobody, options: {x: 1}}}",
    "KAFKA\nsources: {s: {provider: flock}}",
    "KAFKA\nsources: {s: {provider: referralloop}}",
    "KAFKA\nsources: {s: {provider: referralloop, options: {signature: 'off'}}}",
    "KAFKA\nsources: {s: {provider: referralloop, options: {signature: required}}}",
    "KAFKA\nsources: {s: {provider: flockler, secrets: [f]}}",
    "KAFKA\nsources: {s: {provider: flockler, secrets: [f], options: {webhook_urls: ['']}}}",
    "KAFKA\nsources: {s: {provider: flockler, secrets: [f], options: {webhook_urls: ['https://h/v1/hooks/s/t']}}}",
    "KAFKA\nsources: {s: {provider: flockler, secrets: [f], options: {webhook_urls: ['https://h/'], environments: [moon]}}}",
    "KAFKA\nsources: {s: {provider: flockler, secrets: [f], options: {webhook_url_files: ['../f']}}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], token: t, tokens: [t]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f, f]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: ['a/b', '..', '']}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [{}, {name: 1}, {name: f, not_before: x, not_after: 1, key_id: '', y: z}]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f, {name: g, key_id: f}, {name: f, key_id: h}]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [{name: f, not_before: 2026-03-02T00:00:00Z, not_after: 2026-03-01T00:00:00Z}]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], token_sha256: [e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], require_headers: {'a b': []}}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], events: [a.b, a_b, a-b, other]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], events: ['a b', '']}}",
    "KAFKA\nsources: {a: {provider: flock, secrets: [f], events: [x_y]}, b: {provider: flock, secrets: [f], events: [x-y]}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], dedup_window: 2h}}\nprocessor: {dedup_window: 1h}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], client_ca_file: ca}}",
    "KAFKA\nsources: {s: {provider: flock, secrets: [f], max_body: 64MiB}}",
    "KAFKA\nFLOCK\nschema_registry: {username: u}",
    "KAFKA\nFLOCK\nschema_registry: {password_file: f}",
    "KAFKA\nFLOCK\ningest: {tls: {cert_file: c}}",
    "KAFKA\nFLOCK\ningest: {tls: {key_file: c}}",
    "KAFKA\nFLOCK\ningest: {peer: {from: forwarded_for}, limits: {peer_connections: 1}}",
    "KAFKA\nFLOCK\ningest: {ack_timeout: 500ms, spool: {dir: /s, wait: 501ms}}",
    "KAFKA\nFLOCK\ningest: {spool: {dir: relative}}",
    "KAFKA\nFLOCK\nprocessor: {dedup_window: 24h}\ningest: {spool: {dir: /s, max_age: 25h}}",
    "KAFKA\nFLOCK\ningest: {spool: {max_age: 71h}}",
    "KAFKA\nFLOCK\nprocessor: {member: ''}",
    "kafka: {bootstrap_servers: b, properties: {x: 1}}\nFLOCK",
    "kafka: {bootstrap_servers: b, properties: {session.timeout.ms: abc}}\nFLOCK",
    "kafka: {bootstrap_servers: b, properties: {sasl.username: [u]}}\nFLOCK",
    "kafka: {bootstrap_servers: b, properties: {sasl.mechanism: PLAIN}, secret_properties: {sasl.mechanism: f}}\nFLOCK",
    "kafka: {bootstrap_servers: b, secret_properties: {sasl.password: '../f', x: f}}\nFLOCK",
];

/// Properties that Sluice sets itself, secrets, and some that a person may set.
const PROPERTIES: [&str; 52] = [
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "transaction.timeout.ms",
    "transactional.id",
    "test.mock.num.brokers",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "client.id",
    "client.rack",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "linger.ms",
    "compression.type",
    "fetch.wait.max.ms",
    "queued.min.messages",
    "security.protocol",
    "ssl.ca.location",
    "sasl.username",
];

fn table(dir: &Path) -> String {
    let mut text = String::new();
    let yaml = |text: &str| {
        text.replace("KAFKA", "kafka: {bootstrap_servers: b}")
            .replace("FLOCK", "sources: {s: {provider: flock, secrets: [f]}}")
    };
    // Writing to a String cannot fail.
    for one in TABLE {
        let found = load(dir, yaml(one).as_bytes());
        let _ = writeln!(text, "{} -> {found}", one.replace('\n', "; "));
    }
    for property in PROPERTIES {
        let ways = ["properties", "secret_properties"].map(|way| {
            let kafka =
                format!("kafka: {{bootstrap_servers: b, {way}: {{{property}: '1'}}}}\nFLOCK");
            load(dir, yaml(&kafka).as_bytes())
        });
        let _ = writeln!(
            text,
            "{property} -> {}; as a secret -> {}",
            ways[0], ways[1]
        );
    }
    let large = vec![b' '; (4 << 20) + 1];
    let _ = writeln!(text, "(not UTF-8) -> {}", load(dir, b"\xff"));
    let _ = writeln!(text, "(over 4 MiB) -> {}", load(dir, &large));
    let missing = sluice_service::settings::load(&dir.join("missing")).expect_err("no file");
    let _ = writeln!(text, "(no file) -> {}", shown(&missing, dir));
    text
}

/// What the secret files hold, by provider.
fn secrets(dir: &Path) -> String {
    let contents: [(&str, Option<Vec<u8>>); 9] = [
        ("missing", None),
        ("empty", Some(Vec::new())),
        ("a line end", Some(b"\n".to_vec())),
        ("text", Some(b"a secret".to_vec())),
        ("not UTF-8", Some(b"\xff\xfe".to_vec())),
        (
            "whsec_ and base64",
            Some(b"whsec_BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec()),
        ),
        ("whsec_ and none", Some(b"whsec_!".to_vec())),
        ("64 KiB", Some(b"ky".repeat(32 << 10))),
        ("over 64 KiB", Some(vec![b'k'; (64 << 10) + 1])),
    ];
    let providers = [
        "flock, secrets: [f]",
        "referralloop, secrets: [f], options: {signature: required}",
        "flowcode, secrets: [f]",
        "flockler, secrets: [f], options: {webhook_urls: ['http://h/']}",
    ];
    let (mut text, secret) = (String::new(), dir.join("f"));
    for provider in providers {
        for (what, content) in &contents {
            let _ = std::fs::remove_file(&secret);
            if let Some(content) = content {
                std::fs::write(&secret, content).expect("a secret");
            }
            let settings = format!(
                "{{kafka: {{bootstrap_servers: b}}, secrets_dir: '{}', sources: {{s: {{provider: {provider}}}}}}}",
                dir.display()
            );
            let file = dir.join("settings.yaml");
            std::fs::write(&file, settings).expect("the settings");
            let settings =
                sluice_service::settings::load(&file).unwrap_or_else(|faults| panic!("{faults:?}"));
            let found = match Store::load(&settings) {
                Ok(_) => "ok".to_owned(),
                Err(faults) => shown(&faults, dir),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{provider}: {what} -> {found}");
        }
    }
    text
}

#[test]
fn every_fault_between_keys_is_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    compare("settings-faults-between.txt", &table(dir.path()));
}

#[test]
fn every_fault_of_a_secret_is_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    compare("secrets-faults.txt", &secrets(dir.path()));
}
