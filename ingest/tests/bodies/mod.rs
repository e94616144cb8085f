//! Bodies, slow and gone senders, answers where Ingest cannot persist a request, and the end.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use sluice_ingest::http::server;
use sluice_schemas::identity::sha256;

use crate::support::{BUFFERED, Ingest, Mood, SMALL, Sender, eventually};

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
    assert_eq!(ingest.limited("body_timeout"), 1);
    assert!(since.elapsed() < Duration::from_secs(3));
    assert!(ingest.published().is_empty());
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
}

#[test]
fn a_sender_that_closes_within_the_body_leaves_nothing() {
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
fn a_request_is_served_although_its_sender_hangs_up() {
    let ingest = Ingest::start();
    ingest.mood(Mood::Keep);
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    eventually("the record is published", || ingest.published().len() == 1);
    drop(sender);
    let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
    // Whether the receiver is still there does not matter.
    let _ = hold.reply.send(Ok(crate::support::DELIVERED));
}

#[test]
fn a_full_byte_budget_is_503_until_bytes_are_released() {
    let ingest = Ingest::start();
    ingest.mood(Mood::Keep);
    let filling = ingest.connect();
    // Of what is left, a head takes more than half.
    let body = vec![b'x'; BUFFERED - 6 * 1024];
    let mut first = Sender(filling.0.try_clone().unwrap());
    first.write(&format!(
        "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    first.write_bytes(&body);
    eventually("the record is published", || ingest.published().len() == 1);
    // By its head, before its body is sent.
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    sender.write(&format!("x: {}\r\n", "y".repeat(2_048)));
    sender.write("content-length: 101\r\n\r\n");
    let answer = sender.answer();
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains("retry-after: "), "{answer:?}");
    // As it grows.
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    sender.write("transfer-encoding: chunked\r\n\r\n");
    sender.write(&format!(
        "400\r\n{0}\r\n400\r\n{0}\r\n400\r\n{0}\r\n",
        "x".repeat(1024)
    ));
    assert_eq!(sender.answer().status, 503);
    assert!(
        ingest
            .metrics()
            .contains("sluice_ingest_unavailable_total{reason=\"buffers\"} 2")
    );
    assert_eq!(ingest.limited("max_buffered"), 2);
    // The sender's own wait ends, and the bytes stay held until the producer lets them go.
    assert!(first.exactly(12).ends_with("503"));
    assert_eq!(ingest.post("/v1/hooks/site", &[b'x'; 4096]).status, 503);
    ingest.publisher.kept.lock().unwrap().clear();
    ingest.mood(Mood::Acknowledge);
    assert_eq!(ingest.post("/v1/hooks/site", &[b'x'; 4096]).status, 200);
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
fn open_requests_are_finished_at_shutdown() {
    let ingest = Ingest::start();
    ingest.mood(Mood::Keep);
    let mut sender = ingest.connect();
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    eventually("the record is published", || ingest.published().len() == 1);
    ingest.shutdown.cancel();
    let since = Instant::now();
    let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
    hold.reply.send(Ok(crate::support::DELIVERED)).unwrap();
    let answer = sender.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains("connection: close"), "{answer:?}");
    // A moment without a connection does not end the grace period.
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
