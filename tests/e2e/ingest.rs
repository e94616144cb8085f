//! What senders are answered, and that the next good request passes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use sluice_schemas::raw::{Ack, REQUEST, RawRequest};
use sluice_tests::harness::client::{Hurry, Outgoing, parse, raw};
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::topics::{Isolation, read};

use crate::harness::{Running, site};

fn good(running: &Running, n: u64) -> Outgoing {
    let source = running.source("flock");
    source
        .signed("referral.accepted", n, now())
        .expect("a request")
}

/// A request head with these header lines, for the first good path.
fn head(path: &str, lines: &[&str]) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\n{}\r\n\r\n",
        lines.join("\r\n")
    )
    .into_bytes()
}

/// Unknown source, wrong and missing token: one answer for all.
fn unknown_paths(running: &mut Running) {
    let to = |path: &str| Outgoing {
        path: path.to_owned(),
        headers: Vec::new(),
        body: Bytes::from_static(b"{}"),
    };
    let waitlist = running.source("referralloop");

    let unknown = running.post(&to("/v1/hooks/nobody"));
    for path in [
        format!("/v1/hooks/{}/wrong", waitlist.name),
        format!("/v1/hooks/{}", waitlist.name),
        format!("/v1/hooks/{}/a/b", waitlist.name),
        "/v1/hooks/unknown".to_owned(),
        "/v1/hooks/".to_owned(),
        "/".to_owned(),
    ] {
        let answer = running.post(&to(&path));
        assert_eq!(
            (answer.status, &answer.body),
            (404, &unknown.body),
            "{path}"
        );
    }
}

/// The status that a server answers these bytes with, if any.
fn answer(listen: SocketAddr, pieces: &[&[u8]]) -> Option<u16> {
    let bytes = raw(listen, pieces, Hurry::UntilClosed).expect("an end");
    parse(&bytes).map(|answer| answer.status).ok()
}

