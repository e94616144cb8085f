//! At the bound of connections: which one ends for the one that comes, and which do not.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use sluice_ingest::config::Config;
use sluice_schemas::settings::Settings;
use tokio::net::TcpStream;

use crate::http2::{self, PREFACE, frame};
use crate::peers::proxied;
use crate::support::{self, Ingest, Mood, Sender, eventually};

const GOOD: &str = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

/// A stranger's: refused, and kept open.
const REFUSED: &str = "POST /v1/hooks/nobody HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";

/// How long a new sender waits here for its answer. The limits of the tests are far longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// After this, a connection has had its time to make a request.
const YOUTH: Duration = Duration::from_millis(1_200);

fn limits(connections: usize) -> String {
    format!("  limits: {{connections: {connections}, first_byte_timeout: 1h, idle_timeout: 1h}}")
}

/// With limits that end nothing in the time of a test, this one apart.
fn bounded(connections: usize) -> Ingest {
    under(&limits(connections))
}

fn under(more: &str) -> Ingest {
    Ingest::start_tuned(true, more, "", patient)
}

fn patient(settings: &mut Settings) {
    settings.ingest.header_timeout = Duration::from_secs(3_600);
    settings.ingest.body_timeout = Duration::from_secs(3_600);
    settings.ingest.ack_timeout = Duration::from_secs(60);
}

/// Puts another bound in force.
fn reload(ingest: &Ingest, connections: usize) {
    let mut settings = support::settings(&limits(connections), "");
    patient(&mut settings);
    ingest.receiver.configure(Config::new(&settings));
}

/// Sends a request and reads its answer; the status.
fn asked(sender: &mut Sender, request: &str) -> u16 {
    sender.write(request);
    let status = sender.exactly(12)[9..].parse().unwrap();
    while !sender.exactly(1).contains('}') {}
    status
}

/// The status of a request on a connection of its own, where it came in time.
fn answered(ingest: &Ingest, before: &[u8]) -> Option<u16> {
    let mut sender = ingest.connect();
    sender.0.set_read_timeout(Some(PATIENCE)).unwrap();
    sender.write_bytes(before);
    sender.write(&GOOD.replace("host: x", "host: x\r\nconnection: close"));
    let mut status = [0; 12];
    sender.0.read_exact(&mut status).ok()?;
    String::from_utf8_lossy(&status[9..]).parse().ok()
}

/// Whether a connection ended, waiting a moment for that.
fn ended(sender: &mut Sender) -> bool {
    let moment = Some(Duration::from_millis(100));
    sender.0.set_read_timeout(moment).unwrap();
    match sender.0.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn connections_that_are_quiet_after_an_answer_do_not_close_the_port() {
    let ingest = bounded(4);
    let mut quiet: Vec<Sender> = (0..4).map(|_| ingest.connect()).collect();
    for sender in &mut quiet {
        assert_eq!(asked(sender, REFUSED), 404);
    }
    for n in 0..20 {
        assert_eq!(answered(&ingest, b""), Some(200), "new connection {n}");
    }
    // One made room for all of them, for they ended by themselves.
    assert_eq!(
        quiet
            .iter_mut()
            .filter_map(|one| ended(one).then_some(()))
            .count(),
        1
    );
    assert!(ingest.shed("evicted"), "{}", ingest.metrics());
}

#[test]
fn a_request_that_is_there_is_answered_however_many_come_at_once() {
    let ingest = bounded(32);
    // All are made before the first of them is served, and speak at once.
    let mut burst: Vec<Sender> = (0..96).map(|_| ingest.connect()).collect();
    for sender in &mut burst {
        sender.write(REFUSED);
    }
    let answered = |sender: &mut Sender| {
        sender.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut status = [0; 12];
        sender.0.read_exact(&mut status).is_ok() && &status[9..] == b"404"
    };
    assert_eq!(
        burst
            .iter_mut()
            .filter_map(|one| answered(one).then_some(()))
            .count(),
        96
    );
}

#[test]
fn connections_that_only_begin_do_not_close_the_port() {
    let mut head = PREFACE.to_vec();
    // HEADERS without END_HEADERS.
    head.extend(frame(1, 0, 1, &[0x83]));
    for words in [b"".as_slice(), b"PRI", PREFACE, &head] {
        let ingest = bounded(4);
        let mut open: Vec<Sender> = (0..4).map(|_| ingest.connect()).collect();
        for sender in &mut open {
            sender.write_bytes(words);
        }
        eventually("all are taken", || {
            ingest.metrics().contains("sluice_ingest_connections 4")
        });
        for n in 0..10 {
            let status = answered(&ingest, b"");
            assert_eq!(
                status,
                Some(200),
                "new connection {n}, the others said {words:?}"
            );
        }
        assert!(ingest.shed("evicted"), "{}", ingest.metrics());
    }
}

#[test]
fn a_connection_without_a_request_ends_whatever_it_said() {
    let mut head = PREFACE.to_vec();
    head.extend(frame(1, 0, 1, &[0x83]));
    for words in [b"PRI".as_slice(), PREFACE, &head] {
        let ingest = Ingest::start_under("  limits: {first_byte_timeout: 500ms, idle_timeout: 1h}");
        let mut sender = ingest.connect();
        sender.write_bytes(words);
        let since = Instant::now();
        sender
            .0
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut bytes = [0; 256];
        loop {
            match sender.0.read(&mut bytes) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::WouldBlock => break,
                _ => assert!(since.elapsed() < PATIENCE, "it said {words:?} and is open"),
            }
        }
        assert!(since.elapsed() >= Duration::from_millis(400), "{words:?}");
        assert!(ingest.shed("first_byte"), "{}", ingest.metrics());
    }
}

