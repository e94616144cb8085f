//! `sluicectl find`, `show`, `tail` and the commands that look at fates: real services wrote what they read.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::process::find;
use uuid::Uuid;

use crate::ctl::{Ran, run, with, written};
use crate::harness::{Running, fresh_id, produce_raw};
use crate::refusals::signed;

/// What stands in the bodies of these tests, as a person's data would.
const PERSON: &str = "ada@example.com";

#[track_caller]
fn holds(running: &Running, arguments: &[&str]) -> Ran {
    let ran = run(&running.site, &running.site.settings, arguments);
    assert_eq!(
        ran.status,
        Some(0),
        "{arguments:?}\n{}\n{}",
        ran.out,
        ran.err
    );
    ran
}

#[track_caller]
fn only(running: &Running, arguments: &[&str]) -> Value {
    let objects = holds(running, arguments).objects();
    assert_eq!(objects.len(), 1, "{arguments:?}: {objects:?}");
    objects.into_iter().next().expect("one")
}

/// The requests of a test, each with its id: an event, its repetition, a forgery, a dead letter.
struct Sent {
    source: Source,
    delivery: String,
    event: String,
    duplicate: String,
    forged: String,
    dead: String,
}

fn sent(running: &mut Running) -> Sent {
    let source = running.source("flowcode");
    let kind = source.samples().expect("samples")[0];
    let unsigned = source.unsigned(kind, 1, now()).expect("a sample");
    let request = source.sign(&unsigned, now()).expect("a request");
    let event = running.accept(&request);
    running.outcome(&event);
    let duplicate = running.accept(&request);
    let mut request = source.signed(kind, 2, now()).expect("a request");
    request.body = format!("{{\"email\":\"{PERSON}\"}}").into();
    let forged = running.accept(&request);
    let dead = running.accept(&signed(&source, &[], format!("{{{PERSON}")));
    for id in [&duplicate, &forged, &dead] {
        running.outcome(id);
    }
    Sent {
        source,
        delivery: unsigned.delivery_id,
        event,
        duplicate,
        forged,
        dead,
    }
}

#[test]
fn what_became_of_a_request_is_found_listed_counted_and_shown() {
    let mut running = Running::start("ctl-reads");
    let sent = sent(&mut running);
    let found = each_is_found(&running, &sent);
    a_raw_record_is_a_file(&running, &sent, &found);
    fates_are_listed_and_counted(&running, &sent);
    what_cannot_be_read_is_named(&running);
    running.finish(&[]);
}

/// The answers about the event and the dead letter.
fn each_is_found(running: &Running, sent: &Sent) -> [Value; 2] {
    let event = only(running, &["find", &sent.event, "--json"]);
    assert_eq!(
        (&event["fate"], &event["reason"]),
        (&json!("event"), &Value::Null)
    );
    assert_eq!(
        event["duplicates"][0]["request_id"],
        json!(sent.duplicate),
        "{event}"
    );
    let kind = sent.source.samples().expect("samples")[0];
    let topic = sent.source.topic(&running.names(), kind).expect("a topic");
    assert_eq!(event["topic"], json!(topic));
    assert_eq!(
        event["trace_id"].as_str().map(str::len),
        Some(32),
        "{event}"
    );
    let id = event["event"].as_str().expect("an id");
    for other in [id, &sent.delivery, &sent.event.to_uppercase()] {
        let same = only(running, &["find", other, "--since", "10m", "--json"]);
        assert_eq!(same, event, "{other}");
    }
    for (request, fate, reason) in [
        (&sent.duplicate, "duplicate", "duplicate"),
        (&sent.forged, "rejected", "signature_mismatch"),
        (&sent.dead, "dead_letter", "malformed_json"),
    ] {
        let found = only(running, &["find", request, "--json"]);
        assert_eq!(
            (&found["fate"], &found["reason"]),
            (&json!(fate), &json!(reason))
        );
    }
    let text = holds(running, &["find", &sent.duplicate]);
    text.line(&["repeats", id]);
    assert!(!text.out.contains(PERSON), "{}", text.out);

    let nobody = Uuid::from_u128(0x0170_0000_0000_7000_8000_0000_0000_0001).to_string();
    let settings = &running.site.settings;
    let nothing = run(&running.site, settings, &["find", &nobody]);
    assert_eq!(
        (nothing.status, nothing.out.as_str()),
        (Some(1), ""),
        "{}",
        nothing.err
    );
    assert!(
        nothing.err.contains("it is an id of 2020-"),
        "{}",
        nothing.err
    );
    // An empty range.
    let late = run(
        &running.site,
        settings,
        &["find", &sent.event, "--since", "1ms"],
    );
    assert_eq!(
        (late.status, late.out.as_str()),
        (Some(1), ""),
        "{}",
        late.err
    );
    [event, only(running, &["find", &sent.dead, "--json"])]
}

