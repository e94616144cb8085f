//! What a settings file may say, and every fault that it may have.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

mod ingest;

mod source;

const MINIMAL: &str = "
kafka: {bootstrap_servers: 'localhost:9092'}
sources: {flock-prod: {provider: flock, secrets: [flock-prod]}}
";

/// SHA-256 of `s3cret-token`.
const TOKEN: &str = "8d47d2dbfd73ba86e0ce9e4eb9dff5abcc5b2d5ffaa2a7b1b3b5b1ddc1a5c0aa";

fn load(yaml: &str) -> Result<Settings, Vec<Fault>> {
    // Under a name of its own, for tests run side by side.
    let path = std::env::temp_dir().join(format!("sluice-settings-{}.yaml", uuid()));
    let mut file = std::fs::File::create(&path).expect("a temporary file");
    file.write_all(yaml.as_bytes()).expect("a temporary file");
    let settings = crate::settings::load(&path);
    std::fs::remove_file(path).expect("it was there");
    settings
}

fn uuid() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}-{next}", std::process::id())
}

fn paths(yaml: &str) -> Vec<String> {
    let faults = load(yaml).expect_err("it has faults");
    faults.into_iter().map(|fault| fault.path).collect()
}

#[test]
fn the_documented_sample_loads_and_shows_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.yaml");
    let sample = crate::settings::load(path.as_ref()).expect("the documented sample");
    let minimal = load(MINIMAL).expect("two settings are enough");
    for (shown, default) in [
        (
            format!("{:?}", sample.kafka),
            format!("{:?}", minimal.kafka),
        ),
        (
            format!("{:?}", sample.topics),
            format!("{:?}", minimal.topics),
        ),
        (
            format!("{:?}", sample.schema_registry),
            format!("{:?}", minimal.schema_registry),
        ),
        (
            format!("{:?}", sample.secrets_dir),
            format!("{:?}", minimal.secrets_dir),
        ),
        (
            format!("{:?}", sample.ingest),
            format!("{:?}", minimal.ingest),
        ),
        (
            format!("{:?}", sample.processor),
            format!("{:?}", minimal.processor),
        ),
        (
            format!("{:?}", sample.telemetry),
            format!("{:?}", minimal.telemetry),
        ),
    ] {
        assert_eq!(shown, default);
    }
    assert_eq!(sample.sources.len(), 4);
    assert_eq!(sample.sources["codes"].max_body, 2 << 20);
    assert_eq!(sample.sources["waitlist"].max_body, 1 << 20);
    assert_eq!(
        sample.sources["flock-prod"].dedup_window,
        Duration::from_secs(72 * 3_600)
    );
    assert!(sample.sources["site"].enabled);
}

#[test]
fn derived_values_follow_from_the_settings() {
    let yaml = format!(
        "
kafka: {{bootstrap_servers: b}}
topics: {{prefix: 'eu.'}}
processor: {{member: m-0, group: g}}
sources:
  codes: {{provider: flowcode, secrets: [a], events: [scan_more.created], dedup_window: 28h}}
  list: {{provider: referralloop, token_sha256: ['{TOKEN}'], dedup_window: 29h, enabled: false}}
"
    );
    let settings = load(&yaml).expect("good settings");
    assert_eq!(settings.raw_max_message_bytes(), (2 << 20) + (256 << 10));
    assert_eq!(settings.output_max_message_bytes(), (2 << 20) + (320 << 10));
    assert_eq!(settings.longest_window(), Duration::from_secs(29 * 3_600));
    assert_eq!(settings.group_id(), "eu.g");
    assert_eq!(settings.transactional_id(3), "eu.g.m-0.3");
    let topics = settings.event_topics();
    for topic in [
        "eu.events.flowcode.other",
        "eu.events.flowcode.scan-more.created",
        "eu.events.referralloop.other",
        "eu.events.referralloop.signup.created",
    ] {
        assert!(topics.contains(topic), "{topic} in {topics:?}");
    }
}

#[test]
fn keys_are_placed_over_all_partitions_unless_the_settings_say_fewer() {
    let topics = |topics: &str| {
        let yaml = format!("{MINIMAL}topics: {{{topics}}}\n");
        load(&yaml).map(|settings| (settings.topics.partitions, settings.topics.key_partitions))
    };
    assert_eq!(topics(""), Ok((12, 12)));
    assert_eq!(topics("partitions: 13"), Ok((13, 13)));
    assert_eq!(topics("partitions: 13, key_partitions: null"), Ok((13, 13)));
    assert_eq!(topics("partitions: 13, key_partitions: 12"), Ok((13, 12)));
    assert_eq!(topics("partitions: 13, key_partitions: 1"), Ok((13, 1)));
    for wrong in [
        "key_partitions: 0",
        "partitions: 3, key_partitions: 4",
        "key_partitions: 13",
    ] {
        let faults = topics(wrong).expect_err(wrong);
        assert_eq!(faults[0].path, "topics.key_partitions", "{wrong}");
    }
}

