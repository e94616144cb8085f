//! What a sender of webhooks sees, answer by answer, over real connections; Kafka's place is taken by
//! a publisher that remembers.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod support;

mod limits;

mod smuggling;

mod peers;

mod http2;

mod half_close;

mod tls;

mod broker;

mod spool;

mod reload;

mod guards;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use sluice_ingest::http::server;
use sluice_schemas::identity::sha256;
use sluice_schemas::raw::Ack;
use support::{BUFFERED, Ingest, Mood, SMALL, Sender, eventually};

/// Paths that are no source's, or lack its token or have it wrong.
pub const NOT_FOUND: &[&str] = &[
    "/v1/hooks/away",
    "/v1/hooks/list",
    "/v1/hooks/list/",
    "/v1/hooks/list/wrong",
    "/v1/hooks/list/t0ken/more",
    "/v1/hooks/keyed",
    "/v1/hooks/site/t0ken",
    "/v1/hooks/nobody/t0ken",
    "/v1/hooks/",
    "/v1/hooks",
    "/",
    "/v1/hooks/Site",
    "/v1/hooks/site%2F",
    "/v1/hooks//",
    "/v1/hooks//site",
    "/v1/hooks/site//",
    "/v1//hooks/site",
    "/v1/h%6foks/site",
    "/v1/hooks%2Fsite",
    "/v1/hooks/list%2Ft0ken",
    "/v1/hooks/list//t0ken",
    "/v1/hooks/list/t0ken//",
    "/v1/hooks/list/t0ken%2F",
    "/v1/hooks/list//",
    "/v1/hooks/list/t0k%2565n",
    "/v1/hooks/s%2569te",
    "/v1/hooks/site%00",
    "/v1/hooks/site%",
    "/v1/hooks/site%6",
    "/v1/hooks/s%6gte",
    "/v1/hooks/s%C3%AFte",
    "/v1/hooks/s%+9te",
    "/v1/hooks/site%3F",
    "/v1/hooks/%2E%2E/site",
];

/// Values of Content-Encoding that name a coding.
pub const CODED: &[&str] = &[
    "gzip",
    "x-gzip",
    "compress",
    "x-compress",
    "deflate",
    "br",
    "zstd",
    "utf-8, gzip",
    "gzip,",
    ", br",
    "identity, gzip",
    "GZIP",
    "identity\r\nContent-Encoding: gzip",
];

/// Values of Content-Encoding that name none.
pub const NOT_CODED: &[&str] = &[
    "identity",
    "Identity",
    "",
    "utf-8",
    "UTF8",
    "none",
    "null",
    "application/json",
    ",",
];

/// Headers that frame a body in more than one way, or in none.
pub const TWO_READINGS: &[&str] = &[
    "content-length: 2\r\ncontent-length: 3",
    "content-length: +2",
    "content-length: 2, 3",
    "transfer-encoding: gzip",
    "transfer-encoding: chunked, identity",
    "content-length: 2\r\ntransfer-encoding: identity",
    "transfer-encoding : chunked",
];

