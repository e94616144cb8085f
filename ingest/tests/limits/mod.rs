//! What one connection or one source may take, with numbers small enough to be met.

use std::io::Write;
use std::time::{Duration, Instant};

use sluice_ingest::http::body_buffer::MAX_CHUNKS;

use crate::support::{Ingest, LIMITS, Mood, Sender, eventually};

const HEAD: &str = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n";

#[test]
fn silent_slow_and_idle_connections_are_counted_apart() {
    let ingest = Ingest::start();
    for (words, reason) in [
        ("", "first_byte"),
        ("POST /v1/hooks/si", "slow_head"),
        (
            "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
            "idle",
        ),
    ] {
        let mut sender = ingest.connect();
        sender.write(words);
        sender.rest();
        assert!(ingest.shed(reason), "{reason}: {}", ingest.metrics());
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_closed() {
    let ingest = Ingest::start_under("  limits: {idle_timeout: 1h}");
    let mut sender = ingest.connect();
    sender.write(HEAD);
    eventually("it is closed", || {
        let _ = sender.0.try_clone().unwrap().write_all(b"x: y\r\n");
        ingest.shed("slow_head")
    });
}

#[test]
fn a_connection_may_be_quiet_for_longer_than_a_head_may_take() {
    let ingest = Ingest::start_under("  limits: {idle_timeout: 1h}");
    let mut sender = ingest.connect();
    for _ in 0..2 {
        sender.write(&format!("{HEAD}content-length: 2\r\n\r\n{{}}"));
        assert!(sender.exactly(12).ends_with("200"));
        while !sender.exactly(1).contains('}') {}
        // Twice what a head may take.
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(ingest.published().len(), 2);
}

#[test]
fn a_body_below_its_least_rate_is_408_and_one_above_it_takes_its_time() {
    let ingest = Ingest::start_tuned(true, "", "", |settings| {
        settings.ingest.body_timeout = Duration::from_secs(3600);
    });
    // Both go on for longer than the 3 s for which the rate may be lower.
    let mut quick = ingest.connect();
    let writing = std::thread::spawn(move || {
        quick.write(&format!(
            "{HEAD}connection: close\r\ncontent-length: 16384\r\n\r\n"
        ));
        for _ in 0..8 {
            quick.write(&"x".repeat(2048));
            std::thread::sleep(Duration::from_millis(450));
        }
        quick.answer().status
    });
    let mut sender = ingest.connect();
    sender.write(&format!("{HEAD}content-length: 10000\r\n\r\n"));
    let mut drip = sender.0.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        while drip.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(sender.answer().status, 408);
    assert_eq!(ingest.limited("body_rate"), 1);
    dripping.join().unwrap();
    assert_eq!(writing.join().unwrap(), 200);
}

#[test]
fn a_body_of_the_most_chunks_is_accepted_and_one_more_is_413() {
    let ingest = Ingest::start();
    for (chunks, status) in [(MAX_CHUNKS, 200), (MAX_CHUNKS + 1, 413)] {
        let mut sender = ingest.connect();
        sender.write(&format!(
            "{HEAD}connection: close\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
            "1\r\nx\r\n".repeat(chunks)
        ));
        assert_eq!(sender.answer().status, status, "{chunks} chunks");
    }
    assert_eq!(ingest.limited("body_chunks"), 1);
    let published = ingest.published();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].value, vec![b'x'; MAX_CHUNKS]);
}

#[test]
fn a_large_body_that_comes_packet_by_packet_is_accepted() {
    // What a line brings in packets of 1,460 bytes, of a body that its source allows.
    let (packet, packets) = ("x".repeat(1460), 20_000);
    let ingest = Ingest::start_tuned(true, "", "", |settings| {
        settings.sources.get_mut("site").unwrap().max_body = 32 << 20;
        settings.ingest.max_buffered = 64 << 20;
        settings.ingest.body_timeout = Duration::from_secs(20);
    });
    let mut sender = ingest.connect();
    sender.write(&format!(
        "{HEAD}connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    let chunk = format!("{:x}\r\n{packet}\r\n", packet.len());
    for _ in 0..packets {
        sender.write(&chunk);
    }
    sender.write("0\r\n\r\n");
    assert_eq!(sender.answer().status, 200);
    assert_eq!(ingest.published()[0].value.len(), packet.len() * packets);
}

#[test]
fn a_sender_that_reads_no_answers_is_closed() {
    // Answers that wait do not pile up; refused requests alone would meet another limit.
    let ingest = Ingest::start_under("  limits: {write_timeout: 300ms}");
    let sender = ingest.connect();
    let mut writer = sender.0.try_clone().unwrap();
    writer
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let refused = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50);
    let many = format!("{refused}{HEAD}content-length: 2\r\n\r\n{{}}").repeat(20);
    eventually("it is closed", || {
        let _ = writer.write(many.as_bytes());
        ingest.shed("slow_read")
    });
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
}

#[test]
fn connections_beyond_the_bound_wait_for_their_turn() {
    let ingest = Ingest::start_tuned(true, "  limits: {connections: 2}", "", |settings| {
        settings.ingest.ack_timeout = Duration::from_secs(60);
    });
    ingest.mood(Mood::Keep);
    // Both have a request in flight, so that neither may end for the third.
    let mut open = [ingest.connect(), ingest.connect()];
    for sender in &mut open {
        sender.write(&format!("{HEAD}content-length: 2\r\n\r\n{{}}"));
    }
    eventually("both wait", || ingest.published().len() == 2);
    let mut third = ingest.connect();
    third.write(&format!(
        "{HEAD}connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
    ));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ingest.published().len(), 2, "it was not waited for");
    ingest.mood(Mood::Acknowledge);
    ingest.publisher.kept.lock().unwrap().clear();
    assert!(open[0].exactly(12).ends_with("503"));
    assert_eq!(third.answer().status, 200);
}

#[test]
fn near_capacity_silent_connections_are_closed_first() {
    // A quarter of it is shorter than what a test waits for, and the whole is longer.
    let ingest = Ingest::start_under("  limits: {connections: 8, first_byte_timeout: 11s}");
    let _silent: Vec<Sender> = (0..8).map(|_| ingest.connect()).collect();
    eventually("all are taken", || {
        ingest.metrics().contains("sluice_ingest_connections 8")
    });
    eventually("they are closed", || ingest.shed("first_byte"));
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
    assert!(!ingest.shed("evicted"), "{}", ingest.metrics());
}

#[test]
fn headers_are_counted_and_weighed() {
    let ingest = Ingest::start_under("  limits: {header_bytes: 8KiB}");
    let send = |headers: String| {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\n{headers}x: y");
        ingest.send(&head, b"{}").status
    };
    // Three more come with every request here.
    assert_eq!(send("x: y\r\n".repeat(96)), 200);
    assert_eq!(send("x: y\r\n".repeat(97)), 431);
    assert_eq!(send(format!("x: {}\r\n", "y".repeat(7_000))), 200);
    assert_eq!(send(format!("x: {}\r\n", "y".repeat(8_150))), 431);
    // hyper answers these, and the connection is looked at when it ends.
    let since = Instant::now();
    while ingest.limited("header_bytes") < 2 && since.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ingest.limited("header_bytes"), 2);
}

