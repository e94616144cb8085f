//! HTTP/2, spoken in the clear as a balancer does, and what hostile senders make of it.

use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{Ingest, LIMITS, Mood, Sender, eventually};

/// How HTTP/2 begins, with settings that change nothing.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `:method: POST`, `:scheme: http`, `:path: /`, `:authority: x`, in HPACK.
const HEADERS: &[u8] = &[0x83, 0x86, 0x84, 0x41, 0x01, b'x'];

type Client = SendRequest<Bytes>;

pub fn run<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(what)
}

async fn connect(address: SocketAddr) -> (Client, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (client, tokio::spawn(connection))
}

pub fn post(path: &str) -> Request<()> {
    let uri = format!("http://x{path}");
    Request::post(uri)
        .header("webhook-id", "msg_2")
        .body(())
        .unwrap()
}

/// The answer's status and body.
pub async fn send(client: &mut Client, request: Request<()>, body: &str) -> (StatusCode, String) {
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, mut stream) = ready.send_request(request, false).unwrap();
    stream.send_data(body.to_owned().into(), true).unwrap();
    let answer = answer.await.unwrap();
    let status = answer.status();
    assert!(answer.headers().get("connection").is_none(), "{answer:?}");
    let mut incoming = answer.into_body();
    let mut text = Vec::new();
    while let Some(part) = incoming.data().await {
        text.extend_from_slice(&part.unwrap());
    }
    (status, String::from_utf8(text).unwrap())
}

/// A frame as it goes over the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The kind and the stream of the next frame.
pub fn next_frame(sender: &mut Sender) -> (u8, u32) {
    let mut head = [0; 9];
    sender.0.read_exact(&mut head).expect("a frame");
    let [a, b, c, kind, _, stream @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    sender.0.read_exact(&mut payload).expect("its payload");
    (kind, u32::from_be_bytes(stream))
}

#[test]
fn a_webhook_over_http2_is_the_same_raw_record() {
    let ingest = Ingest::start();
    run(async {
        let (mut client, _connection) = connect(ingest.address).await;
        let (status, body) = send(&mut client, post("/v1/hooks/site?a=b"), "{}").await;
        assert_eq!(status, 200);
        let id = ingest.published()[0].request.id;
        assert_eq!(body, format!("{{\"id\":\"{id}\"}}"));
        for path in ["/v1/hooks/nobody", "/v1/hooks/list/wrong"] {
            assert_eq!(send(&mut client, post(path), "{}").await.0, 404, "{path}");
        }
        let large = "x".repeat(2048);
        assert_eq!(
            send(&mut client, post("/v1/hooks/small"), &large).await.0,
            413
        );
    });
    let published = ingest.published();
    let [record] = published.as_slice() else {
        panic!("{published:?}")
    };
    assert_eq!(record.value, b"{}");
    assert_eq!(record.key, b"msg_2");
    assert_eq!(record.request.target, "/v1/hooks/site?a=b");
    assert_eq!(record.request.peer.to_string(), "127.0.0.1");
}

#[test]
fn too_many_headers_are_431() {
    let ingest = Ingest::start();
    run(async {
        let (mut client, _connection) = connect(ingest.address).await;
        let mut request = post("/v1/hooks/site");
        for _ in 0..100 {
            request.headers_mut().append("x", "y".parse().unwrap());
        }
        assert_eq!(send(&mut client, request, "{}").await.0, 431);
        let mut request = post("/v1/hooks/site");
        let large = "y".repeat(20_000).parse().unwrap();
        request.headers_mut().insert("x", large);
        assert_eq!(send(&mut client, request, "").await.0, 431);
        assert_eq!(send(&mut client, post("/v1/hooks/site"), "{}").await.0, 200);
    });
}

#[test]
fn a_flood_of_useless_frames_is_closed() {
    // A ping, settings, and an empty part of a body on a stream that was never opened.
    for useless in [
        frame(6, 0, 0, &[7; 8]),
        frame(4, 0, 0, &[]),
        frame(8, 0, 0, &[0, 0, 0, 1]),
    ] {
        let ingest = Ingest::start();
        let mut sender = ingest.connect();
        sender.write_bytes(PREFACE);
        eventually("it is closed", || {
            let _ = sender.0.write_all(&useless.repeat(100));
            ingest.shed("overhead")
        });
        assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    }
}

#[test]
fn a_connection_of_refused_requests_alone_gets_goaway() {
    let ingest = Ingest::start();
    run(async {
        let (mut client, connection) = connect(ingest.address).await;
        for _ in 0..100 {
            assert_eq!(
                send(&mut client, post("/v1/hooks/nobody"), "{}").await.0,
                404
            );
        }
        // In good order.
        connection.await.unwrap().unwrap();
    });
    assert!(ingest.shed("refusals"), "{}", ingest.metrics());
}

#[test]
fn bodies_and_many_requests_do_not_count_as_overhead() {
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.max_buffered = 1 << 20;
    });
    run(async {
        let (mut client, _connection) = connect(ingest.address).await;
        let large = "x".repeat(40_000);
        for _ in 0..50 {
            let answer = send(&mut client, post("/v1/hooks/site"), &large).await;
            assert_eq!(answer.0, 200);
        }
    });
    assert!(!ingest.shed("overhead"));
}

