//! Starting: settings and topics are complete, or the process says what is not, and ends with 78.

use serde_json::json;
use sluice_service::EXIT_CONFIG;
use sluice_tests::harness::offsets;
use sluice_tests::harness::topics::with_prefix;

use crate::harness::{bootstrap, site};

const BOTH: [(&str, &str); 2] = [
    ("sluice-ingest", "ingest"),
    ("sluice-processor", "processor"),
];

#[test]
fn six_faults_are_reported_at_once() {
    let mut site = site("start-faults");
    let source = site.sources[0].name.clone();
    site.set(&["kafka", "bootstrap_server"], json!("typo:9092"));
    site.set(&["topics", "partitions"], json!(0));
    site.set(&["processor", "membership"], json!("sticky"));
    site.set(&["ingest", "ack_timeout"], json!("4 seconds"));
    site.set(&["sources", &source, "max_body"], json!("1MB"));
    site.set(&["telemetry", "log_level"], json!("debug"));
    let paths = [
        "kafka.bootstrap_server",
        "topics.partitions",
        "processor.membership",
        "ingest.ack_timeout",
        &format!("sources.{source}.max_body"),
        "telemetry.log_level",
    ];
    for (binary, part) in BOTH {
        let mut service = site.start(binary, part, &site.settings).expect("a process");
        let status = service.wait_end().expect("an end");
        assert_eq!(status.code(), Some(EXIT_CONFIG), "{binary}");
        let log = service.log().expect("a log");
        for path in paths {
            let times = log.lines().filter(|line| line.contains(path)).count();
            assert_eq!(times, 1, "{binary} reports {path} once:\n{log}");
        }
    }
}

#[test]
fn missing_topics_are_listed() {
    let mut site = site("start-missing");
    site.set(&["topics", "create"], json!(false));
    let names = site.names();
    for (binary, part) in BOTH {
        let mut service = site.start(binary, part, &site.settings).expect("a process");
        assert_eq!(
            service.wait_end().expect("an end").code(),
            Some(EXIT_CONFIG),
            "{binary}"
        );
        let log = service.log().expect("a log");
        assert!(log.contains(&names.raw()), "{log}");
        let all = log.contains(&names.dedup_log()) && log.contains(&names.dead_letter());
        assert_eq!(all, binary == "sluice-processor", "{log}");
    }
    assert!(
        with_prefix(&bootstrap(), &names.prefix)
            .expect("topics")
            .is_empty()
    );
}

#[test]
fn a_topic_that_differs_is_named() {
    let mut site = site("start-differs");
    let mut processor = site.processor("p0").expect("a process");
    processor.wait_ready().expect("topics are made");
    processor.stop().expect("an end");
    let raw = site.names().raw();
    offsets::delete_topic(&bootstrap(), &raw).expect("deletion");
    offsets::create_topic(&bootstrap(), &raw, 5, &[("max.message.bytes", "1000")])
        .expect("a topic");
    site.set(&["topics", "create"], json!(false));
    let mut processor = site.processor("p0").expect("a process");
    assert_eq!(
        processor.wait_end().expect("an end").code(),
        Some(EXIT_CONFIG)
    );
    let log = processor.log().expect("a log");
    assert!(log.contains(&raw), "{log}");
    for wrong in ["max.message.bytes", "message.timestamp.type", "partitions"] {
        assert!(log.contains(wrong), "{wrong} in:\n{log}");
    }
}

#[test]
fn topics_of_the_release_before_are_kept_with_a_warning() {
    let mut site = site("start-before");
    // What that release made by its defaults.
    let before = json!({"events": "30d", "dead_letter": "30d"});
    site.set(&["topics", "retention"], before);
    let mut processor = site.processor("p0").expect("a process");
    processor.wait_ready().expect("topics are made");
    processor.stop().expect("an end");
    let kept = |topic: &str| {
        let kept = offsets::topic_setting(&bootstrap(), topic, "retention.ms").expect("settings");
        kept.expect("a setting")
    };
    let source = &site.sources[0];
    let event = source.samples().expect("events")[0];
    let event = source.topic(&site.names(), event).expect("a topic");
    let dead_letter = site.names().dead_letter();
    assert_eq!(kept(&event), (30 * 86_400_000_u64).to_string());

    site.set(&["topics", "retention"], json!({}));
    site.set(&["topics", "create"], json!(false));
    site.set(&["topics", "dead_letter_bytes"], json!("1GiB"));
    for (binary, part) in BOTH {
        let mut service = site.start(binary, part, &site.settings).expect("a process");
        service.wait_ready().expect("the topics are taken");
        let log = service.log().expect("a log");
        let warned = |topic: &str, config: &str| {
            let command = format!("--entity-name {topic} --add-config {config}");
            let mut lines = log.lines();
            lines.any(|line| {
                line.contains("WARN")
                    && line.contains("kafka-configs.sh")
                    && line.contains(&command)
            })
        };
        let is_processor = binary == "sluice-processor";
        for topic in [&event, &dead_letter] {
            let month = format!("retention.ms={}", 28 * 86_400_000_u64);
            assert_eq!(warned(topic, &month), is_processor, "{topic}:\n{log}");
        }
        let bytes = warned(&dead_letter, "retention.bytes=1073741824");
        assert_eq!(bytes, is_processor, "{log}");
        service.stop().expect("an end");
    }
    assert_eq!(kept(&dead_letter), (30 * 86_400_000_u64).to_string());
}
