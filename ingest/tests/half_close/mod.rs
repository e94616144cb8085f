//! Senders that end their side of the connection, or all of it, right behind a request.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::http2::{PREFACE, frame};
use crate::support::{Ingest, Mood, eventually};
use crate::tls::{Authority, Stream, connect, serving};

/// Connections of each kind.
const MANY: usize = 25;

/// A small body, and one that does not fit into one read, in bytes.
const SIZES: [usize; 2] = [300, 200_000];

/// A small body, and one that fits into the window of an HTTP/2 connection, in bytes.
const H2_SIZES: [usize; 2] = [300, 60_000];

/// Room and time for many large bodies at once.
fn start(more: &str) -> Ingest {
    Ingest::start_tuned(true, more, "", |settings| {
        settings.ingest.max_buffered = 64 << 20;
        settings.ingest.body_timeout = Duration::from_secs(5);
        settings.ingest.ack_timeout = Duration::from_secs(5);
    })
}

fn request(size: usize) -> Vec<u8> {
    let head = format!("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes
}

/// The head of a request over HTTP/2, as the payload of a HEADERS frame.
fn h2_head() -> Vec<u8> {
    let path = b"/v1/hooks/site";
    // `:method: POST`, `:scheme: http`, `:path` and `:authority: x`, in HPACK.
    let mut head = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path);
    head.extend([0x01, 0x01, b'x']);
    head
}

/// A whole request over HTTP/2 on this stream.
fn h2_request(stream: u32, size: usize) -> Vec<u8> {
    let mut bytes = frame(1, 4, stream, &h2_head());
    let body = vec![b'x'; size];
    let parts: Vec<&[u8]> = body.chunks(16_000).collect();
    for (index, part) in parts.iter().enumerate() {
        let last = u8::from(index + 1 == parts.len());
        bytes.extend(frame(0, last, stream, part));
    }
    bytes
}

/// How many answers 200 there are among the frames of HTTP/2.
fn h2_accepted(mut frames: &[u8]) -> usize {
    let mut accepted = 0;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        // HEADERS whose first field is `:status: 200`.
        accepted += usize::from(*kind == 1 && rest[0] == 0x88);
        frames = &rest[length..];
    }
    accepted
}

fn all_are_published(ingest: &Ingest, what: &str, count: usize, size: usize) {
    let since = Instant::now();
    while ingest.published().len() < count && since.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ingest.published().len(), count, "{what}, {size} bytes");
    for record in ingest.published() {
        assert_eq!(record.value.len(), size, "{what}");
    }
    let counted =
        format!("sluice_ingest_requests_total{{source=\"site\",status=\"200\"}} {count}\n");
    eventually("all are counted", || ingest.metrics().contains(&counted));
}

fn metric(ingest: &Ingest, line: &str) {
    eventually(line, || ingest.metrics().contains(&format!("{line}\n")));
}

/// Everything until the connection ends, and how long that took.
fn rest(mut from: impl Read) -> (Vec<u8>, Duration) {
    let (since, mut bytes) = (Instant::now(), Vec::new());
    let _ = from.read_to_end(&mut bytes);
    (bytes, since.elapsed())
}

#[test]
fn a_whole_request_is_accepted_when_its_sender_closes_at_once() {
    for size in SIZES {
        let ingest = start("");
        for _ in 0..MANY {
            let mut sender = ingest.connect();
            sender.write_bytes(&request(size));
            drop(sender);
        }
        all_are_published(&ingest, "plain", MANY, size);
    }
}

#[test]
fn a_whole_request_over_tls_is_accepted_when_its_sender_closes_at_once() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let yaml = serving(&dir, &authority);
    let config = authority.trusted_by(None, b"http/1.1");
    for size in SIZES {
        // With close_notify and without.
        for notify in [true, false] {
            let ingest = start(&yaml);
            for _ in 0..MANY {
                let mut stream = connect(&ingest, &config);
                stream.write_all(&request(size)).unwrap();
                if notify {
                    stream.conn.send_close_notify();
                }
                stream.flush().unwrap();
            }
            all_are_published(&ingest, "TLS", MANY, size);
        }
    }
}

#[test]
fn a_half_closed_sender_gets_its_answer() {
    for size in SIZES {
        let ingest = start("");
        let senders: Vec<TcpStream> = (0..MANY)
            .map(|_| {
                let mut sender = ingest.connect();
                sender.write_bytes(&request(size));
                sender.0.shutdown(Shutdown::Write).unwrap();
                sender.0
            })
            .collect();
        for sender in senders {
            let (answer, _) = rest(sender);
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{size}: {answer:?}");
        }
        all_are_published(&ingest, "half-closed", MANY, size);
    }
}