fn a_raw_record_is_a_file(running: &Running, sent: &Sent, found: &[Value; 2]) {
    let raw = &found[1]["raw"];
    let (partition, offset) = (raw["partition"].to_string(), raw["offset"].to_string());
    let masked = holds(running, &["show", "--raw", &partition, &offset]);
    let object: Value = serde_json::from_str(&masked.out).expect("JSON");
    assert_eq!(object["masked"], json!(true));
    assert_eq!(object["request"]["id"], json!(sent.dead));
    assert_eq!(object["request"]["peer"], json!("***"));
    assert_eq!(object["body"], json!({"bytes": 16, "text": "***"}));
    assert!(!masked.out.contains("e2Fk"), "{}", masked.out);
    assert!(masked.err.contains("--show-bodies"), "{}", masked.err);
    let whole = holds(
        running,
        &["show", "--raw", &partition, &offset, "--show-bodies"],
    );
    let object: Value = serde_json::from_str(&whole.out).expect("JSON");
    // `{ada@example.com` in base64.
    assert_eq!(object["body"], json!("e2FkYUBleGFtcGxlLmNvbQ=="));
    assert_eq!(object["headers"][0][0], json!("request"));
    let gone = ["show", "--raw", &partition, "1000000"];
    let gone = run(&running.site, &running.site.settings, &gone);
    assert_eq!(gone.status, Some(1), "{}", gone.out);
    assert!(
        gone.err.contains("ends before offset 1000000"),
        "{}",
        gone.err
    );
    let beyond = run(
        &running.site,
        &running.site.settings,
        &["show", "--raw", "3", "0"],
    );
    assert_eq!(beyond.status, Some(1), "{}", beyond.err);
    assert!(beyond.err.contains("no partition 3"), "{}", beyond.err);
}

fn fates_are_listed_and_counted(running: &Running, sent: &Sent) {
    let source = sent.source.name.as_str();
    for (command, request, reason) in [
        ("rejected", &sent.forged, "signature_mismatch"),
        ("dead-letters", &sent.dead, "malformed_json"),
        ("duplicates", &sent.duplicate, "duplicate"),
    ] {
        let listed = only(running, &[command, "list", "--source", source, "--json"]);
        assert_eq!(
            (&listed["request_id"], &listed["reason"]),
            (&json!(request), &json!(reason))
        );
        let same = [
            command, "list", "--reason", reason, "--id", request, "--json",
        ];
        assert_eq!(only(running, &same), listed);
        let counted = only(running, &[command, "stats", "--since", "2h", "--json"]);
        assert_eq!(
            (&counted["reason"], &counted["count"]),
            (&json!(reason), &json!(1))
        );
        let (partition, offset) = (
            listed["partition"].to_string(),
            listed["offset"].to_string(),
        );
        let shown = holds(running, &[command, "show", &partition, &offset]);
        assert!(
            !shown.out.contains(PERSON) && shown.out.contains("***"),
            "{}",
            shown.out
        );
        let none = ["list", "--provider", "flock"];
        let none = holds(running, &[command, none[0], none[1], none[2]]);
        assert_eq!(none.out, "", "{}", none.err);
    }
    let dead = only(running, &["dead-letters", "list", "--json"]);
    let (partition, offset) = (dead["partition"].to_string(), dead["offset"].to_string());
    let shown = [
        "dead-letters",
        "show",
        &partition,
        &offset,
        "--show-bodies",
        "--json",
    ];
    let shown = only(running, &shown);
    assert_eq!(shown["body"]["text"], json!(format!("{{{PERSON}")));
    assert_eq!(shown["request"]["peer"], json!("127.0.0.1"));
    let line = holds(running, &["rejected", "list"]);
    line.line(&["rejected signature_mismatch", source, &sent.forged]);
    let drawn = holds(running, &["rejected", "stats"]);
    drawn.line(&["signature_mismatch", source, "1"]);
    drawn.line(&["####"]);
}

