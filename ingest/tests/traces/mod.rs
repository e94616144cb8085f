//! The spans of requests: their form, and of which requests there are none.

use std::sync::{Arc, Mutex};

use sluice_ingest::config::Config;
use sluice_schemas::settings::Settings;
use sluice_schemas::trace::TraceContext;
use sluice_service::telemetry::{Kind, Span};

use crate::support::{Ingest, LIMITS, Mood, eventually, settings, spooling};

type Spans = Arc<Mutex<Vec<Span>>>;

const LINK: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn start(mood: Mood) -> (Ingest, Spans) {
    Ingest::start_traced(&settings(LIMITS, ""), mood)
}

/// All spans so far, once there are so many.
fn taken(spans: &Spans, count: usize) -> Vec<Span> {
    eventually("the spans are there", || {
        spans.lock().unwrap().len() >= count
    });
    let taken = std::mem::take(&mut *spans.lock().unwrap());
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

/// The attributes in their order, `name=value`.
fn attributes(span: &Span) -> Vec<String> {
    let attributes = span.attributes.iter();
    attributes
        .map(|one| format!("{}={}", one.key, one.value))
        .collect()
}

fn server(spans: &[Span]) -> &Span {
    spans.iter().find(|span| span.kind == Kind::Server).unwrap()
}

fn producer(spans: &[Span]) -> &Span {
    spans
        .iter()
        .find(|span| span.kind == Kind::Producer)
        .unwrap()
}

#[test]
fn an_accepted_request_has_two_spans_and_its_record_names_the_second() {
    let (ingest, spans) = start(Mood::Acknowledge);
    let head = format!(
        "POST /v1/hooks/list/t0ken?secret=1 HTTP/1.1\r\nTraceparent: {LINK}\r\nTracestate: a=b\r\n\
         Baggage: c=d\r\nAuthorization: hidden"
    );
    let answer = ingest.send(&head, b"{\"a\":1}");
    assert_eq!(answer.status, 200);
    let spans = taken(&spans, 2);
    let (server, producer) = (server(&spans), producer(&spans));
    let record = &ingest.published()[0];
    let context = TraceContext::parse(record.traceparent.as_bytes()).unwrap();
    assert!(context.sampled);
    assert_eq!(producer.context, context);
    assert_eq!(server.context.trace_id, context.trace_id);
    assert_eq!(producer.parent, Some(server.context.span_id));
    assert_ne!(producer.context.span_id, server.context.span_id);

    assert_eq!(server.name, "POST /v1/hooks/{source}");
    let id = record.request.id;
    let expected = [
        "http.request.method=POST".to_owned(),
        "http.route=/v1/hooks/{source}".to_owned(),
        "url.scheme=http".to_owned(),
        "network.protocol.version=1.1".to_owned(),
        "sluice.source=list".to_owned(),
        "sluice.provider=referralloop".to_owned(),
        format!("sluice.request_id={id}"),
        "http.response.status_code=200".to_owned(),
    ];
    assert_eq!(attributes(server), expected);
    // What the sender says is no parent, for anybody may say it.
    assert_eq!(server.parent, None);
    assert_eq!(
        server.links,
        [TraceContext::parse(LINK.as_bytes()).unwrap()]
    );
    assert_ne!(server.context.trace_id, server.links[0].trace_id);

    assert_eq!(producer.name, "send webhooks.raw");
    let expected = [
        "messaging.system=kafka",
        "messaging.operation.type=send",
        "messaging.operation.name=send",
        "messaging.destination.name=webhooks.raw",
        "messaging.message.body.size=7",
        "messaging.destination.partition.id=3",
        "messaging.kafka.offset=7",
        "sluice.ack=broker",
    ];
    assert_eq!(attributes(producer), expected);
    assert_eq!((&server.error, &producer.error), (&None, &None));
    assert!(server.start <= producer.start && producer.start <= producer.end);
    assert!(producer.end <= server.end);
    let all = format!("{spans:?}");
    for secret in ["t0ken", "secret=1", "hidden", "a=b", "c=d", "\\\"a\\\""] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
}

#[test]
fn a_traceparent_that_is_malformed_too_long_or_there_twice_is_ignored() {
    let (ingest, spans) = start(Mood::Acknowledge);
    let long = format!("{LINK}-{}", "0".repeat(8_000));
    let twice = format!("{LINK}\r\nTraceparent: {LINK}");
    let zeros = LINK.replace("b7ad6b7169203331", "0000000000000000");
    for value in ["", "x", "00-1-2-01", &long, &twice, &zeros, &LINK[..54]] {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\nTraceparent: {value}");
        assert_eq!(ingest.send(&head, b"{}").status, 200, "{value}");
        let spans = taken(&spans, 2);
        assert!(server(&spans).links.is_empty(), "{value}");
    }
}

#[test]
fn only_faults_of_ours_are_errors() {
    let (ingest, spans) = start(Mood::Acknowledge);
    let coded = "POST /v1/hooks/site HTTP/1.1\r\nContent-Encoding: gzip";
    assert_eq!(ingest.send(coded, b"{}").status, 415);
    let refused = taken(&spans, 1);
    assert_eq!(refused[0].error, None);
    let status = "http.response.status_code=415".to_owned();
    assert!(attributes(&refused[0]).contains(&status), "{refused:?}");
    let id = |span: &Span| {
        attributes(span)
            .iter()
            .any(|one| one.starts_with("sluice.request_id"))
    };
    assert!(!id(&refused[0]), "{refused:?}");

    for (mood, cause) in [
        (Mood::QueueFull, "queue"),
        (Mood::TimeOut, "acknowledgement"),
    ] {
        ingest.mood(mood);
        assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 503);
        let spans = taken(&spans, 2);
        let (server, producer) = (server(&spans), producer(&spans));
        for span in [server, producer] {
            assert_eq!(span.error.as_deref(), Some(cause), "{span:?}");
        }
        assert!(
            attributes(server).contains(&"error.type=503".to_owned()),
            "{server:?}"
        );
        assert!(attributes(producer).contains(&format!("error.type={cause}")));
        assert!(
            !attributes(producer)
                .iter()
                .any(|one| one.starts_with("sluice.ack"))
        );
        assert!(id(server), "{server:?}");
    }
}

