//! Answers on the admin port.

use std::fmt::Write;

use rdkafka::mocking::MockCluster;

use super::answers::request;
use super::{masked, same_as_golden, settings};
use crate::broker::{becomes, exchange, get, start};

#[test]
fn answers_on_the_admin_port_are_unchanged() {
    let cluster = MockCluster::new(1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let yaml = format!(
        "kafka: {{bootstrap_servers: '{bootstrap}'}}\n\
         topics: {{partitions: 4, replication: 1}}\n\
         sources: {{site: {{provider: flowcode, secrets: [x]}}}}\n"
    );
    let mut text = String::new();
    cluster.broker_down(1).unwrap();
    let running = start(settings(&yaml));
    let not_ready = becomes(&running, "503");
    write!(text, "== not ready\n{}", masked(&not_ready)).unwrap();
    cluster.create_topic("webhooks.raw", 4, 1).unwrap();
    cluster.broker_up(1).unwrap();
    becomes(&running, "200");
    for line in [
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
        "GET /readyz?verbose",
        "HEAD /livez",
        "HEAD /readyz",
        "HEAD /metrics",
        "POST /livez",
        "PUT /metrics",
        "GET /",
        "POST /v1/hooks/site",
        "GET /livez/",
        "nonsense",
    ] {
        let answer = exchange(running.admin, request(line, "", ""));
        let answer = if line.contains("/metrics") && answer.contains(" 200 ") {
            without_page(&answer)
        } else {
            answer
        };
        write!(text, "== {line}\n{}", masked(&answer)).unwrap();
    }
    let long = format!("x: {}\r\n", "y".repeat(9_000));
    let answer = exchange(running.admin, request("GET /livez", &long, ""));
    write!(text, "== a long head\n{}", masked(&answer)).unwrap();
    // The port for webhooks has no admin pages.
    let answer = get(running.address, "/livez");
    write!(
        text,
        "== GET /livez where webhooks come\n{}",
        masked(&answer)
    )
    .unwrap();
    running.shutdown.cancel();
    let leaving = becomes(&running, "503");
    write!(text, "== shutting down\n{}", masked(&leaving)).unwrap();
    running.end().unwrap();
    same_as_golden("answers.admin.txt", &text);
}

/// The answer with its page and its length masked: the page has a golden file of its own.
fn without_page(answer: &str) -> String {
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    let line = |line: &str| match line.strip_prefix("content-length: ") {
        Some(length) => {
            assert!(
                length
                    .parse::<usize>()
                    .is_ok_and(|length| page.is_empty() || length == page.len())
            );
            "content-length: <length>\r\n".to_owned()
        }
        None => format!("{line}\r\n"),
    };
    let head: String = head.lines().map(line).collect();
    format!("{head}\r\n{}", if page.is_empty() { "" } else { "<page>" })
}
