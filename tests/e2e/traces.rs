//! Traces from the HTTP request to the event, in a Collector not of our making.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_schemas::raw::TRACEPARENT;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::collector::{Collector, Span};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};
use sluice_tests::harness::wire::write_certificate;

use crate::harness::{Running, fate_topics, site};
use crate::refusals::{signed, with};

/// A site whose services export to the Collector, with this share of requests traced.
fn traced(test: &str, endpoint: &str, protocol: &str, ratio: f64) -> Site {
    let mut site = site(test);
    site.set(&["telemetry", "otlp_endpoint"], json!(endpoint));
    site.set(&["telemetry", "otlp_protocol"], json!(protocol));
    site.set(&["telemetry", "trace_ratio"], json!(ratio));
    site
}

/// A request of each fate, and the fate.
fn requests(running: &Running) -> [(Outgoing, &'static str); 4] {
    let flock = running.source("flock");
    let good = flock
        .signed("referral.accepted", 1, now())
        .expect("a request");
    let forged = flock
        .signed("referral.accepted", 2, now())
        .expect("a request");
    let forged = with(forged, "x-flock-signature", Some(&"0".repeat(64)));
    let nameless = format!(
        r#"{{"entity":"referral","entityId":"e","timestamp":{}}}"#,
        now()
    );
    [
        (good.clone(), "event"),
        (good, "duplicate"),
        (forged, "rejected"),
        (signed(&flock, &[], nameless), "dead_letter"),
    ]
}

/// Sends a request of each fate: the fates by request id, once all are there.
fn send(running: &mut Running) -> BTreeMap<String, &'static str> {
    let mut fates = BTreeMap::new();
    for (mut request, fate) in requests(running) {
        // A stranger's trace, and what no trace is.
        let theirs = "00-11111111111111111111111111111111-2222222222222222-01";
        request
            .headers
            .push((TRACEPARENT.to_owned(), theirs.to_owned()));
        request
            .headers
            .push(("baggage".to_owned(), "k=v".repeat(200)));
        fates.insert(running.accept(&request), fate);
    }
    running.outcomes(fates.len());
    fates
}

/// By request id the trace that the record of its fate carries.
fn traces_on_topics(running: &Running) -> BTreeMap<String, String> {
    let names = running.names();
    let topics = fate_topics(&running.site);
    let records = read(running.site.bootstrap(), &topics, Isolation::Committed);
    let records = records.expect("records");
    let trace = |record: &sluice_tests::harness::topics::Record| {
        let (id, _) = sluice_tests::report::outcome(&names, record)?;
        Some((id, record.text(TRACEPARENT)?.to_owned()))
    };
    records.iter().filter_map(trace).collect()
}

fn find<'s>(spans: &'s [Span], name: &str, trace: &str) -> Option<&'s Span> {
    let mut spans = spans.iter();
    spans.find(|span| span.text("name") == name && span.text("traceId") == trace)
}

/// Waits until the Collector has as many spans of a name.
fn spans(collector: &Collector, name: &str, count: usize) -> Vec<Span> {
    let found = wait_for(&format!("{count} spans {name}"), PATIENCE, || {
        let spans = collector.spans()?;
        let found = spans.iter().filter(|span| span.text("name") == name);
        Ok((found.count() >= count).then_some(spans))
    });
    found.expect("spans")
}