#[test]
fn a_webhook_becomes_a_raw_record_and_200_tells_its_id() {
    let ingest = Ingest::start();
    let head = "POST /v1/hooks/site?a=b HTTP/1.1\r\nWebhook-Id: msg_1\r\nX-Odd: \u{e9}\r\n\
                Cookie: a=b\r\nAuthorization: x\r\nX-Twice: 1\r\nX-Twice: 2";
    let answer = ingest.send(head, b"\xff not JSON");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.headers.contains("content-type: application/json"),
        "{answer:?}"
    );
    let published = ingest.published();
    let [record] = published.as_slice() else {
        panic!("{published:?}")
    };
    let request = &record.request;
    assert_eq!(answer.body, format!("{{\"id\":\"{}\"}}", request.id));
    assert_eq!(request.id.get_version_num(), 7);
    assert_eq!(record.value, b"\xff not JSON");
    assert_eq!(record.key, b"msg_1");
    assert_eq!(
        (request.source.as_str(), request.provider.as_str()),
        ("site", "flowcode")
    );
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/v1/hooks/site?a=b")
    );
    assert_eq!(request.peer.to_string(), "127.0.0.1");
    assert_eq!((request.token, request.ack), (false, Ack::Broker));
    assert_eq!(
        request.headers.all("x-odd").next(),
        Some("\u{e9}".as_bytes())
    );
    let twice: Vec<&[u8]> = request.headers.all("x-twice").collect();
    assert_eq!(twice, [b"1", b"2"]);
    for dropped in ["cookie", "authorization", "connection"] {
        assert_eq!(request.headers.all(dropped).count(), 0, "{dropped}");
    }
    let trace: Vec<&str> = record.traceparent.split('-').collect();
    assert_eq!(
        trace.iter().map(|part| part.len()).collect::<Vec<_>>(),
        [2, 32, 16, 2]
    );
    assert_eq!((trace[0], trace[3]), ("00", "01"));
    let counted = "sluice_ingest_requests_total{source=\"site\",status=\"200\"} 1";
    assert!(ingest.metrics().contains(counted), "{}", ingest.metrics());
}

#[test]
fn any_method_but_post_is_405_source_known_or_not() {
    let ingest = Ingest::start();
    for path in [
        "/v1/hooks/site",
        "/v1/hooks/nobody",
        "/",
        "/v1/hooks/list/t0ken",
    ] {
        for method in ["GET", "PUT", "OPTIONS"] {
            let answer = ingest.send(&format!("{method} {path} HTTP/1.1"), b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.headers.contains("allow: POST"), "{answer:?}");
        }
    }
    assert!(ingest.published().is_empty());
}

#[test]
fn every_404_is_the_same_bytes() {
    let ingest = Ingest::start();
    let unknown = ingest.post("/v1/hooks/nobody", b"{}");
    assert_eq!(unknown.status, 404);
    for path in NOT_FOUND {
        assert_eq!(ingest.post(path, b"{}"), unknown, "{path}");
    }
    for headers in ["X-Key: wrong", "X-Key: k3y\r\nX-Key: k3y"] {
        let head = format!("POST /v1/hooks/keyed HTTP/1.1\r\n{headers}");
        assert_eq!(ingest.send(&head, b"{}"), unknown, "{headers}");
    }
    // 404 comes before what would be said of the request to a source that is there.
    let encoded = "POST /v1/hooks/nobody HTTP/1.1\r\nContent-Encoding: gzip";
    assert_eq!(ingest.send(encoded, &vec![b'x'; 3 << 20]), unknown);
    assert!(ingest.published().is_empty());
    let metrics = ingest.metrics();
    assert!(!metrics.contains("t0k"), "{metrics}");
    for counted in [
        "sluice_ingest_requests_total{source=\"unknown\",status=\"404\"} ",
        "sluice_ingest_requests_total{source=\"list\",status=\"404\"} ",
    ] {
        assert!(metrics.contains(counted), "{metrics}");
    }
    for absent in ["source=\"away\"", "source=\"nobody\""] {
        assert!(!metrics.contains(absent), "{metrics}");
    }
}

#[test]
fn the_right_token_or_header_lets_in_and_is_not_kept() {
    let ingest = Ingest::start();
    assert_eq!(ingest.post("/v1/hooks/list/t0ken?a=b", b"{}").status, 200);
    let head = "POST /v1/hooks/keyed HTTP/1.1\r\nX-Key: k3y";
    assert_eq!(ingest.send(head, b"{}").status, 200);
    let published = ingest.published();
    assert_eq!(published[0].request.target, "/v1/hooks/list?a=b");
    for record in &published {
        assert!(record.request.token);
        assert_eq!(record.request.headers.all("x-key").count(), 0);
        assert!(!format!("{record:?}").contains("t0ken"), "{record:?}");
    }
}

