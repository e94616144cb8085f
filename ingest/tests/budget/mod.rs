//! What requests in flight hold: heads and bodies as they come, not as they are announced.

use std::io::Write;
use std::time::Duration;

use crate::http2::{self, PREFACE, frame};
use crate::support::{Ingest, LIMITS, Sender, eventually};

/// With so many bytes for all requests, and for a body of source `site`.
fn holding(bytes: u64, max_body: u64) -> Ingest {
    Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.max_buffered = bytes;
        settings.sources.get_mut("site").unwrap().max_body = max_body;
        settings.ingest.body_timeout = Duration::from_secs(60);
        settings.ingest.header_timeout = Duration::from_secs(60);
    })
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
    eventually("all have begun", || {
        ingest.metrics().contains("sluice_ingest_connections 34")
    });
    std::thread::sleep(Duration::from_millis(100));
    let refused = (0..20)
        .filter(|_| ingest.post("/v1/hooks/site", &[b'x'; 4_096]).status != 200)
        .count();
    assert_eq!(refused, 0, "of 20 good requests to the same source");
    assert!(held(&ingest) < 34 * (4 << 10), "{} bytes", held(&ingest));
    drop(trickle);
}

/// A head of some 15 KiB, for HTTP/2.
fn large_head(path: &str) -> Vec<u8> {
    // `:method: POST`, `:scheme: http`, and the path.
    let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x41, 1, b'x']);
    for n in 0..3 {
        // A literal that is not remembered, with a value of 5,000 bytes.
        block.extend([0, 2, b'x', b'0' + n, 0x7f, 0x89, 0x26]);
        block.extend([b'y'; 5_000]);
    }
    frame(1, 4, 1, &block)
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
        bytes.extend(large_head(path));
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