#[test]
fn a_connection_of_refused_requests_alone_is_ended() {
    // So many in a row, which is no setting.
    const REFUSALS: usize = 100;
    let ingest = Ingest::start_under("  limits: {idle_timeout: 1h}");
    let refused = "POST /v1/hooks/nobody HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let accepted = format!("{HEAD}content-length: 2\r\n\r\n{{}}");
    let get = "GET /v1/hooks/site HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut sender = ingest.connect();
    // An accepted request starts the count again; the last request gets no answer.
    let (first, row) = (refused.repeat(2), refused.repeat(REFUSALS - 2));
    for requests in [&first, &accepted, &row, get, refused, &accepted] {
        sender.write(requests);
    }
    let text = String::from_utf8(sender.rest()).unwrap();
    let answers: Vec<&str> = text.split("HTTP/1.1 ").skip(1).collect();
    let count = |status| {
        let with = answers.iter().filter(|answer| answer.starts_with(status));
        with.count()
    };
    assert_eq!(
        (count("404"), count("200"), count("405")),
        (REFUSALS + 1, 1, 1)
    );
    let closing = |answer: &&&str| answer.contains("connection: close");
    assert_eq!(answers.iter().filter(closing).count(), 1, "{text}");
    assert!(answers.last().is_some_and(|last| closing(&last)), "{text}");
    assert!(ingest.shed("refusals"), "{}", ingest.metrics());
}