#[test]
fn a_sender_that_resets_requests_at_once_is_closed() {
    let ingest = Ingest::start();
    let mut sender = ingest.connect();
    sender.write_bytes(PREFACE);
    let mut stream = 1;
    eventually("it is closed", || {
        let mut many = Vec::new();
        for _ in 0..50 {
            many.extend(frame(1, 4, stream, HEADERS));
            many.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
            stream += 2;
        }
        let _ = sender.0.write_all(&many);
        ingest.shed("resets")
    });
    sender.rest();
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    assert_eq!(ingest.published().len(), 1);
}

#[test]
fn a_sender_that_resets_requests_in_flight_is_closed() {
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.max_buffered = 1 << 20;
    });
    ingest.mood(Mood::Keep);
    run(async {
        let (client, connection) = connect(ingest.address).await;
        for sent in 1.. {
            let Ok(mut ready) = client.clone().ready().await else {
                break;
            };
            let Ok((_answer, mut stream)) = ready.send_request(post("/v1/hooks/site"), false)
            else {
                break;
            };
            if stream.send_data("{}".into(), true).is_err() {
                break;
            }
            // The next is asked only when this one waits for its acknowledgement.
            while ingest.published().len() < sent && !connection.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(sent < 200, "it goes on for ever");
            stream.send_reset(h2::Reason::CANCEL);
        }
        drop(client);
        // In which words is no matter.
        let _ = connection.await.unwrap();
    });
    assert!(ingest.shed("resets"), "{}", ingest.metrics());
    ingest.mood(Mood::Acknowledge);
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
}

/// Begins a body on a stream of its own and resets the stream with this code.
async fn reset_in_body(client: &mut Client, request: Request<()>, code: h2::Reason) -> bool {
    let Ok(mut ready) = client.clone().ready().await else {
        return false;
    };
    let Ok((_answer, mut stream)) = ready.send_request(request, false) else {
        return false;
    };
    let sent = stream.send_data("abc".into(), false).is_ok();
    // The request is begun before it is reset.
    tokio::time::sleep(Duration::from_millis(2)).await;
    stream.send_reset(code);
    sent
}

fn broken_off_in_body(ingest: &Ingest, count: usize) -> bool {
    let name = "sluice_ingest_requests_broken_off_total{source=\"site\",at=\"body\"}";
    ingest.metrics().contains(&format!("{name} {count}\n"))
}

#[test]
fn a_sender_that_resets_bodies_is_closed() {
    for code in [h2::Reason::CANCEL, h2::Reason::NO_ERROR] {
        let ingest = Ingest::start();
        run(async {
            let (mut client, connection) = connect(ingest.address).await;
            for sent in 1.. {
                if !reset_in_body(&mut client, post("/v1/hooks/site"), code).await {
                    break;
                }
                while !broken_off_in_body(&ingest, sent) && !connection.is_finished() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                assert!(sent < 200, "{code:?}: {sent} resets, not closed");
            }
            drop(client);
            let _ = connection.await.unwrap();
        });
        assert!(ingest.shed("resets"), "{code:?}: {}", ingest.metrics());
        assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
        assert_eq!(ingest.published().len(), 1, "{code:?}");
    }
}

