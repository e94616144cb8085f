//! Answers under overload, while starting and draining, and beyond a limit.

use std::fmt::Write;
use std::time::Duration;

use super::answers::{HEAD, LIMITS, append_answer, append_exchange, ingest, post, request};
use super::{masked, same_as_golden};
use crate::support::{BUFFERED, Ingest, Mood, eventually, hex};

#[test]
fn answers_under_trouble_are_unchanged() {
    let mut text = String::new();
    let good = post("/v1/hooks/site");
    for mood in [Mood::QueueFull, Mood::TimeOut, Mood::Refuse, Mood::Keep] {
        let ingest = ingest();
        ingest.mood(mood);
        let mut sender = ingest.connect();
        sender.write(&good);
        append_answer(
            &mut text,
            &format!("a publisher in the mood {mood:?}"),
            &mut sender,
        );
    }
    let ingest = ingest();
    ingest.mood(Mood::LargeIsTooLarge);
    let large = request("POST /v1/hooks/site", "", "large");
    append_exchange(
        &mut text,
        &ingest,
        "a record that the brokers find too large",
        &large,
    );
    let starting = Ingest::start_with(false);
    for (name, path) in [
        ("a source", "/v1/hooks/site"),
        ("no source", "/v1/hooks/nobody"),
    ] {
        append_exchange(
            &mut text,
            &starting,
            &format!("before the topics are known: {name}"),
            &post(path),
        );
    }
    full(&mut text);
    paced(&mut text);
    spooled(&mut text);
    draining(&mut text);
    let mut sender = ingest.connect();
    let refused = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    // A connection ends with its hundredth refusal in a row.
    for _ in 1..100 {
        sender.write(refused);
        while !sender.exactly(1).contains('}') {}
    }
    sender.write(&format!("{refused}{good}"));
    append_answer(&mut text, "the last refusal of a connection", &mut sender);
    let old = Ingest::start_tuned(true, LIMITS, "", |settings| {
        settings.ingest.limits.connection_age = Duration::ZERO;
    });
    let more = format!("{HEAD}content-length: 2\r\n\r\n{{}}");
    append_exchange(
        &mut text,
        &old,
        "the last answer of an old connection",
        &more,
    );
    same_as_golden("answers.trouble.txt", &text);
}

/// `max_buffered` is used up.
fn full(text: &mut String) {
    let ingest = ingest();
    ingest.mood(Mood::Keep);
    let mut holding = ingest.connect();
    // Nothing is left for another head.
    let body = "x".repeat(BUFFERED - 3 * 1024);
    holding.write(&request("POST /v1/hooks/site", "", &body));
    eventually("it is held", || ingest.published().len() == 1);
    let mut sender = ingest.connect();
    sender.write(&post("/v1/hooks/site"));
    append_answer(text, "no room for its body", &mut sender);
}

/// The source's `rate` is used up.
fn paced(text: &mut String) {
    let token = sluice_schemas::identity::sha256(b"t0ken");
    let token = hex(&token);
    let source = format!("  paced: {{provider: referralloop, token_sha256: ['{token}'], rate: 1}}");
    let ingest = Ingest::start_tuned(true, LIMITS, &source, |_| ());
    let post = post("/v1/hooks/paced/t0ken");
    // On a slow machine a second passes, and another request is within the rate.
    let answer = loop {
        let mut sender = ingest.connect();
        sender.write(&post);
        let answer = String::from_utf8(sender.rest()).unwrap();
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
    };
    write!(text, "== beyond the source's rate\n{}", masked(&answer)).unwrap();
}

/// Kafka takes nothing; the spool takes requests until it is full.
fn spooled(text: &mut String) {
    let dir = tempfile::tempdir().unwrap();
    let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
    append_exchange(text, &ingest, "into the spool", &post("/v1/hooks/site"));
    let body = vec![b'x'; 10_000];
    while ingest.post("/v1/hooks/site", &body).status == 200 {}
    let body = "x".repeat(10_000);
    append_exchange(
        text,
        &ingest,
        "the spool is full",
        &request("POST /v1/hooks/site", "", &body),
    );
}

/// Shutdown was requested.
fn draining(text: &mut String) {
    let ingest = ingest();
    ingest.mood(Mood::Keep);
    let mut sender = ingest.connect();
    sender.write(&format!("{HEAD}content-length: 2\r\n\r\n{{}}"));
    eventually("it is published", || ingest.published().len() == 1);
    ingest.shutdown.cancel();
    let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
    hold.reply.send(Ok(crate::support::DELIVERED)).unwrap();
    append_answer(text, "open when the end is asked for", &mut sender);
    ingest.mood(Mood::Acknowledge);
    for path in ["/v1/hooks/site", "/v1/hooks/nobody"] {
        let mut sender = ingest.connect();
        sender.write(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"
        ));
        append_answer(
            text,
            &format!("new when the end is asked for: {path}"),
            &mut sender,
        );
    }
}