#[test]
fn every_spelling_of_a_path_is_the_same_source() {
    let ingest = Ingest::start();
    let paths = [
        "/v1/hooks/site/",
        "/v1/hooks/s%69te",
        "/v1/hooks/%73%69%74%65/",
        "/v1/hooks/list/t0ken/",
        "/v1/hooks/list/t0k%65n",
        "/v1/hooks/l%69st/%74%30%6b%65%6E/",
        "/v1/hooks/list/t0k%65n/?a=%65",
        "/v1/hooks/list/t0ken?",
    ];
    for path in paths {
        assert_eq!(ingest.post(path, b"{}").status, 200, "{path}");
    }
    let targets: Vec<String> = ingest
        .published()
        .into_iter()
        .map(|one| one.request.target)
        .collect();
    let (site, list) = ("/v1/hooks/site", "/v1/hooks/list");
    let with_query = "/v1/hooks/list?a=%65";
    let empty_query = "/v1/hooks/list?";
    assert_eq!(
        targets,
        [site, site, site, list, list, list, with_query, empty_query]
    );
    // A token with every unreserved character, each of them escaped.
    let token = "Az09-._~";
    let escaped = token
        .bytes()
        .fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let sources = format!(
        "  open: {{provider: referralloop, token_sha256: ['{}']}}",
        support::hex(&sha256(token.as_bytes()))
    );
    let ingest = Ingest::start_tuned(true, support::LIMITS, &sources, |_| ());
    for token in [token, &escaped] {
        let path = format!("/v1/hooks/open/{token}");
        assert_eq!(ingest.post(&path, b"{}").status, 200, "{path}");
    }
    for record in ingest.published() {
        assert_eq!(record.request.target, "/v1/hooks/open");
        let kept = format!("{record:?}").to_lowercase();
        for secret in ["az09", "%41", "%7a"] {
            assert!(!kept.contains(secret), "{record:?}");
        }
    }
}

#[test]
fn a_coded_body_is_415_and_what_names_no_coding_is_taken() {
    let ingest = Ingest::start();
    for coding in CODED {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\nContent-Encoding: {coding}");
        assert_eq!(ingest.send(&head, b"{}").status, 415, "{coding}");
    }
    for coding in NOT_CODED {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\nContent-Encoding: {coding}");
        assert_eq!(ingest.send(&head, b"{}").status, 200, "{coding}");
    }
}

