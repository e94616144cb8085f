//! What requests in flight hold: heads and bodies as they come, not as they are announced.

use std::io::Write;
use std::time::Duration;

use sluice_ingest::config::Config;
use sluice_schemas::settings::Settings;

use crate::http2::{self, PREFACE, frame};
use crate::support::{Ingest, LIMITS, Mood, Sender, eventually, settings};

/// With so many bytes for all requests, and for a body of source `site`.
fn holding(bytes: u64, max_body: u64) -> Ingest {
    Ingest::start_on(&sized(bytes, max_body), true)
}

fn sized(bytes: u64, max_body: u64) -> Settings {
    let mut settings = settings(LIMITS, "");
    settings.ingest.max_buffered = bytes;
    settings.sources.get_mut("site").unwrap().max_body = max_body;
    settings.ingest.body_timeout = Duration::from_secs(60);
    settings.ingest.header_timeout = Duration::from_secs(60);
    settings
}

fn held(ingest: &Ingest) -> u64 {
    ingest.receiver.count_buffered();
    ingest.value("sluice_ingest_buffered_bytes")
}

#[test]
fn what_is_announced_and_does_not_come_keeps_nobody_out() {
    // A source may hold half of it: 4 of its largest bodies.
    let ingest = holding(8 << 20, 1 << 20);
    let trickle: Vec<Sender> = (0..34)
        .map(|_| {
            let mut sender = ingest.connect();
            sender.write(
                "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 1048576\r\n\r\n",
            );
            sender.write("abc");
            sender
        })
        .collect();
    // Each is charged for its head.
    eventually("all have begun", || held(&ingest) > 34 * (2 << 10));
    let refused = (0..20)
        .filter(|_| ingest.post("/v1/hooks/site", &[b'x'; 4_096]).status != 200)
        .count();
    assert_eq!(refused, 0, "of 20 good requests to the same source");
    assert!(held(&ingest) < 34 * (4 << 10), "{} bytes", held(&ingest));
    drop(trickle);
}

#[test]
fn a_change_of_the_settings_gives_a_source_no_second_share() {
    // Half of it for one source.
    let ingest = holding(8 << 20, 1 << 20);
    let mut open = Vec::new();
    let body = vec![b'x'; (1 << 20) - 1];
    while open.len() < 3 {
        let mut sender = ingest.connect();
        sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 1048576\r\n\r\n");
        sender.0.write_all(&body).unwrap();
        open.push(sender);
        let wanted = (open.len() as u64) << 20;
        eventually("it is held", || held(&ingest) >= wanted);
    }
    let full = |ingest: &Ingest| ingest.post("/v1/hooks/site", &body).status == 503;
    assert!(full(&ingest));
    // Another share is in force at once, and counts what is held already.
    for (bytes, is_full) in [(8, true), (32, false), (8, true)] {
        let changed = sized(bytes << 20, 1 << 20);
        ingest.receiver.configure(Config::new(&changed));
        assert_eq!(full(&ingest), is_full, "{bytes} MiB");
    }
}

/// A head of some 15 KiB, for HTTP/2.
fn large_head(path: &str, stream: u32) -> Vec<u8> {
    // `:method: POST`, `:scheme: http`, and the path.
    let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x41, 1, b'x']);
    for n in 0..3 {
        // A literal that is not remembered, with a value of 5,000 bytes.
        block.extend([0, 2, b'x', b'0' + n, 0x7f, 0x89, 0x26]);
        block.extend([b'y'; 5_000]);
    }
    frame(1, 4, stream, &block)
}

#[test]
fn heads_whose_bodies_do_not_come_are_bounded() {
    // Each protocol in its turn: heads of some 15 KiB that are held, and there is room for 17.
    let value = "y".repeat(5_000);
    let lines = format!("x0: {value}\r\nx1: {value}\r\nx2: {value}\r\n");
    let http1 = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\n{lines}content-length: 9\r\n\r\n").into_bytes()
    };
    let http2 = |path: &str| {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(large_head(path, 1));
        bytes
    };
    for head in [http1("/v1/hooks/site"), http2("/v1/hooks/site")] {
        let ingest = holding(512 << 10, 64 << 10);
        let mut open = Vec::new();
        for _ in 0..40 {
            let sender = ingest.connect();
            sender.0.try_clone().unwrap().write_all(&head).unwrap();
            open.push(sender);
        }
        let full = "sluice_ingest_unavailable_total{reason=\"source_buffers\"}";
        eventually("heads are refused", || ingest.value(full) > 0);
        // Half of all is the most that one source holds.
        let held = held(&ingest);
        assert!((200 << 10..=256 << 10).contains(&held), "{held} bytes");
        // Another source is answered, and what is not authorized holds nothing.
        assert_eq!(ingest.post("/v1/hooks/small", b"{}").status, 200);
        drop(open);
        eventually("all is given back", || {
            ingest.receiver.count_buffered();
            ingest.value("sluice_ingest_buffered_bytes") == 0
        });
        assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    }
}