#[test]
fn a_body_that_is_reset_without_an_error_is_not_published() {
    let ingest = Ingest::start_under("");
    run(async {
        let (mut client, _connection) = connect(ingest.address).await;
        for announced in [None, Some("10")] {
            let mut request = post("/v1/hooks/site");
            if let Some(length) = announced {
                let headers = request.headers_mut();
                headers.insert("content-length", length.parse().unwrap());
            }
            assert!(reset_in_body(&mut client, request, h2::Reason::NO_ERROR).await);
        }
        while !broken_off_in_body(&ingest, 2) {
            assert_eq!(ingest.published().len(), 0, "{:?}", ingest.published());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // One with trailers is whole.
        let mut ready = client.ready().await.unwrap();
        let (answer, mut stream) = ready.send_request(post("/v1/hooks/site"), false).unwrap();
        stream.send_data("{}".into(), false).unwrap();
        stream.send_trailers(hyper::HeaderMap::new()).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
    });
    let values: Vec<Vec<u8>> = ingest.published().into_iter().map(|r| r.value).collect();
    assert_eq!(values, [b"{}"]);
}

#[test]
fn a_head_that_never_ends_is_closed() {
    let ingest = Ingest::start();
    let mut sender = ingest.connect();
    sender.write_bytes(PREFACE);
    // HEADERS without END_HEADERS, then CONTINUATION after CONTINUATION.
    sender.write_bytes(&frame(1, 0, 1, HEADERS));
    let more = frame(9, 0, 1, &[0x00, 0x01, b'a', 0x01, b'b'].repeat(2000)).repeat(10);
    let mut writer = sender.0.try_clone().unwrap();
    let mut sent = 0;
    while writer.write_all(&more).is_ok() {
        sent += more.len();
        assert!(sent < 64 << 20, "it goes on for ever");
    }
    sender.rest();
    eventually("it is closed", || {
        ingest.metrics().contains("sluice_ingest_connections 0")
    });
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    assert_eq!(ingest.published().len(), 1);
}

#[test]
fn a_connection_without_requests_is_ended_whatever_frames_it_sends() {
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        // What it may take to end in good order.
        settings.ingest.limits.write_timeout = Duration::from_millis(200);
    });
    let sender = ingest.connect();
    let mut writer = sender.0.try_clone().unwrap();
    writer.write_all(PREFACE).unwrap();
    eventually("it is closed", || {
        // PING.
        let _ = writer.write_all(&frame(6, 0, 0, &[0; 8]));
        ingest.shed("first_byte") && ingest.metrics().contains("sluice_ingest_connections 0")
    });
}

#[test]
fn an_answer_that_may_not_be_sent_ends_with_the_connection() {
    let ingest = Ingest::start_tuned(true, "", "", |settings| {
        settings.ingest.limits.idle_timeout = Duration::from_millis(200);
        settings.ingest.limits.write_timeout = Duration::from_millis(200);
    });
    let mut sender = ingest.connect();
    sender.write_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS_INITIAL_WINDOW_SIZE 0: no body may be sent to us.
    sender.write_bytes(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    sender.write_bytes(&frame(1, 5, 1, HEADERS));
    sender.rest();
    eventually("it is closed", || {
        ingest.metrics().contains("sluice_ingest_connections 0")
    });
    assert!(ingest.shed("idle"), "{}", ingest.metrics());
}

#[test]
fn an_old_connection_gets_goaway_and_its_requests_are_answered() {
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.limits.connection_age = Duration::ZERO;
    });
    ingest.mood(Mood::Keep);
    run(async {
        let (client, connection) = connect(ingest.address).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (answer, mut stream) = ready.send_request(post("/v1/hooks/site"), false).unwrap();
        stream.send_data("{}".into(), true).unwrap();
        while !ingest.shed("age") || ingest.published().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
        hold.reply.send(Ok(crate::support::DELIVERED)).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        drop((client, ready));
        connection.await.unwrap().unwrap();
    });
}