fn methods_encodings_and_sizes(listen: SocketAddr, flock: &str) {
    for method in ["GET", "PUT", "DELETE"] {
        for path in [flock, "/v1/hooks/nobody"] {
            let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            assert_eq!(
                answer(listen, &[head.as_bytes()]),
                Some(405),
                "{method} {path}"
            );
        }
    }
    let compressed = head(
        flock,
        &[
            "content-encoding: gzip",
            "content-length: 2",
            "connection: close",
        ],
    );
    assert_eq!(answer(listen, &[&compressed, b"{}"]), Some(415));
    let large = head(flock, &["content-length: 1048577", "connection: close"]);
    assert_eq!(answer(listen, &[&large]), Some(413), "by its length");
    let stream = head(flock, &["transfer-encoding: chunked", "connection: close"]);
    let chunk = [
        b"110000\r\n".as_slice(),
        &vec![b'x'; 0x0011_0000],
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    assert_eq!(
        answer(listen, &[&stream, &chunk]),
        Some(413),
        "while streaming"
    );
}

fn slow_and_broken_requests(listen: SocketAddr, flock: &str) {
    let slow = head(flock, &["content-length: 10"]);
    assert_eq!(answer(listen, &[&slow, b"{"]), Some(408), "a slow body");
    let slow_head = format!("POST {flock} HTTP/1.1\r\nhost: x\r\nx-slow: ");
    // Closed, with or without a word.
    let status = answer(listen, &[slow_head.as_bytes()]);
    assert!(matches!(status, None | Some(408)), "{status:?}");
    assert_eq!(answer(listen, &[b"nonsense\r\n\r\n"]), Some(400));
    let long = format!("POST /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    let status = answer(listen, &[long.as_bytes()]);
    assert!(matches!(status, None | Some(414 | 431)), "{status:?}");
}

#[test]
fn every_refusal_of_the_design_and_the_next_request_passes() {
    let mut site = site("ingest-refusals");
    site.set(&["ingest", "header_timeout"], json!("500ms"));
    site.set(&["ingest", "body_timeout"], json!("500ms"));
    let mut running = Running::on(site);
    let mut n = 0;
    let mut next_passes = |running: &mut Running| {
        n += 1;
        running.accept(&good(running, n));
    };
    let listen = running.site.listen();
    let flock = running.source("flock").path();
    unknown_paths(&mut running);
    next_passes(&mut running);

    methods_encodings_and_sizes(listen, &flock);
    next_passes(&mut running);

    slow_and_broken_requests(listen, &flock);
    next_passes(&mut running);

    // Gone in the middle of the body: nothing is written.
    raw(
        listen,
        &[&head(&flock, &["content-length: 10"]), b"{"],
        Hurry::Leave,
    )
    .expect("sent");
    next_passes(&mut running);

    let metrics = running.ingest.metrics().expect("metrics");
    let count = |labels: &[(&str, &str)]| metrics.sum("sluice_ingest_requests_total", labels);
    assert!(count(&[("status", "200")]) >= 4.0);
    assert!(count(&[("source", "unknown"), ("status", "404")]) >= 4.0);
    for status in ["405", "408", "413", "415"] {
        assert!(count(&[("status", status)]) >= 1.0, "{status}");
    }
    let verdict = running.finish(&[]);
    assert_eq!((verdict.raw, verdict.acked), (4, 4));
}

#[test]
fn the_raw_record_is_the_request() {
    let mut running = Running::start("ingest-raw");
    let source = running.source("referralloop");
    let mut request = source
        .signed("signup.created", 1, now())
        .expect("a request");
    request.path.push_str("?a=b&token=c");
    for (name, value) in [
        ("X-Odd", "\u{ff}\u{e9}"),
        ("x-odd", "second"),
        ("cookie", "secret"),
        ("authorization", "secret"),
        ("connection", "keep-alive"),
    ] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let before = now();
    let id = running.accept(&request);
    let topic = running.names().raw();
    let records = read(running.site.bootstrap(), &[topic], Isolation::Committed).expect("raw");
    let [record] = records.as_slice() else {
        panic!("one record, not {}", records.len());
    };
    assert_eq!(record.value, request.body);
    assert!(
        record
            .text("traceparent")
            .is_some_and(|text| text.len() == 55),
        "{:?}",
        record.headers
    );
    let raw = RawRequest::decode(record.header(REQUEST).expect("a header")).expect("a request");
    assert_eq!(raw.id.to_string(), id);
    assert_eq!(raw.id.get_version_num(), 7);
    assert_eq!(
        (raw.source.as_str(), raw.provider.as_str()),
        (source.name.as_str(), "referralloop")
    );
    assert_eq!(
        (raw.method.as_str(), raw.token, raw.ack),
        ("POST", true, Ack::Broker)
    );
    assert_eq!(
        raw.target,
        format!("/v1/hooks/{}?a=b&token=c", source.name),
        "no token"
    );
    assert!(raw.received_at / 1_000_000 >= before && raw.received_at / 1_000_000 <= now());
    let odd: Vec<&[u8]> = raw.headers.all("x-odd").collect();
    assert_eq!(odd, [[0xff, 0xe9].as_slice(), b"second"]);
    for gone in ["cookie", "authorization", "connection"] {
        assert_eq!(raw.headers.all(gone).count(), 0, "{gone}");
    }
    running.finish(&[]);
}

#[test]
fn sigterm_lets_requests_finish() {
    let mut running = Running::start("ingest-drain");
    let good = good(&running, 1);
    running.accept(&good);
    running
        .ingest
        .signal(sluice_tests::harness::child::Signal::Term)
        .expect("a signal");
    let status = running.ingest.wait_end().expect("an end");
    assert!(status.success(), "{status}");
    assert!(
        std::net::TcpStream::connect_timeout(&running.site.listen(), Duration::from_secs(1))
            .is_err()
    );
    running.wait_caught_up();
    running.processor.stop().expect("an end");
    running.site.check_logs(&[]).expect("quiet logs");
}