/// The trace of one request: from the edge to the commit of its fate.
fn one_trace(spans: &[Span], raw: &str, (id, fate): (&str, &str), header: &str) {
    let parts: Vec<&str> = header.split('-').collect();
    let (trace, span) = (parts[1], parts[2]);
    assert_eq!(parts[3], "01", "{fate}");
    let server = find(spans, "POST /v1/hooks/{source}", trace).expect("the edge's span");
    let sent = find(spans, &format!("send {raw}"), trace).expect("the producer's span");
    let process = find(spans, "process", trace).expect("the processor's span");
    assert_eq!(
        (server.service.as_str(), process.service.as_str()),
        ("sluice-ingest", "sluice-processor")
    );
    assert_eq!(server.text("parentSpanId"), "");
    assert_eq!(sent.text("parentSpanId"), server.text("spanId"));
    // The context in the raw record is the producer's, and goes on unchanged.
    assert_eq!(sent.text("spanId"), span);
    assert_eq!(process.text("parentSpanId"), span);
    assert_eq!(process.attribute("sluice.fate").as_deref(), Some(fate));
    assert_eq!(process.attribute("sluice.request_id").as_deref(), Some(id));
    assert_eq!(
        server.attribute("http.response.status_code").as_deref(),
        Some("200")
    );
    // The stranger's trace is a link.
    let theirs = ("1".repeat(32), "2".repeat(16));
    assert_eq!(server.links(), [theirs]);
    let batch = process.links();
    let batch = batch
        .first()
        .and_then(|(trace, _)| find(spans, "batch", trace));
    let batch = batch.expect("the span of its batch");
    assert!(batch.links().iter().any(|(of, _)| of == trace), "{fate}");
    assert_eq!(
        batch.attribute("sluice.outcome").as_deref(),
        Some("committed")
    );
}

#[test]
fn one_trace_leads_from_the_request_to_its_fate() {
    let collector = Collector::start().expect("a Collector");
    let mut running = Running::on(traced("traces", &collector.grpc(), "grpc", 1.0));
    let raw = running.names().raw();
    let fates = send(&mut running);
    let headers = traces_on_topics(&running);
    let spans = spans(&collector, "process", fates.len());
    for (id, fate) in &fates {
        one_trace(&spans, &raw, (id, fate), &headers[id]);
    }
    let event = fates
        .iter()
        .find(|(_, fate)| **fate == "event")
        .expect("one")
        .0;
    let event = spans.iter().find(|span| {
        span.text("name") == "process"
            && span.attribute("sluice.request_id").as_ref() == Some(event)
    });
    let event = event.expect("the event's span");
    assert_eq!(
        event.attribute("sluice.type").as_deref(),
        Some("referral.accepted")
    );
    assert!(event.attribute("sluice.key_id").is_some());
    let all = spans
        .iter()
        .map(|span| span.json.to_string())
        .collect::<String>();
    let secret = running.source("flock").secret;
    let secret = String::from_utf8(secret).expect("text");
    assert!(!all.contains(&secret) && !all.contains("baggage"));
    running.finish(&[]);
    // The last export comes at the end.
    let metrics = collector.metrics().expect("metrics");
    for (service, name) in [
        ("sluice-ingest", "sluice_ingest_requests"),
        ("sluice-processor", "sluice_fates"),
        ("sluice-processor", "sluice_freshness_seconds"),
    ] {
        let there = metrics.iter().any(|(of, is)| of == service && is == name);
        assert!(there, "{name} was not exported");
    }
}

#[test]
fn refused_records_that_are_not_sampled_have_root_spans_that_are_few() {
    let collector = Collector::start().expect("a Collector");
    let mut running = Running::on(traced("roots", &collector.http(), "http", 0.0));
    let fates = send(&mut running);
    let headers = traces_on_topics(&running);
    let spans = spans(&collector, "process", 2);
    let (of_rejected, of_dead_letter): (Vec<_>, Vec<_>) = spans
        .iter()
        .filter(|span| span.text("name") == "process")
        .partition(|span| span.attribute("sluice.fate").as_deref() == Some("rejected"));
    for (found, fate) in [(of_rejected, "rejected"), (of_dead_letter, "dead_letter")] {
        let id = fates.iter().find(|(_, of)| **of == fate).expect("one").0;
        let parts: Vec<&str> = headers[id].split('-').collect();
        assert_eq!(parts[3], "00");
        let [root] = found.as_slice() else {
            panic!("{} root spans of a {fate}", found.len());
        };
        assert_eq!(root.attribute("sluice.fate").as_deref(), Some(fate));
        assert_eq!(root.text("parentSpanId"), "");
        assert_ne!(root.text("traceId"), parts[1]);
        let raw = (parts[1].to_owned(), parts[2].to_owned());
        assert!(root.links().contains(&raw));
    }
    // Events and duplicates follow the ratio, and so does the edge.
    assert!(spans.iter().all(|span| span.service == "sluice-processor"));

    // A flood of refused records gives a span a second and reason, and the rest is counted.
    let flock = running.source("flock");
    let started = Instant::now();
    for n in 0..200 {
        let forged = flock
            .signed("referral.accepted", 100 + n, now())
            .expect("a request");
        running.accept(&with(forged, "x-flock-signature", Some(&"0".repeat(64))));
    }
    running.outcomes(fates.len() + 200);
    let seconds = usize::try_from(started.elapsed().as_secs()).expect("few");
    // Each refused record has a span that is exported by now, or is counted as limited.
    wait_for("all refused records", PATIENCE, || {
        let samples = running.processor.metrics()?;
        let of = |result| samples.sum("sluice_spans_total", &[("result", result)]);
        Ok((of("exported") + of("limited") >= 202.0).then_some(()))
    })
    .expect("spans");
    let found = collector.spans().expect("spans");
    let found = found
        .iter()
        .filter(|span| span.text("name") == "process")
        .count();
    assert!(found <= 2 + seconds + 2, "{found} spans in {seconds} s");
    let limited = running.processor.metrics().expect("metrics");
    let limited = limited.sum("sluice_spans_total", &[("result", "limited")]);
    assert!(limited >= 190.0, "{limited} limited");
    running.finish(&[]);
}