#[test]
fn an_old_connection_ends_with_the_answer_that_is_due() {
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.limits.connection_age = Duration::ZERO;
    });
    let mut sender = ingest.connect();
    sender.write(&format!("{HEAD}content-length: 2\r\n\r\n{{}}"));
    let answer = sender.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains("connection: close"), "{answer:?}");
}

#[test]
fn a_source_with_a_rate_is_429_beyond_it_and_the_others_are_not() {
    let sources = "  paced: {provider: referralloop, token_sha256: \
                   ['09905c40d0466f2b386ea4ab0c8751210799a0ccf86582bae3093c9cfb626755'], rate: 1}";
    let ingest = Ingest::start_tuned(true, LIMITS, sources, |settings| {
        let paced = settings.sources.get_mut("paced").unwrap();
        paced.token_sha256 = vec![sluice_schemas::identity::sha256(b"t0ken")];
    });
    // A request that does not pass uses nothing of the rate.
    for _ in 0..5 {
        assert_eq!(ingest.post("/v1/hooks/paced/wrong", b"{}").status, 404);
    }
    assert_eq!(ingest.post("/v1/hooks/paced/t0ken", b"{}").status, 200);
    let mut paced = ingest.post("/v1/hooks/paced/t0ken", b"{}");
    // A machine that took a second for that had the right to a second one.
    while paced.status == 200 {
        paced = ingest.post("/v1/hooks/paced/t0ken", b"{}");
    }
    assert_eq!(paced.status, 429);
    assert_eq!(ingest.limited("rate"), 1);
    assert!(paced.headers.contains("retry-after: 1"), "{paced:?}");
    assert_eq!(ingest.post("/v1/hooks/site", b"{}").status, 200);
}

#[test]
fn one_source_cannot_hold_all_that_may_be_held() {
    const SHARE: usize = 256 << 10;
    const BODY: usize = 60 << 10;
    // A connection is kept for each record that is not acknowledged.
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.max_buffered = 2 * SHARE as u64;
        settings.ingest.ack_timeout = Duration::from_secs(60);
        for source in ["small", "site"] {
            settings.sources.get_mut(source).unwrap().max_body = 64 << 10;
        }
    });
    ingest.mood(Mood::Keep);
    let head =
        format!("POST /v1/hooks/small HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY}\r\n\r\n");
    let kept: Vec<Sender> = (0..4)
        .map(|_| {
            let mut sender = ingest.connect();
            sender.write(&head);
            sender.write(&"x".repeat(BODY));
            sender
        })
        .collect();
    eventually("half of all is held", || ingest.published().len() == 4);
    ingest.mood(Mood::Acknowledge);
    assert_eq!(
        ingest.post("/v1/hooks/small", &[b'x'; 16 << 10]).status,
        503
    );
    assert_eq!(ingest.limited("source_buffered"), 1);
    let counted = "sluice_ingest_unavailable_total{reason=\"source_buffers\"} 1";
    assert!(ingest.metrics().contains(counted), "{}", ingest.metrics());
    assert_eq!(ingest.post("/v1/hooks/site", &vec![b'x'; BODY]).status, 200);
    ingest.publisher.kept.lock().unwrap().clear();
    drop(kept);
}