fn what_cannot_be_read_is_named(running: &Running) {
    let elsewhere = with(&running.site, "/topics/prefix", json!("nowhere."));
    let missing = run(&running.site, &elsewhere, &["rejected", "list"]);
    assert_eq!(missing.status, Some(1), "{}", missing.err);
    let sentence = "topic nowhere.webhooks.rejected is missing";
    assert!(missing.err.contains(sentence), "{}", missing.err);
    assert!(
        missing.err.contains("sluicectl topics plan"),
        "{}",
        missing.err
    );
}

#[test]
fn what_comes_is_printed_until_the_signal() {
    let mut running = Running::start("ctl-tail");
    let source = running.source("referralloop");
    let kind = source.samples().expect("samples")[0];
    let mut tail = Command::new(find("sluicectl").expect("the binary"))
        .arg("--config")
        .arg(written(&running.site, &running.site.settings))
        .args(["tail", "--json", "--source", &source.name])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut said = BufReader::new(tail.stderr.take().expect("a pipe")).lines();
    let begun = said.by_ref().map_while(Result::ok);
    assert!(begun.into_iter().any(|line| line.contains("until Ctrl-C")));
    let other = running.source("flock");
    let request = other.signed("referral.accepted", 1, now());
    running.accept(&request.expect("a request"));
    let id = running.accept(&source.signed(kind, 1, now()).expect("a request"));
    let mut out = BufReader::new(tail.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    let first: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&first["request_id"], &first["fate"]),
        (&json!(id), &json!("event"))
    );
    assert!(first.get("content").is_none(), "{line}");
    let killed = Command::new("kill")
        .args(["-INT", &tail.id().to_string()])
        .status();
    assert!(killed.expect("kill").success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the end");
    assert_eq!(rest, "", "the other source is not printed");
    let status = tail.wait().expect("an end");
    assert_eq!(status.code(), Some(0));
    an_event_of_an_older_request_is_found(&mut running, &source, &id);
    running.finish(&[]);
}

/// A request that waited for two days before it came to raw: its event has the time of its receipt.
fn an_event_of_an_older_request_is_found(running: &mut Running, source: &Source, other: &str) {
    let mut request = running.raw_request(other);
    request.id = fresh_id();
    request.received_at -= 2 * 86_400 * 1_000_000;
    let kind = source.samples().expect("samples")[1];
    let signed = source.signed(kind, 2, now()).expect("a request");
    let headers = signed.headers.into_iter();
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.into_bytes()));
    request.headers.0 = headers.collect();
    produce_raw(&running.site, &request, &signed.body, &[]);
    let id = request.id.to_string();
    running.outcome(&id);
    let found = only(running, &["find", &id, "--json"]);
    assert_eq!(
        (&found["fate"], &found["type"]),
        (&json!("event"), &json!(kind))
    );
}