#[test]
fn all_faults_are_returned_at_once() {
    let faults = paths(
        "
kafka: {bootstrap_servers: b, properties: {sasl.password: hunter2}}
topics: {partitions: 0}
sources:
  unknown: {provider: flowcode, secrets: [a]}
  codes: {provider: flowcode, secrets: [a], max_body: 1MB}
ingest: {ack_timeout: 4 seconds}
telemtry: {}
",
    );
    assert_eq!(
        faults,
        [
            "kafka.properties.sasl.password",
            "topics.partitions",
            "sources.codes.max_body",
            "sources.unknown",
            "ingest.ack_timeout",
            "telemtry",
        ]
    );
}

#[test]
fn an_empty_file_lacks_servers_and_a_source() {
    assert_eq!(paths(""), ["kafka.bootstrap_servers", "sources"]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let faults = crate::settings::load("/nonexistent/sluice.yaml".as_ref()).expect_err("no file");
    assert_eq!(faults[0].path, "/nonexistent/sluice.yaml");
    for bad in ["a: b: c", "kafka: {", "a: 1\na: 2\n", "- 1\n- 2\n", "\u{0}"] {
        assert_eq!(load(bad).expect_err(bad).len(), 1, "{bad:?}");
    }
    let twice = "kafka: {bootstrap_servers: b}\nkafka: {bootstrap_servers: swordfish}\n";
    let faults = load(twice).expect_err("a key stands twice");
    assert!(faults[0].message.contains("kafka"), "{faults:?}");
    assert!(!faults[0].message.contains("swordfish"), "{faults:?}");
}

#[test]
fn kafka_properties_that_are_secret_owned_or_unknown_are_faults() {
    for (property, value, word) in [
        ("sasl.password", "x", "secret"),
        ("ssl.key.password", "x", "secret"),
        ("ssl.keystore.password", "x", "secret"),
        ("ssl.key.pem", "x", "secret"),
        ("sasl.oauthbearer.client.secret", "x", "secret"),
        ("acks", "1", "itself"),
        ("enable.idempotence", "false", "itself"),
        ("transactional.id", "t", "itself"),
        ("group.id", "g", "itself"),
        ("isolation.level", "read_uncommitted", "itself"),
        ("auto.offset.reset", "latest", "itself"),
        ("enable.auto.commit", "true", "itself"),
        ("partitioner", "random", "itself"),
        ("bootstrap.servers", "x", "itself"),
        ("test.mock.num.brokers", "3", "itself"),
        ("no.such.property", "x", "not a property"),
        ("security.protocol", "carrier-pigeon", "value"),
    ] {
        let yaml = MINIMAL.replace(
            "9092'}",
            &format!("9092', properties: {{{property}: '{value}'}}}}"),
        );
        let faults = load(&yaml).expect_err(property);
        assert_eq!(faults.len(), 1, "{property}: {faults:?}");
        assert_eq!(faults[0].path, format!("kafka.properties.{property}"));
        assert!(faults[0].message.contains(word), "{faults:?}");
    }
    let fine = MINIMAL.replace(
        "9092'}",
        "9092', properties: {security.protocol: sasl_ssl, socket.keepalive.enable: true, \
         socket.timeout.ms: 5000}, secret_properties: {sasl.password: kafka-password}}",
    );
    let kafka = load(&fine).expect("good properties").kafka;
    assert!(
        kafka
            .properties
            .contains(&("socket.timeout.ms".into(), "5000".into()))
    );
    let outside = MINIMAL.replace(
        "9092'}",
        "9092', secret_properties: {sasl.password: ../x, acks: y}}",
    );
    assert_eq!(
        paths(&outside),
        [
            "kafka.secret_properties.acks",
            "kafka.secret_properties.sasl.password"
        ]
    );
}

#[test]
fn bounds_that_span_sections() {
    let small = format!("{MINIMAL}ingest: {{max_buffered: 64KiB}}");
    assert_eq!(paths(&small), ["ingest.max_buffered"]);
    let registry = format!("{MINIMAL}schema_registry: {{url: 'https://u:p@r/', username: u}}");
    assert_eq!(
        paths(&registry),
        ["schema_registry.url", "schema_registry.password_file"]
    );
    let good = format!(
        "{MINIMAL}secrets_dir: /s\nschema_registry: {{url: 'http://r/v7/', username: u, password_file: p}}"
    );
    let registry = load(&good)
        .expect("a good registry")
        .schema_registry
        .expect("it is set");
    assert_eq!(registry.url, "http://r/v7");
    assert_eq!(registry.password_file, Some("/s/p".into()));
}

#[test]
fn the_topics_are_specified_by_the_settings() {
    use crate::kafka::topics::{Rule, wanted};
    let settings = load(MINIMAL).expect("good settings");
    let specs = wanted(&settings);
    let find = |name: &str, key: &str| {
        let spec = specs.iter().find(|spec| spec.name == name)?;
        let config = spec.configs.iter().find(|(found, _, _)| *found == key)?;
        Some((config.1.clone(), config.2))
    };
    let exactly = |value: &str| Some((value.to_owned(), Rule::Exactly));
    let at_least = |value: String| Some((value, Rule::AtLeast));
    assert_eq!(specs[0].name, "webhooks.raw");
    for name in ["webhooks.raw", "webhooks.dedup-log"] {
        assert_eq!(find(name, "cleanup.policy"), exactly("delete"));
        assert_eq!(
            find(name, "message.timestamp.type"),
            exactly("LogAppendTime")
        );
        let spec = specs
            .iter()
            .find(|spec| spec.name == name)
            .expect("it is wanted");
        assert_eq!((spec.partitions, spec.partitions_rule), (12, Rule::Exactly));
    }
    let (day, hour) = (86_400_000_u64, 3_600_000_u64);
    // What lives longer than raw's retention by a whole segment would outlive the identities.
    assert_eq!(
        find("webhooks.raw", "segment.ms"),
        Some(((6 * hour).to_string(), Rule::AdvisedExactly))
    );
    assert_eq!(
        find("webhooks.dedup-log", "segment.ms"),
        exactly(&(6 * hour).to_string())
    );
    assert_eq!(
        find("webhooks.dedup-log", "retention.ms"),
        at_least((7 * day + 72 * hour + 12 * hour).to_string())
    );
    assert_eq!(
        find("webhooks.rejected", "retention.bytes"),
        exactly("1073741824")
    );
    let event = "events.flock.other";
    assert_eq!(find(event, "message.timestamp.type"), exactly("CreateTime"));
    let any = at_least(i64::MAX.to_string());
    assert_eq!(find(event, "message.timestamp.after.max.ms"), any);
    assert_eq!(find(event, "message.timestamp.before.max.ms"), any);
    assert_eq!(
        find(event, "max.message.bytes"),
        at_least(((1 << 20) + (320 << 10)).to_string())
    );
    assert_eq!(
        find("webhooks.raw", "min.insync.replicas"),
        Some(("2".to_owned(), Rule::Advised))
    );
}

#[test]
fn a_spool_has_a_folder_and_bounds() {
    assert!(load(MINIMAL).expect("it loads").ingest.spool.is_none());
    let spool = |spool: &str| format!("{MINIMAL}ingest: {{spool: {{{spool}}}}}");
    let settings = load(&spool("dir: /var/spool")).expect("it loads");
    let found = settings.ingest.spool.expect("a spool");
    assert_eq!(found.max_bytes, 1 << 30);
    assert_eq!(found.max_age, Duration::from_secs(24 * 3600));
    assert_eq!(found.wait, Duration::from_secs(1));
    for (text, path) in [
        ("dir: here", "dir"),
        ("dir: /d, max_bytes: 1MiB", "max_bytes"),
        ("dir: /d, wait: 5s", "wait"),
        ("dir: /d, wait: 10ms", "wait"),
        ("dir: /d, drain_rate: 0", "drain_rate"),
    ] {
        assert_eq!(
            paths(&spool(text)),
            [format!("ingest.spool.{path}")],
            "{text}"
        );
    }
}

#[test]
fn a_window_covers_the_retries_of_its_provider_and_the_spool() {
    let with = |window: &str, spool: &str| {
        let source = format!("{{provider: flowcode, secrets: [c], {window}}}");
        let kafka = "kafka: {bootstrap_servers: b}";
        format!("{kafka}\nsources: {{c: {source}}}\ningest: {{spool: {{{spool}}}}}")
    };
    // Flowcode retries for 28 hours.
    assert!(load(&with("dedup_window: 28h", "max_age: 24h")).is_ok());
    let found = load(&with("dedup_window: 27h", "")).expect_err("too short");
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let short =
        "sources.c.dedup_window: must be at least 28h, and is 27h: flowcode retries for 28h";
    assert_eq!(found, [short]);
    assert!(load(&with("enabled: false, dedup_window: 1h", "")).is_ok());
    // With 44 hours on a spool they fill the window of 72, with one more not.
    assert!(load(&with("", "dir: /d, max_age: 44h")).is_ok());
    let found = load(&with("", "dir: /d, max_age: 45h")).expect_err("too short");
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let short = "sources.c.dedup_window: must be at least 73h, and is 72h: flowcode retries for 28h, \
                 and a record may stay on the spool for 45h (ingest.spool.max_age)";
    assert_eq!(found, [short]);
}