#[test]
fn the_largest_body_passes_and_one_byte_more_is_413() {
    let ingest = Ingest::start();
    assert_eq!(ingest.post("/v1/hooks/small", &[b'x'; SMALL]).status, 200);
    assert_eq!(ingest.published()[0].value.len(), SMALL);
    assert_eq!(
        ingest.post("/v1/hooks/small", &[b'x'; SMALL + 1]).status,
        413
    );
    // By its length alone, before any of it is sent.
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/small HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n");
    assert_eq!(sender.answer().status, 413);
    // The same while it streams.
    for (extra, status) in [(0, 200), (1, 413)] {
        let mut sender = ingest.connect();
        sender.write("POST /v1/hooks/small HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        sender.write("transfer-encoding: chunked\r\n\r\n");
        for _ in 0..SMALL / 64 {
            sender.write(&format!("40\r\n{}\r\n", "x".repeat(64)));
        }
        if extra == 1 {
            sender.write("1\r\nx\r\n");
        }
        sender.write("0\r\n\r\n");
        assert_eq!(sender.answer().status, status);
    }
    let lengths: Vec<usize> = ingest
        .published()
        .iter()
        .map(|one| one.value.len())
        .collect();
    assert_eq!(lengths, [SMALL, SMALL]);
}

#[test]
fn an_empty_body_is_a_body() {
    let ingest = Ingest::start();
    assert_eq!(ingest.post("/v1/hooks/site", b"").status, 200);
    assert_eq!(ingest.published()[0].value, b"");
    assert_eq!(ingest.published()[0].key, sha256(b""));
}

#[test]
fn a_slow_head_is_closed_and_so_is_an_idle_connection() {
    let ingest = Ingest::start();
    for start in ["POST /v1/hooks/si", ""] {
        let mut sender = ingest.connect();
        sender.write(start);
        let since = Instant::now();
        assert_eq!(sender.rest(), b"", "closed without a word");
        assert!(since.elapsed() >= Duration::from_millis(400), "{start:?}");
    }
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    assert!(sender.exactly(15).starts_with("HTTP/1.1 200 OK"));
    let since = Instant::now();
    sender.rest();
    assert!(since.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_slow_body_is_408() {
    let ingest = Ingest::start();
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc");
    let since = Instant::now();
    let answer = sender.answer();
    assert_eq!(answer.status, 408);
    assert!(since.elapsed() < Duration::from_secs(3));
    assert!(ingest.published().is_empty());
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
}

#[test]
fn a_sender_that_goes_mid_body_leaves_nothing() {
    let ingest = Ingest::start();
    for head in [
        "content-length: 10\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut sender = ingest.connect();
        sender.write(&format!(
            "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n{head}"
        ));
        drop(sender);
    }
    eventually("the bytes are given back", || {
        ingest.metrics().contains("sluice_ingest_connections 0")
    });
    assert!(ingest.published().is_empty());
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
}

#[test]
fn a_sender_that_hangs_up_while_it_waits_is_served_all_the_same() {
    let ingest = Ingest::start();
    ingest.mood(Mood::Keep);
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    eventually("the record is published", || ingest.published().len() == 1);
    drop(sender);
    let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
    // Whether somebody still listens is no matter.
    let _ = hold.reply.send(Ok(()));
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_not() {
    let ingest = Ingest::start();
    let smuggled = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    for framing in TWO_READINGS {
        let mut sender = ingest.connect();
        sender.write(&format!(
            "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"
        ));
        sender.write(smuggled);
        let answer = String::from_utf8(sender.rest()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{framing}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: {answer}");
    }
    assert!(ingest.published().is_empty());
    // With both, the chunks are the body (RFC 9112, section 6.3), and nothing after them is read.
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let mut sender = ingest.connect();
        sender.write(&format!(
            "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"
        ));
        sender.write(&format!("2\r\n{{}}\r\n0\r\n\r\n{smuggled}"));
        let answer = String::from_utf8(sender.rest()).unwrap();
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: {answer}");
    }
}

#[test]
fn heads_that_are_too_large_are_refused_by_the_parser() {
    let ingest = Ingest::start();
    let long = "x".repeat(70_000);
    for (head, status) in [
        (
            format!("POST /v1/hooks/{long} HTTP/1.1\r\n\r\n"),
            ["414", "431"],
        ),
        (
            format!("POST / HTTP/1.1\r\nx: {long}\r\n\r\n"),
            ["431", "431"],
        ),
        (
            format!("POST / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)),
            ["431", "431"],
        ),
        ("nonsense\r\n\r\n".to_owned(), ["400", "400"]),
    ] {
        let mut sender = ingest.connect();
        sender.write(&head);
        let answer = String::from_utf8(sender.rest()).unwrap();
        let found = answer.get(9..12).unwrap_or_default();
        assert!(status.contains(&found), "{found} for {}", &head[..20]);
    }
}

#[test]
fn more_than_may_be_held_is_503_until_room_is_made() {
    let ingest = Ingest::start();
    ingest.mood(Mood::Keep);
    let filling = ingest.connect();
    let body = vec![b'x'; BUFFERED - 100];
    let mut first = Sender(filling.0.try_clone().unwrap());
    first.write(&format!(
        "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    first.write_bytes(&body);
    eventually("the record is published", || ingest.published().len() == 1);
    // By its length, before it is sent.
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    sender.write("content-length: 101\r\n\r\n");
    let answer = sender.answer();
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains("retry-after: "), "{answer:?}");
    // As it grows.
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    sender.write("transfer-encoding: chunked\r\n\r\n");
    sender.write(&format!("60\r\n{0}\r\n60\r\n{0}\r\n", "x".repeat(96)));
    assert_eq!(sender.answer().status, 503);
    assert!(
        ingest
            .metrics()
            .contains("sluice_ingest_unavailable_total{reason=\"buffers\"} 2")
    );
    // The sender's own wait ends, and the bytes stay held until the producer lets them go.
    assert!(first.exactly(12).ends_with("503"));
    assert_eq!(ingest.post("/v1/hooks/site", &[b'x'; 101]).status, 503);
    ingest.publisher.kept.lock().unwrap().clear();
    ingest.mood(Mood::Acknowledge);
    assert_eq!(ingest.post("/v1/hooks/site", &[b'x'; 101]).status, 200);
}

#[test]
fn no_acknowledgement_in_time_is_503_in_bounded_time() {
    let ingest = Ingest::start();
    ingest.mood(Mood::Keep);
    let since = Instant::now();
    let answer = ingest.post("/v1/hooks/site", b"{}");
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains("retry-after: "), "{answer:?}");
    assert!(
        (300..1500).contains(&since.elapsed().as_millis()),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn every_fault_of_ours_is_503() {
    let ingest = Ingest::start();
    for mood in [Mood::QueueFull, Mood::TimeOut, Mood::Refuse] {
        ingest.mood(mood);
        let answer = ingest.post("/v1/hooks/site", b"{}");
        assert_eq!(answer.status, 503, "{mood:?}");
        assert!(answer.headers.contains("retry-after: "), "{answer:?}");
        assert_eq!(answer.body, "{\"error\":\"unavailable\"}");
    }
    ingest.mood(Mood::Acknowledge);
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
}

#[test]
fn before_the_topics_are_known_good_requests_are_503_and_others_as_ever() {
    let ingest = Ingest::start_with(false);
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 503);
    assert_eq!(ingest.post("/v1/hooks/nobody", b"{}").status, 404);
    assert_eq!(
        ingest.post("/v1/hooks/small", &[b'x'; SMALL + 1]).status,
        413
    );
    assert!(ingest.published().is_empty());
}

#[test]
fn what_is_open_when_the_end_is_asked_for_is_finished() {
    let ingest = Ingest::start();
    ingest.mood(Mood::Keep);
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    eventually("the record is published", || ingest.published().len() == 1);
    ingest.shutdown.request();
    let since = Instant::now();
    let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
    hold.reply.send(Ok(())).unwrap();
    let answer = sender.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains("connection: close"), "{answer:?}");
    // A moment without any connection is none in which nobody sends here any more.
    std::thread::sleep(server::QUIET / 5);
    ingest.mood(Mood::Acknowledge);
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    eventually("the server has ended", || {
        let thread = ingest.thread.as_ref();
        thread.is_some_and(std::thread::JoinHandle::is_finished)
    });
    assert!(TcpStream::connect(ingest.address).is_err());
    // Nobody came any more, so the balancer's time was not waited for.
    assert!(since.elapsed() < server::GRACE, "{:?}", since.elapsed());
}

#[test]
fn one_connection_carries_many_requests() {
    let ingest = Ingest::start();
    let mut sender = ingest.connect();
    for n in 0..3 {
        sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n");
        sender.write(&n.to_string());
        assert!(sender.exactly(12).ends_with("200"));
        eventually("the record is published", || {
            ingest.published().len() == n + 1
        });
        // The rest of the answer: its head ends with an empty line and its body with a brace.
        while !sender.exactly(1).contains('}') {}
    }
    let values: Vec<Vec<u8>> = ingest
        .published()
        .into_iter()
        .map(|one| one.value)
        .collect();
    assert_eq!(values, [b"0", b"1", b"2"]);
}