#[test]
fn strangers_end_before_senders_that_were_accepted() {
    let ingest = bounded(3);
    let mut known = ingest.connect();
    assert_eq!(asked(&mut known, GOOD), 200);
    let (mut silent, mut refused) = (ingest.connect(), ingest.connect());
    assert_eq!(asked(&mut refused, REFUSED), 404);
    std::thread::sleep(YOUTH);
    let mut new = [ingest.connect(), ingest.connect()];
    for sender in &mut new {
        sender.0.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(asked(sender, GOOD), 200);
    }
    assert!(ended(&mut silent) && ended(&mut refused));
    // It was quiet for longer than they, and its next request is answered.
    assert_eq!(asked(&mut known, GOOD), 200);
    // Of those that were accepted, the one that was quiet longest.
    assert_eq!(answered(&ingest, b""), Some(200));
    assert!(ended(&mut new[0]));
}

#[test]
fn a_burst_of_new_connections_ends_none_that_was_accepted() {
    let ingest = bounded(16);
    let mut known = ingest.connect();
    assert_eq!(asked(&mut known, GOOD), 200);
    let _burst: Vec<Sender> = (0..48).map(|_| ingest.connect()).collect();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(asked(&mut known, GOOD), 200);
}

#[test]
fn the_peer_with_the_most_connections_gives_one_up() {
    let more = format!("  peer: {{from: proxy_protocol}}\n{}", limits(4));
    let ingest = under(&more);
    let from = |last| {
        let mut sender = ingest.connect();
        sender.write_bytes(&proxied(1, [203, 0, 113, last]));
        assert_eq!(asked(&mut sender, GOOD), 200);
        sender
    };
    // Quiet for longest, and alone.
    let mut few = from(1);
    let mut many = [from(2), from(2), from(2)];
    let other = proxied(1, [203, 0, 113, 3]);
    assert_eq!(answered(&ingest, &other), Some(200));
    assert!(ended(&mut many[0]));
    assert_eq!(asked(&mut few, GOOD), 200);
}

