//! The reader against a broker of librdkafka's own, which knows no times.

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn topics(servers: &str) -> Topics {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.yaml");
    let text = format!(
        "kafka: {{bootstrap_servers: '{servers}'}}\nsources: {{s: {{provider: flock, secrets: [a]}}}}\n"
    );
    std::fs::write(&file, text).expect("the settings");
    let settings = sluice_service::settings::load(&file).expect("settings without faults");
    Topics::new(&settings).expect("a client")
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn topics_are_read_to_the_ends_that_they_had_and_missing_ones_are_named() {
    let broker = MockCluster::new(1).expect("a broker");
    for (topic, partitions) in [("a", 2), ("empty", 1), ("b", 1)] {
        broker.create_topic(topic, partitions, 1).expect("a topic");
    }
    let servers = broker.bootstrap_servers();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &servers);
    let producer: BaseProducer = config.create().expect("a producer");
    let send = |topic: &str, partition, value: &str| {
        let record = BaseRecord::<str, str>::to(topic).partition(partition);
        producer.send(record.payload(value)).expect("a queue");
        producer.flush(Duration::from_secs(30)).expect("delivery");
    };
    for (topic, partition, value) in [("a", 0, "1"), ("a", 1, "2"), ("a", 1, "3"), ("b", 0, "4")] {
        send(topic, partition, value);
    }
    let topics = topics(&servers);
    let names = named(&["a", "empty", "gone", "b"]);
    let opened = topics.open(&names, None).expect("ranges");
    let ends = opened.ranges.iter();
    let ends: Vec<_> = ends
        .map(|range| (range.topic.as_str(), range.partition, range.from, range.end))
        .collect();
    assert_eq!(
        ends,
        [
            ("a", 0, 0, 1),
            ("a", 1, 0, 2),
            ("empty", 0, 0, 0),
            ("b", 0, 0, 1)
        ]
    );
    assert_eq!(opened.lacking.len(), 1);
    assert!(
        opened.lacking[0].contains("topic gone is missing"),
        "{:?}",
        opened.lacking
    );
    // What came after the question is not of it.
    send("a", 0, "late");
    let mut values = Vec::new();
    let mut each = |record: Record| values.push(String::from_utf8(record.value).expect("text"));
    topics.read(&opened.ranges, &mut each).expect("all of it");
    values.sort_unstable();
    assert_eq!(values, ["1", "2", "3", "4"]);

    // Who follows begins there, and ends when it has enough.
    let mut followed = Vec::new();
    let ranges = opened.ranges.into_iter();
    let from_ends: Vec<Range> = ranges
        .map(|range| Range {
            from: range.end,
            ..range
        })
        .collect();
    let stop = AtomicBool::new(false);
    self::topics(&servers)
        .follow(&from_ends, &stop, &mut |record| {
            followed.push(record.value);
            false
        })
        .expect("the late one");
    assert_eq!(followed, [b"late"]);
    stop.store(true, Ordering::Relaxed);
    let never = &mut |_: Record| panic!("it was stopped");
    let stopped = self::topics(&servers).follow(&from_ends, &stop, never);
    stopped.expect("an end");
}

#[test]
fn brokers_that_are_away_are_named_and_worth_another_try() {
    let topics = topics("127.0.0.1:1");
    let failure = topics
        .open(&named(&["a"]), None)
        .expect_err("nobody is there");
    let Failure::TryAgain(line) = failure else {
        panic!("{failure:?}");
    };
    assert!(line.contains("127.0.0.1:1"), "{line}");
}

#[test]
fn brokers_that_go_away_in_the_middle_end_the_read_with_what_was_read() {
    let broker = MockCluster::new(1).expect("a broker");
    broker.create_topic("a", 1, 1).expect("a topic");
    let topics = topics(&broker.bootstrap_servers());
    let mut opened = topics.open(&named(&["a"]), None).expect("ranges");
    drop(broker);
    opened.ranges[0].end = 5;
    let read = topics.read(&opened.ranges, &mut |_| ());
    let failure = read.expect_err("nobody is there");
    let Failure::TryAgain(line) = failure else {
        panic!("{failure:?}");
    };
    assert!(
        line.contains("0 records were read, and 0 of 1 topics"),
        "{line}"
    );
}

#[test]
fn what_was_read_before_the_brokers_went_is_said() {
    let topics = topics("127.0.0.1:1");
    topics.count.set(7);
    let failure = topics.so_far(Failure::TryAgain("away".to_owned()), (2, 5));
    let Failure::TryAgain(line) = failure else {
        panic!("{failure:?}");
    };
    assert!(
        line.starts_with("away; 7 records were read, and 2 of 5 topics"),
        "{line}"
    );
    let other = topics.so_far(Failure::Failed("refused".to_owned()), (2, 5));
    assert!(matches!(other, Failure::Failed(line) if line == "refused"));
}