#[test]
fn a_request_that_breaks_off_is_an_error() {
    let (ingest, spans) = start(Mood::Acknowledge);
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
    drop(sender);
    let spans = taken(&spans, 1);
    assert_eq!(spans[0].error.as_deref(), Some("broken_off"));
    let last = attributes(&spans[0]).pop();
    assert_eq!(last.as_deref(), Some("error.type=broken_off"));
}

#[test]
fn a_spooled_request_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (ingest, spans) = Ingest::start_traced(&spooling(dir.path(), 128 * 1024), Mood::Refuse);
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    let spans = taken(&spans, 2);
    let last = attributes(producer(&spans)).pop();
    assert_eq!(last.as_deref(), Some("sluice.ack=spool"));
    assert_eq!(
        (&server(&spans).error, &producer(&spans).error),
        (&None, &None)
    );
    // Brought to raw later, it names the same span.
    ingest.mood(Mood::Acknowledge);
    let context = producer(&spans).context.to_string();
    eventually("it is drained", || {
        ingest
            .published()
            .iter()
            .any(|record| record.traceparent == context)
    });
}

#[test]
fn strangers_and_unsampled_requests_have_no_span() {
    let (ingest, spans) = start(Mood::Acknowledge);
    for path in [
        "/v1/hooks/nobody",
        "/v1/hooks/list/wrong",
        "/v1/hooks/away",
        "/",
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nTraceparent: {LINK}");
        assert_eq!(ingest.send(&head, b"{}").status, 404, "{path}");
    }
    assert_eq!(ingest.send("GET /v1/hooks/site HTTP/1.1", b"").status, 405);
    let mut unsampled: Settings = settings(LIMITS, "");
    unsampled.telemetry.trace_ratio = 0.0;
    ingest.receiver.configure(Config::new(&unsampled));
    let head = format!("POST /v1/hooks/site HTTP/1.1\r\nTraceparent: {LINK}");
    assert_eq!(ingest.send(&head, b"{}").status, 200);
    let page = ingest.metrics();
    assert!(!page.contains(" # {"), "{page}");
    // The record has a context of its own all the same.
    let context = &ingest.published()[0].traceparent;
    let context = TraceContext::parse(context.as_bytes()).unwrap();
    assert!(!context.sampled);
    assert_ne!(
        context.trace_id,
        TraceContext::parse(LINK.as_bytes()).unwrap().trace_id
    );
    assert!(spans.lock().unwrap().is_empty(), "{spans:?}");
}

#[test]
fn a_slow_request_leads_to_its_trace() {
    let (ingest, spans) = start(Mood::Acknowledge);
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    let trace = hex::encode(taken(&spans, 2)[0].context.trace_id);
    let page = ingest.metrics();
    for bucket in [
        "sluice_ingest_request_seconds_bucket{",
        "sluice_ingest_ack_seconds_bucket{",
    ] {
        let exemplar = format!(" 1 # {{trace_id=\"{trace}\"}} ");
        let mut lines = page.lines().filter(|line| line.starts_with(bucket));
        assert!(lines.any(|line| line.contains(&exemplar)), "{page}");
    }
}