#[test]
fn a_request_that_has_begun_to_arrive_is_waited_for() {
    let ingest = bounded(1);
    let mut slow = ingest.connect();
    // The head is half there, and then the body.
    slow.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconten");
    eventually("it is open", || {
        ingest.metrics().contains("sluice_ingest_connections 1")
    });
    let mut second = ingest.connect();
    second.write(&GOOD.replace("host: x", "host: x\r\nconnection: close"));
    std::thread::sleep(Duration::from_millis(200));
    slow.write("t-length: 2\r\n\r\n{");
    std::thread::sleep(Duration::from_millis(200));
    ingest.mood(Mood::Keep);
    slow.write("}");
    eventually("it is published", || ingest.published().len() == 1);
    // It waits for its acknowledgement.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ingest.published().len(), 1);
    ingest.mood(Mood::Acknowledge);
    let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
    hold.reply.send(Ok(crate::support::DELIVERED)).unwrap();
    assert!(slow.exactly(12).ends_with("200"));
    // Only then it ends, for the one that waits.
    assert_eq!(second.answer().status, 200);
}

#[test]
fn an_http2_connection_ends_by_goaway() {
    // So many that one may end while its place is taken already.
    let ingest = bounded(16);
    http2::run(async {
        let mut open = Vec::new();
        for _ in 0..17 {
            let stream = TcpStream::connect(ingest.address).await.unwrap();
            let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let post = http2::post("/v1/hooks/site");
            let sent = tokio::time::timeout(PATIENCE, http2::send(&mut client, post, "{}"));
            let answer = sent.await.expect("a new connection is answered");
            assert_eq!(answer.0, 200);
            open.push((client, connection));
        }
        let quiet_longest = &mut open[0].1;
        let ended = tokio::time::timeout(PATIENCE, quiet_longest).await;
        // In good order: a sender may repeat what it has sent since.
        assert!(ended.is_ok_and(|ended| ended.unwrap().is_ok()));
    });
    assert!(ingest.shed("evicted"), "{}", ingest.metrics());
}

/// `:method: POST`, `:scheme: http`, `:path: /v1/hooks/site`, `:authority: x`.
const HEAD: &[u8] = b"\x83\x86\x04\x0e/v1/hooks/site\x01\x01x";

/// An HTTP/2 connection with one request that was answered.
fn http2_known(ingest: &Ingest) -> Sender {
    let mut sender = ingest.connect();
    sender.write_bytes(PREFACE);
    sender.write_bytes(&frame(1, 5, 1, HEAD));
    until(&mut sender, 1, 1);
    sender
}

/// Reads frames until one of this kind and stream.
fn until(sender: &mut Sender, kind: u8, stream: u32) {
    while http2::next_frame(sender) != (kind, stream) {}
}

fn known(ingest: &Ingest) -> Sender {
    let mut sender = ingest.connect();
    assert_eq!(asked(&mut sender, GOOD), 200);
    sender
}

#[test]
fn a_connection_that_is_ending_ends_soon_after_its_last_answer() {
    let ingest = bounded(16);
    let mut leaving = http2_known(&ingest);
    // The last of them takes the place that is kept, and the first has to end.
    let _others: Vec<Sender> = (0..15).map(|_| known(&ingest)).collect();
    until(&mut leaving, 7, 0);
    // It does not acknowledge what GOAWAY came with, and goes on.
    leaving.write_bytes(&frame(1, 5, 3, HEAD));
    until(&mut leaving, 1, 3);
    let since = Instant::now();
    while !ended(&mut leaving) {
        assert!(since.elapsed() < PATIENCE, "it is open {PATIENCE:?} later");
    }
}

#[test]
fn connections_that_are_ending_and_have_requests_do_not_close_the_port() {
    let ingest = bounded(48);
    let mut leaving: Vec<Sender> = (0..3).map(|_| http2_known(&ingest)).collect();
    // The last three take the places that are kept.
    let _others: Vec<Sender> = (0..45).map(|_| known(&ingest)).collect();
    for sender in &mut leaving {
        until(sender, 7, 0);
        // Its body does not come.
        sender.write_bytes(&frame(1, 4, 3, HEAD));
    }
    std::thread::sleep(Duration::from_millis(100));
    // More than are kept now are ending.
    reload(&ingest, 32);
    assert_eq!(answered(&ingest, b""), Some(200));
}

#[test]
fn a_lower_bound_does_not_close_the_port() {
    let ingest = bounded(200);
    let _idle: Vec<Sender> = (0..150).map(|_| known(&ingest)).collect();
    reload(&ingest, 4);
    assert_eq!(answered(&ingest, b""), Some(200));
}
