//! Names, types, units and label names on `/metrics` after a run that touches every instrument, and the
//! values of labels whose lists are closed.

use std::fmt::Write;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use rdkafka::mocking::MockCluster;
use sluice_ingest::answer::{Answer, Limit, UnavailableReason};
use sluice_ingest::metrics::{Metrics, Part, Shed};

use super::{same_as_golden, settings};
use crate::broker::{Running, becomes, exchange, get, start};

fn post(running: &Running, path: &str, body: &[u8]) -> String {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    exchange(running.address, request)[9..12].to_owned()
}

/// Scrapes until all of these have a value that is not 0.
fn page(running: &Running, touched: &[&str]) -> String {
    let since = Instant::now();
    loop {
        let page = get(running.admin, "/metrics");
        let has = |name: &&&str| {
            let mut lines = page.lines().filter(|line| line.starts_with(**name));
            lines.any(|line| !line.ends_with(" 0") && !line.ends_with(" 0.0"))
        };
        let missing: Vec<&&str> = touched.iter().filter(|name| !has(name)).collect();
        if missing.is_empty() {
            return page.split_once("\r\n\r\n").unwrap().1.to_owned();
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{missing:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn names_types_units_and_labels_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("webhooks.raw", 4, 1).unwrap();
    cluster.broker_down(1).unwrap();
    let running = start(settings(&format!(
        "kafka: {{bootstrap_servers: '{}'}}\n\
         topics: {{partitions: 4, replication: 1}}\n\
         sources: {{site: {{provider: flowcode, secrets: [x]}}}}\n\
         ingest: {{spool: {{dir: {}, max_bytes: 4MiB}}, limits: {{first_byte_timeout: 200ms}}}}\n",
        cluster.bootstrap_servers(),
        dir.path().display()
    )));
    // Fill the spool; then an unknown source, a body that breaks off, and a silent connection.
    let body = vec![b'x'; 1 << 20];
    while post(&running, "/v1/hooks/site", &body) == "200" {}
    assert_eq!(post(&running, "/v1/hooks/nobody", b"{}"), "404");
    let mut broken = std::net::TcpStream::connect(running.address).unwrap();
    let half = b"POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc";
    std::io::Write::write_all(&mut broken, half).unwrap();
    drop(broken);
    assert_eq!(exchange(running.address, ""), "");
    cluster.broker_up(1).unwrap();
    becomes(&running, "200");
    page(&running, &["sluice_ingest_drained_total"]);
    while page(&running, &[]).contains("sluice_ingest_ack_seconds_count 0") {
        assert_eq!(post(&running, "/v1/hooks/site", b"{}"), "200");
    }
    let page = page(
        &running,
        &[
            "sluice_ingest_requests_total{",
            "sluice_ingest_requests_broken_off_total{",
            "sluice_ingest_unavailable_total{",
            "sluice_ingest_spooled_total{",
            "sluice_ingest_connections_shed_total{",
            "sluice_ingest_spool_commit_seconds_count",
            "sluice_kafka_round_trip_seconds{",
        ],
    );
    running.shutdown.cancel();
    running.end().unwrap();
    same_as_golden("metrics.txt", &masked(&page));
}

/// The page with values and label values masked, each distinct line once. Bucket bounds stay: they are
/// part of the contract. Help texts are not, and are left out.
fn masked(page: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in page.lines().filter(|line| !line.starts_with("# HELP ")) {
        let line = if line.starts_with('#') {
            line.to_owned()
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            format!("{} <value>", labels_masked(name))
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

fn labels_masked(name: &str) -> String {
    let Some((name, labels)) = name.split_once('{') else {
        return name.to_owned();
    };
    let labels = labels.strip_suffix('}').unwrap();
    let masked = |label: &str| match label.split_once("=\"").unwrap() {
        ("le", _) => label.to_owned(),
        (label, _) => format!("{label}=\"<{label}>\""),
    };
    let labels: Vec<String> = labels.split(',').map(masked).collect();
    format!("{name}{{{}}}", labels.join(","))
}

/// All variants of an enum; does not compile where one is missing.
macro_rules! all {
    ($kind:ident: $($variant:ident),*) => {{
        let _ = |one: $kind| match one { $($kind::$variant => ()),* };
        [$($kind::$variant),*]
    }};
}

#[test]
fn values_of_closed_labels_are_unchanged() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    for shed in all!(Shed: PeerConnections, ProxyHeader, TlsHandshake, FirstByte, SlowHead,
        SlowRead, Resets, Overhead, Refusals, Idle, Evicted, Age)
    {
        metrics.shed(shed);
    }
    for part in all!(Part: Head, Body, Answer) {
        metrics.broken_off(None, part);
    }
    metrics.spooled(None);
    for reason in all!(UnavailableReason: Starting, Buffers, SourceBuffers, Queue, Acknowledgement, Broker, TopicLimit, Spool, SpoolShare)
    {
        metrics.answered(None, Answer::Unavailable(reason));
        metrics.spooled(Some(reason));
    }
    for answer in [
        Answer::Accepted(uuid::Uuid::nil()),
        Answer::BadRequest,
        Answer::NotFound,
        Answer::MethodNotAllowed,
        Answer::RequestTimeout(Limit::BodyRate),
        Answer::TooLarge(Limit::MaxBody),
        Answer::UnsupportedEncoding,
        Answer::TooManyRequests(Limit::Rate),
        Answer::HeadTooLarge,
    ] {
        metrics.answered(None, answer);
    }
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    let labelled = page
        .lines()
        .filter(|line| line.contains('{') && !line.contains("le=\""));
    let mut names: Vec<&str> = labelled
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    names.sort_unstable();
    let mut text = String::new();
    for name in names {
        writeln!(text, "{name}").unwrap();
    }
    same_as_golden("metrics.labels.txt", &text);
}