#[test]
fn a_collector_that_is_away_or_never_answers_costs_spans_and_nothing_else() {
    // It accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    for (protocol, endpoint) in [
        ("grpc", "http://127.0.0.1:9".to_owned()),
        ("http", endpoint),
    ] {
        let mut site = traced(&format!("away-{protocol}"), &endpoint, protocol, 1.0);
        site.set(&["telemetry", "otlp_timeout"], json!("1s"));
        let mut running = Running::on(site);
        let fates = send(&mut running);
        assert_eq!(fates.len(), 4);
        wait_for("failed spans", PATIENCE, || {
            let failed = |samples: sluice_tests::harness::metrics::Samples| {
                samples.sum("sluice_spans_total", &[("result", "failed")])
            };
            let both = [running.ingest.metrics()?, running.processor.metrics()?];
            Ok(both
                .map(failed)
                .iter()
                .all(|failed| *failed > 0.0)
                .then_some(()))
        })
        .expect("spans that failed are counted");
        let started = Instant::now();
        running
            .processor
            .stop()
            .expect("the processor ends by itself");
        assert!(started.elapsed() < Duration::from_secs(10));
        running.start_processor();
        running.finish(&["not exported"]);
    }
}

#[test]
fn a_collector_behind_tls_is_trusted_by_its_authority_alone() {
    let files = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (files.path().join("crt"), files.path().join("key"));
    write_certificate(&certificate, &key).expect("a certificate");
    let headers = files.path().join("headers");
    std::fs::write(&headers, "authorization: Bearer never-logged\n").expect("headers");
    let collector = Collector::start_over_tls(&certificate, &key).expect("a Collector");
    for (protocol, endpoint) in [("grpc", collector.grpc()), ("http", collector.http())] {
        let mut site = traced(&format!("tls-{protocol}"), &endpoint, protocol, 1.0);
        site.set(&["telemetry", "otlp_ca_file"], json!(certificate));
        site.set(&["telemetry", "otlp_headers_file"], json!(headers));
        let mut running = Running::on(site);
        let fates = send(&mut running);
        let result = |result| {
            wait_for("spans over TLS", PATIENCE, || {
                let samples = running.processor.metrics()?;
                let spans = samples.sum("sluice_spans_total", &[("result", result)]);
                Ok((spans >= 4.0).then_some(()))
            })
        };
        result("exported").expect("spans are exported");
        assert_eq!(fates.len(), 4);
        running.finish(&[]);
    }
    // Without the authority the connection is refused, and spans are lost.
    let mut site = traced("tls-unknown", &collector.grpc(), "grpc", 1.0);
    site.set(&["telemetry", "otlp_timeout"], json!("1s"));
    let mut running = Running::on(site);
    send(&mut running);
    wait_for("failed spans", PATIENCE, || {
        let samples = running.processor.metrics()?;
        let failed = samples.sum("sluice_spans_total", &[("result", "failed")]);
        Ok((failed > 0.0).then_some(()))
    })
    .expect("spans fail");
    running.finish(&["not exported"]);
}
