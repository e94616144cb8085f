use super::*;

/// A report of a client with one connection of each kind.
fn report(kind: &str, errors: u64) -> Report {
    let window = |p99, max| Some(Window { p99, max, cnt: 1 });
    let broker = |nodeid, source: &str| Broker {
        nodeid,
        source: source.to_owned(),
        txerrs: errors,
        rxerrs: 1,
        req_timeouts: 1,
        rtt: window(1_500, 9_000),
        throttle: window(100, 250),
    };
    let mut report = Report {
        client_type: kind.to_owned(),
        msg_cnt: 3,
        msg_size: 400,
        ..Report::default()
    };
    report.brokers = HashMap::from([
        ("k1:9092/bootstrap".to_owned(), broker(-1, "configured")),
        ("k1:9092/1".to_owned(), broker(1, "learned")),
        ("GroupCoordinator".to_owned(), broker(1, "logical")),
    ]);
    let partition = |fetchq_cnt| Partition { fetchq_cnt };
    let topic = Topic {
        partitions: HashMap::from([(0, partition(5)), (1, partition(6)), (-1, partition(0))]),
    };
    report.topics = HashMap::from([("webhooks.raw".to_owned(), topic)]);
    report
}

/// Gives a client a report.
fn give(client: &Statistics, report: &Report) {
    client.0.as_ref().expect("it reports").take(report);
}

/// The samples of the metrics, sorted.
fn samples(registry: &Registry) -> Vec<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("a String takes all");
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.trim_start_matches("sluice_kafka_").to_owned())
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_report_becomes_metrics_of_real_brokers_alone() {
    let mut registry = Registry::default();
    let all = ClientStatistics::new(&mut registry);
    let (consumer, producer) = (all.of("consumer-0"), all.of("producer-0"));
    give(&consumer, &report("consumer", 0));
    give(&producer, &report("producer", 5));
    assert_eq!(
        samples(&registry),
        [
            r#"errors_total{client="consumer-0",broker="1"} 2"#,
            r#"errors_total{client="producer-0",broker="1"} 7"#,
            r#"fetched_records{client="consumer-0"} 11"#,
            r#"queue_bytes{client="producer-0"} 400"#,
            r#"queue_records{client="producer-0"} 3"#,
            r#"round_trip_seconds{client="consumer-0",broker="1"} 0.0015"#,
            r#"round_trip_seconds{client="producer-0",broker="1"} 0.0015"#,
            r#"throttle_seconds{client="consumer-0",broker="1"} 0.25"#,
            r#"throttle_seconds{client="producer-0",broker="1"} 0.25"#,
        ]
    );
}

#[test]
fn errors_never_fall_and_what_is_measured_goes_with_its_client() {
    let mut registry = Registry::default();
    let all = ClientStatistics::new(&mut registry);
    let errors = |registry: &Registry| samples(registry)[0].clone();
    let old = all.of("producer-0");
    give(&old, &report("producer", 5));
    give(&old, &report("producer", 6));
    assert_eq!(
        errors(&registry),
        r#"errors_total{client="producer-0",broker="1"} 8"#
    );
    // A new client of the name counts from 0, and the old one closes while it is at work.
    let new = all.of("producer-0");
    give(&new, &report("producer", 1));
    let mut late = report("producer", 7);
    late.msg_cnt = 9;
    give(&old, &late);
    drop(old);
    assert_eq!(
        errors(&registry),
        r#"errors_total{client="producer-0",broker="1"} 12"#
    );
    assert!(samples(&registry).contains(&r#"queue_records{client="producer-0"} 3"#.to_owned()));
    drop(new);
    assert_eq!(samples(&registry).len(), 1, "the errors alone stay");
}

#[test]
fn a_broker_that_is_gone_or_idle_leaves_no_false_measure() {
    let mut registry = Registry::default();
    let all = ClientStatistics::new(&mut registry);
    let client = all.of("live");
    give(&client, &report("producer", 0));
    let mut idle = report("producer", 0);
    for broker in idle.brokers.values_mut() {
        broker.rtt = Some(Window::default());
        broker.throttle = Some(Window::default());
    }
    give(&client, &idle);
    let found = samples(&registry);
    let round_trip = r#"round_trip_seconds{client="live",broker="1"} 0.0015"#.to_owned();
    assert!(found.contains(&round_trip), "{found:?}");
    let throttle = r#"throttle_seconds{client="live",broker="1"} 0.0"#.to_owned();
    assert!(found.contains(&throttle), "{found:?}");
    give(
        &client,
        &Report {
            client_type: "producer".to_owned(),
            ..Report::default()
        },
    );
    let found = samples(&registry);
    assert!(
        found.iter().all(|line| !line.contains("seconds")),
        "{found:?}"
    );
}

#[test]
fn nothing_is_counted_without_a_registry_and_the_operator_may_turn_it_off() {
    Statistics::default().take(b"{}");
    let mut config = ClientConfig::new();
    enable(&mut config);
    assert_eq!(config.get("statistics.interval.ms"), Some("5000"));
    config.set("statistics.interval.ms", "0");
    enable(&mut config);
    assert_eq!(config.get("statistics.interval.ms"), Some("0"));
}

#[test]
fn a_report_is_read_as_librdkafka_writes_it() {
    let mut registry = Registry::default();
    let clients = ClientStatistics::new(&mut registry);
    let producer = clients.of("p");
    producer.take(
        br#"{"name":"p#1","type":"producer","msg_cnt":7,"msg_size":90,"simple_cnt":0,
            "brokers":{"b:9092/2":{"name":"b:9092/2","nodeid":2,"source":"learned","txerrs":1,"rxerrs":2,
              "req_timeouts":3,"rtt":{"min":1,"max":9,"avg":3,"cnt":4,"p99":2500,"p99_99":9},
              "throttle":{"max":40,"cnt":0},"toppars":{"t-0":{"topic":"t","partition":0}}}},
            "topics":{"t":{"partitions":{"0":{"fetchq_cnt":5},"-1":{"fetchq_cnt":0}}}},"cgrp":{"state":"up"}}"#,
    );
    producer.take(b"no report");
    for line in [
        "queue_records{client=\"p\"} 7",
        "queue_bytes{client=\"p\"} 90",
        "round_trip_seconds{client=\"p\",broker=\"2\"} 0.0025",
        "errors_total{client=\"p\",broker=\"2\"} 6",
        "throttle_seconds{client=\"p\",broker=\"2\"} 0.04",
    ] {
        let samples = samples(&registry);
        assert!(
            samples.iter().any(|sample| sample == line),
            "{line}: {samples:?}"
        );
    }
}