#[test]
fn a_half_closed_sender_gets_its_answer_over_tls() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let yaml = serving(&dir, &authority);
    let config = authority.trusted_by(None, b"http/1.1");
    for size in SIZES {
        let ingest = start(&yaml);
        let senders: Vec<Stream> = (0..MANY)
            .map(|_| {
                let mut stream = connect(&ingest, &config);
                stream.write_all(&request(size)).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                stream.sock.shutdown(Shutdown::Write).unwrap();
                stream
            })
            .collect();
        for sender in senders {
            let (answer, _) = rest(sender);
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{size}: {answer:?}");
        }
        all_are_published(&ingest, "half-closed", MANY, size);
    }
}

#[test]
fn a_half_closed_sender_is_waited_for_as_long_as_the_brokers_take() {
    let ingest = start("");
    ingest.mood(Mood::Keep);
    let mut one = ingest.connect();
    one.write_bytes(&request(2));
    one.0.shutdown(Shutdown::Write).unwrap();
    let mut two = ingest.connect();
    two.write_bytes(PREFACE);
    two.write_bytes(&h2_request(1, 2));
    two.0.shutdown(Shutdown::Write).unwrap();
    eventually("both are published", || ingest.published().len() == 2);
    std::thread::sleep(Duration::from_millis(100));
    // They count among the connections like any other.
    metric(&ingest, "sluice_ingest_connections 2");
    for hold in ingest.publisher.kept.lock().unwrap().drain(..) {
        hold.reply.send(Ok(crate::support::DELIVERED)).unwrap();
    }
    assert!(rest(one.0).0.starts_with(b"HTTP/1.1 200"));
    assert_eq!(h2_accepted(&rest(two.0).0), 1);
    metric(&ingest, "sluice_ingest_connections 0");
}

#[test]
fn whole_requests_over_http2_are_accepted_when_their_sender_closes_at_once() {
    let goaway = frame(7, 0, 0, &[0; 8]);
    for size in H2_SIZES {
        for farewell in [&[][..], &goaway] {
            let ingest = start("");
            for _ in 0..MANY {
                let mut sender = ingest.connect();
                sender.write_bytes(&[PREFACE, &h2_request(1, size), farewell].concat());
                drop(sender);
            }
            all_are_published(&ingest, "HTTP/2", MANY, size);
        }
    }
    // Several at once on a connection.
    let ingest = start("");
    let mut sender = ingest.connect();
    let many: Vec<u8> = (0..20).flat_map(|n| h2_request(2 * n + 1, 300)).collect();
    sender.write_bytes(&[PREFACE, &many].concat());
    drop(sender);
    all_are_published(&ingest, "HTTP/2, one connection", 20, 300);
}

#[test]
fn half_closed_senders_get_their_answers_over_http2() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let yaml = serving(&dir, &authority);
    let config = authority.trusted_by(None, b"h2");
    for size in H2_SIZES {
        let ingest = start("");
        for _ in 0..MANY {
            let mut sender = ingest.connect();
            sender.write_bytes(&[PREFACE, &h2_request(1, size)].concat());
            sender.0.shutdown(Shutdown::Write).unwrap();
            assert_eq!(h2_accepted(&rest(sender.0).0), 1, "{size}");
        }
        all_are_published(&ingest, "HTTP/2", MANY, size);
        let ingest = start(&yaml);
        for _ in 0..MANY {
            let mut stream = connect(&ingest, &config);
            let bytes = [PREFACE, &h2_request(1, size)].concat();
            stream.write_all(&bytes).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            stream.sock.shutdown(Shutdown::Write).unwrap();
            assert_eq!(h2_accepted(&rest(stream).0), 1, "TLS, {size}");
        }
        all_are_published(&ingest, "HTTP/2 over TLS", MANY, size);
    }
}

#[test]
fn pipelined_requests_are_accepted_when_their_sender_closes_at_once() {
    let ingest = start("");
    let mut sender = ingest.connect();
    sender.write_bytes(&request(300).repeat(20));
    drop(sender);
    all_are_published(&ingest, "pipelined", 20, 300);
}