#[test]
fn a_request_that_is_refused_holds_no_head() {
    let ingest = holding(512 << 10, 64 << 10);
    let value = "y".repeat(15_000);
    let open: Vec<Sender> = ["POST /v1/hooks/nobody", "PUT /v1/hooks/site"]
        .repeat(20)
        .into_iter()
        .map(|line| {
            let mut sender = ingest.connect();
            sender.write(&format!(
                "{line} HTTP/1.1\r\nhost: x\r\nx: {value}\r\ncontent-length: 9\r\n\r\n"
            ));
            sender
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(held(&ingest), 0);
    drop(open);
}

#[test]
fn the_largest_body_fits_with_the_largest_head() {
    // As much as one body is all that may be held: such settings were good before heads counted.
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.max_buffered = 1 << 20;
        for source in settings.sources.values_mut() {
            source.max_body = 1 << 20;
        }
        settings.ingest.body_timeout = Duration::from_secs(60);
    });
    let largest = vec![b'x'; 1 << 20];
    let head = format!("POST /v1/hooks/site HTTP/1.1\r\nx: {}", "y".repeat(60_000));
    let answer = ingest.send(&head, &largest);
    assert_eq!(answer.status, 200, "{}", ingest.metrics());
    http2::run(async {
        let stream = tokio::net::TcpStream::connect(ingest.address)
            .await
            .unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let body = "x".repeat(1 << 20);
        let mut ready = client.clone().ready().await.unwrap();
        let post = http2::post("/v1/hooks/site");
        let (answer, mut stream) = ready.send_request(post, false).unwrap();
        stream.send_data(body.into(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        let _ = &mut client;
    });
}

/// `:method: POST`, `:scheme: http`, `:path: /v1/hooks/site`, `:authority: x`, none of which is remembered.
fn begun() -> Vec<u8> {
    let path = b"/v1/hooks/site";
    let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path);
    block.extend([0x01, 1, b'x']);
    block
}

#[test]
fn heads_that_are_references_do_not_fill_a_source() {
    // A source may hold 4 MiB: 10 connections of 32 heads of 18 KiB are more.
    let ingest = holding(8 << 20, 1 << 20);
    let mut first = begun();
    // A literal of 3,930 bytes that is remembered, and then references to it.
    first.extend([0x40, 1, b'x', 0x7f, 0xdb, 0x1d]);
    first.extend([b'y'; 3_930]);
    first.extend([0xbe; 3]);
    let further = [begun(), vec![0xbe; 4]].concat();
    let mut bytes = [PREFACE, &frame(1, 4, 1, &first)].concat();
    for stream in (3..64).step_by(2) {
        bytes.extend(frame(1, 4, stream, &further));
    }
    let open: Vec<Sender> = (0..10)
        .map(|_| {
            let mut sender = ingest.connect();
            sender.write_bytes(&bytes);
            sender
        })
        .collect();
    let full = "sluice_ingest_unavailable_total{reason=\"source_buffers\"}";
    eventually("heads are refused", || ingest.value(full) > 0);
    std::thread::sleep(Duration::from_millis(200));
    let answer = ingest.post("/v1/hooks/site", b"{}");
    assert_eq!(answer.status, 200, "{} bytes are held", held(&ingest));
    // 256 KiB each, and some of it is left over.
    let held = held(&ingest);
    assert!((2 << 20..=10 * (256 << 10)).contains(&held), "{held} bytes");
    drop(open);
    eventually("all is given back", || {
        ingest.receiver.count_buffered();
        ingest.value("sluice_ingest_buffered_bytes") == 0
    });
}

#[test]
fn as_many_heads_of_4_kib_as_streams_fit_a_connection() {
    let ingest = holding(8 << 20, 1 << 20);
    ingest.mood(Mood::Keep);
    let mut bytes = PREFACE.to_vec();
    for stream in (1..64).step_by(2) {
        let mut block = begun();
        // 20 literals that are not remembered, with values of 200 bytes.
        for n in 0..20 {
            block.extend([0, 2, b'x', b'a' + n, 0x7f, 73]);
            block.extend([b'y'; 200]);
        }
        bytes.extend(frame(1, 4, stream, &block));
        bytes.extend(frame(0, 1, stream, b"{}"));
    }
    let mut sender = ingest.connect();
    sender.write_bytes(&bytes);
    eventually("all are published", || ingest.published().len() == 32);
}

#[test]
fn bodies_behind_answers_of_503_do_not_end_an_http2_connection() {
    let ingest = holding(512 << 10, 64 << 10);
    let head = large_head("/v1/hooks/site", 1);
    let open: Vec<Sender> = (0..40)
        .map(|_| {
            let mut sender = ingest.connect();
            sender.write_bytes(PREFACE);
            sender.write_bytes(&head);
            sender
        })
        .collect();
    let full = "sluice_ingest_unavailable_total{reason=\"source_buffers\"}";
    eventually("heads are refused", || ingest.value(full) > 0);
    let mut sender = ingest.connect();
    sender.write_bytes(PREFACE);
    for first in (1..400).step_by(40) {
        let streams = || (first..first + 40).step_by(2);
        for stream in streams() {
            sender.write_bytes(&large_head("/v1/hooks/site", stream));
        }
        // Their bodies are on the way when they are answered.
        std::thread::sleep(Duration::from_millis(40));
        for stream in streams() {
            sender.write_bytes(&frame(0, 1, stream, b"{}"));
        }
    }
    let mut answers = 0;
    while answers < 200 {
        let (kind, stream) = http2::next_frame(&mut sender);
        assert_ne!(kind, 7, "GOAWAY after {answers} answers, stream {stream}");
        answers += usize::from(kind == 1);
    }
    drop(open);
}
