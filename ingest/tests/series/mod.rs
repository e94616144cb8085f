//! Series of the metrics: which there are from the start, and that senders add none.

use std::io::Write;

use sluice_schemas::metric::ingest;

use crate::support::{Ingest, LIMITS, Mood, SMALL};

/// The names and labels of all series.
fn series(ingest: &Ingest) -> Vec<String> {
    let page = ingest.metrics();
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let mut series: Vec<String> = lines
        .map(|line| {
            line.split(" # ")
                .next()
                .unwrap()
                .rsplit_once(' ')
                .unwrap()
                .0
                .to_owned()
        })
        .collect();
    series.sort();
    series
}

#[test]
fn closed_lists_and_configured_sources_begin_at_0() {
    let ingest = Ingest::start();
    let mut expected: Vec<String> = Vec::new();
    for source in ["site", "small", "list", "keyed"] {
        for status in [200, 404, 405, 408, 413, 415, 429, 503] {
            expected.push(format!(
                "sluice_ingest_requests_total{{source=\"{source}\",status=\"{status}\"}}"
            ));
        }
        for at in ["body", "answer"] {
            expected.push(format!(
                "sluice_ingest_requests_broken_off_total{{source=\"{source}\",at=\"{at}\"}}"
            ));
        }
        expected.push(format!(
            "sluice_ingest_request_seconds_count{{source=\"{source}\"}}"
        ));
    }
    for to in ["raw", "spool"] {
        expected.push(format!("sluice_ingest_accepted_total{{to=\"{to}\"}}"));
    }
    for limit in [
        "rate",
        "peer_bytes",
        "max_body",
        "body_chunks",
        "max_record",
        "body_timeout",
        "body_rate",
        "header_bytes",
        "max_buffered",
        "source_buffered",
    ] {
        expected.push(format!("sluice_ingest_limits_total{{limit=\"{limit}\"}}"));
    }
    for reason in ["behind", "starting", "queue", "acknowledgement", "broker"] {
        expected.push(format!(
            "sluice_ingest_spooled_total{{reason=\"{reason}\"}}"
        ));
    }
    for series in &expected {
        assert_eq!(ingest.value(series), 0, "{series}");
    }
    let page = ingest.metrics();
    for count in [
        ("sluice_ingest_unavailable_total{", 9),
        ("sluice_ingest_connections_shed_total{", 12),
        ("sluice_ingest_spooled_total{", 5),
        ("sluice_ingest_limits_total{", 10),
    ] {
        let lines = page.lines().filter(|line| line.starts_with(count.0));
        assert_eq!(lines.count(), count.1, "{}", count.0);
    }
    // Without TLS there is no certificate, and no source that is not answered has a series.
    assert!(
        !page.contains(ingest::INGEST_CERTIFICATE_EXPIRY.name),
        "{page}"
    );
    assert!(!page.contains("source=\"away\""), "{page}");
}

/// A request of which all that a sender may choose is its own.
fn distinct(n: u64, is_last: bool) -> String {
    let source = if n.is_multiple_of(2) {
        format!("s{n}")
    } else {
        "site".to_owned()
    };
    let last = if is_last { "connection: close\r\n" } else { "" };
    let span = n + 1;
    format!(
        "POST /v1/hooks/{source}?q{n} HTTP/1.1\r\nhost: h{n}\r\nx-{n}: {n}\r\nuser-agent: a{n}\r\n\
         webhook-id: {n}\r\ntracestate: v{n}={n}\r\nbaggage: b{n}={n}\r\n\
         traceparent: 00-{span:032x}-{span:016x}-01\r\n{last}content-length: 2\r\n\r\n{{}}"
    )
}

#[test]
fn senders_add_no_series() {
    let ingest = Ingest::start();
    assert_eq!(ingest.post("/v1/hooks/nobody", b"{}").status, 404);
    assert_eq!(
        ingest.send("GET /v1/hooks/nobody HTTP/1.1", b"").status,
        405
    );
    let before = series(&ingest);
    // Every other one is accepted, so that no connection ends for its refused requests.
    for connection in 0..200 {
        let mut sender = ingest.connect();
        let requests: String = (0..50)
            .map(|request| distinct(50 * connection + request, request == 49))
            .collect();
        let mut writer = sender.0.try_clone().unwrap();
        let writing = std::thread::spawn(move || writer.write_all(requests.as_bytes()));
        sender.rest();
        writing.join().unwrap().unwrap();
    }
    let site = "sluice_ingest_requests_total{source=\"site\",status=\"200\"}";
    let unknown = "sluice_ingest_requests_total{source=\"unknown\",status=\"404\"}";
    assert_eq!((ingest.value(site), ingest.value(unknown)), (5_000, 5_001));
    assert_eq!(series(&ingest), before);
}

#[test]
fn answers_of_configured_sources_are_timed() {
    let ingest = Ingest::start();
    let count = |source: &str| {
        ingest.value(&format!(
            "sluice_ingest_request_seconds_count{{source=\"{source}\"}}"
        ))
    };
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    assert_eq!(ingest.send("GET /v1/hooks/site HTTP/1.1", b"").status, 405);
    assert_eq!(ingest.post("/v1/hooks/list/wrong", b"{}").status, 404);
    assert_eq!(ingest.post("/v1/hooks/nobody", b"{}").status, 404);
    assert_eq!((count("site"), count("list"), count("small")), (2, 1, 0));
    let page = ingest.metrics();
    assert!(!page.contains("sluice_ingest_request_seconds_count{source=\"unknown\"}"));
    // Spans go nowhere, so that a trace id would lead nowhere.
    assert!(!page.contains(" # {"), "{page}");
}

#[test]
fn a_body_that_is_too_large_names_its_limit_and_a_record_that_raw_refuses_names_the_topics() {
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        let largest = settings.sources.values_mut();
        largest.for_each(|source| source.max_body = source.max_body.min(4 * SMALL as u64));
    });
    let large = vec![b'x'; SMALL + 1];
    assert_eq!(ingest.post("/v1/hooks/small", &large).status, 413);
    assert_eq!(
        (ingest.limited("max_body"), ingest.limited("max_record")),
        (1, 0)
    );
    ingest.mood(Mood::LargeIsTooLarge);
    let answer = ingest.post("/v1/hooks/site", b"large");
    assert_eq!(answer.status, 503, "its size was good when it was taken");
    assert!(answer.headers.contains("retry-after"), "{answer:?}");
    let unavailable = "sluice_ingest_unavailable_total{reason=\"topic_limit\"}";
    assert_eq!(ingest.value(unavailable), 1);
    assert_eq!(
        (ingest.limited("max_body"), ingest.limited("max_record")),
        (1, 0)
    );
    // What no limit refused.
    ingest.mood(Mood::Refuse);
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 503);
    let page = ingest.metrics();
    let limits = page
        .lines()
        .filter(|line| line.starts_with("sluice_ingest_limits_total{"));
    assert_eq!(
        limits.filter(|line| line.ends_with(" 1")).count(),
        1,
        "{page}"
    );
}
