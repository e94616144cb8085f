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
            let told = log.lines().filter(|line| line.contains(path)).count();
            assert_eq!(told, 1, "{binary} reports {path} once:\n{log}");
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