#[test]
fn a_half_closed_connection_with_nothing_in_flight_ends_at_once() {
    let ingest = start("");
    for begun in [&b""[..], PREFACE, &request(2), b"POST /v1/ho", b"PRI * H"] {
        let mut sender = ingest.connect();
        sender.write_bytes(begun);
        std::thread::sleep(Duration::from_millis(50));
        sender.0.shutdown(Shutdown::Write).unwrap();
        let (_, took) = rest(sender.0);
        assert!(took < Duration::from_millis(300), "{begun:?}: {took:?}");
    }
    metric(&ingest, "sluice_ingest_connections 0");
}

#[test]
fn a_connection_without_a_window_for_its_answer_ends_soon_after_its_input() {
    let ingest = Ingest::start_tuned(true, "", "", |settings| {
        settings.ingest.limits.write_timeout = Duration::from_millis(300);
    });
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the answer's body waits for a window that cannot come any more.
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let bytes = [PREFACE, &no_window, &h2_request(1, 300)].concat();
    let mut closed = ingest.connect();
    closed.write_bytes(&bytes);
    drop(closed);
    all_are_published(&ingest, "closed", 1, 300);
    metric(&ingest, "sluice_ingest_connections 0");
    let mut half_closed = ingest.connect();
    half_closed.write_bytes(&bytes);
    half_closed.0.shutdown(Shutdown::Write).unwrap();
    let (frames, took) = rest(half_closed.0);
    assert_eq!(h2_accepted(&frames), 1, "its head is sent");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(ingest.shed("slow_read"), "{}", ingest.metrics());
}

#[test]
fn a_body_that_its_sender_ends_early_is_counted_and_leaves_nothing() {
    let ingest = start("");
    let head = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n";
    for framing in [
        "content-length: 10\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut sender = ingest.connect();
        sender.write(&format!("{head}{framing}"));
        drop(sender);
    }
    // HEADERS and a part of the body, next to a whole request.
    let part = [frame(1, 4, 3, &h2_head()), frame(0, 0, 3, b"abc")].concat();
    let mut sender = ingest.connect();
    sender.write_bytes(&[PREFACE, &h2_request(1, 300), &part].concat());
    sender.0.shutdown(Shutdown::Write).unwrap();
    let (frames, took) = rest(sender.0);
    assert_eq!(h2_accepted(&frames), 1);
    assert!(took < Duration::from_secs(2), "{took:?}");
    // And one that is taken back.
    let mut sender = ingest.connect();
    let reset = frame(3, 0, 3, &[0, 0, 0, 8]);
    sender.write_bytes(&[PREFACE, &part].concat());
    std::thread::sleep(Duration::from_millis(50));
    sender.write_bytes(&reset);
    metric(
        &ingest,
        "sluice_ingest_requests_broken_off_total{source=\"site\",at=\"body\"} 4",
    );
    drop(sender);
    all_are_published(&ingest, "the whole one", 1, 300);
    assert!(!ingest.metrics().contains("status=\"400\""));
}

#[test]
fn a_head_that_breaks_off_is_counted_and_so_is_one_that_is_malformed() {
    let ingest = start("");
    for begun in ["POST /v1/ho", "POST / HTTP/1.1\r\nhost: x\r\n"] {
        let mut sender = ingest.connect();
        sender.write(begun);
        drop(sender);
    }
    metric(
        &ingest,
        "sluice_ingest_requests_broken_off_total{source=\"unknown\",at=\"head\"} 2",
    );
    for (head, status) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (
            format!("POST / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(70_000)),
            "431",
        ),
    ] {
        let mut sender = ingest.connect();
        sender.write(&head);
        sender.rest();
        metric(
            &ingest,
            &format!("sluice_ingest_requests_total{{source=\"unknown\",status=\"{status}\"}} 1"),
        );
    }
    // Nothing was sent, or only what a request does not begin with.
    for nothing in ["", "\r\n"] {
        let mut sender = ingest.connect();
        sender.write(nothing);
        drop(sender);
    }
    metric(&ingest, "sluice_ingest_connections 0");
    let counted = "sluice_ingest_requests_broken_off_total{source=\"unknown\",at=\"head\"} 2\n";
    assert!(ingest.metrics().contains(counted), "{}", ingest.metrics());
}

#[test]
fn a_request_that_is_reset_before_its_answer_is_counted() {
    let ingest = start("");
    ingest.mood(Mood::Keep);
    let mut sender = ingest.connect();
    sender.write_bytes(&[PREFACE, &h2_request(1, 300)].concat());
    eventually("it is published", || ingest.published().len() == 1);
    sender.write_bytes(&frame(3, 0, 1, &[0, 0, 0, 8]));
    metric(
        &ingest,
        "sluice_ingest_requests_broken_off_total{source=\"site\",at=\"answer\"} 1",
    );
}
