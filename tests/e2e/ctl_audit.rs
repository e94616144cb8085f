//! `sluicectl audit` on real topics: what balances, then a loss, a double and deleted records, each planted.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::offsets;
use sluice_tests::harness::topics::{Isolation, Record, read};

use crate::ctl::{Ran, run, with};
use crate::harness::{Running, fate_topics};
use crate::refusals::signed;

/// The audit under these settings, which must end so.
#[track_caller]
fn audit_under(running: &Running, settings: &Value, status: i32, more: &[&str]) -> Value {
    let all = [&["audit", "--json"], more].concat();
    let ran = run(&running.site, settings, &all);
    assert_eq!(ran.status, Some(status), "{}\n{}", ran.out, ran.err);
    let objects = ran.objects();
    assert_eq!(objects.len(), 1, "{}", ran.out);
    let report = objects.into_iter().next().expect("one");
    assert_eq!(report["balanced"], json!(status == 0), "{report}");
    report
}

#[track_caller]
fn audit(running: &Running, status: i32) -> Value {
    audit_under(running, &running.site.settings, status, &[])
}

/// These members must have these numbers, and all others of the sums 0.
#[track_caller]
fn counts(report: &Value, expected: &[(&str, u64)]) {
    for name in [
        "raw",
        "events",
        "duplicates",
        "rejected",
        "dead_letters",
        "in_flight",
        "expired",
        "missing_total",
        "twice_total",
        "unexplained_total",
        "deleted_unjudged",
        "unreadable",
        "newer",
    ] {
        let wanted = expected.iter().find(|(one, _)| *one == name);
        let wanted = wanted.map_or(0, |(_, number)| *number);
        assert_eq!(report[name], json!(wanted), "{name}: {report}");
    }
}

/// What a test sent.
const SOUND: [(&str, u64); 5] = [
    ("raw", 8),
    ("events", 3),
    ("duplicates", 1),
    ("rejected", 2),
    ("dead_letters", 2),
];

#[test]
fn the_audit_balances_and_names_what_is_planted() {
    let mut running = Running::start("ctl-audit");
    send(&mut running);
    running.wait_caught_up();
    counts(&audit(&running, 0), &SOUND);
    ranges_and_what_cannot_be_read(&running);

    // From here on the processor is away.
    running.processor.stop().expect("the processor ends");
    let waiting = running.source("referralloop");
    let kind = waiting.samples().expect("samples")[0];
    running.accept(&waiting.signed(kind, 70, now()).expect("a request"));
    let report = audit(&running, 0);
    counts(&report, &[&SOUND[..], &[("in_flight", 1)]].concat());
    assert!(report["in_flight_since"].is_string(), "{report}");

    let lost = a_loss_is_named(&running);
    a_double_is_named(&running, &lost);
    deleted_records_are_expired(&running);
}

/// Three events, one of them twice, two forgeries, two broken ones.
fn send(running: &mut Running) {
    let source = running.source("flowcode");
    let kind = source.samples().expect("samples")[0];
    let first = source.signed(kind, 1, now()).expect("a request");
    let id = running.accept(&first);
    running.outcome(&id);
    running.accept(&first);
    for n in 2..4 {
        running.accept(&source.signed(kind, n, now()).expect("a request"));
        let mut forged = source.signed(kind, n, now()).expect("a request");
        forged.body = format!("{{\"n\":{n}}}").into();
        running.accept(&forged);
        running.accept(&signed(&source, &[], format!("{{{n}")));
    }
    running.outcomes(8);
}

fn ranges_and_what_cannot_be_read(running: &Running) {
    let settings = &running.site.settings;
    let all = audit_under(
        running,
        settings,
        0,
        &["--since", "2026-01-26T00:00:00Z", "--until", "1ms"],
    );
    counts(&all, &SOUND);
    let none = audit_under(running, settings, 0, &["--until", "1h"]);
    counts(&none, &[]);
    let text = run(&running.site, settings, &["audit"]);
    assert_eq!(text.status, Some(0), "{}", text.err);
    text.line(&["8  raw records to the offsets of ctl-audit.sluice-processor"]);
    assert_eq!(text.out.lines().last(), Some("balanced"));

    let failed = |settings: &Value, status: i32, sentence: &str| -> Ran {
        let ran = run(&running.site, settings, &["audit"]);
        assert_eq!(ran.status, Some(status), "{}\n{}", ran.out, ran.err);
        let said = [ran.out.as_str(), ran.err.as_str()].concat();
        assert!(said.contains(sentence), "{sentence}: {said}");
        ran
    };
    let elsewhere = with(&running.site, "/topics/prefix", json!("nowhere."));
    failed(&elsewhere, 1, "topic nowhere.webhooks.raw is missing");
    let stranger = with(&running.site, "/processor/group", json!("stranger"));
    failed(&stranger, 1, "ctl-audit.stranger has no committed offset");
    let away = with(
        &running.site,
        "/kafka/bootstrap_servers",
        json!("127.0.0.1:1"),
    );
    failed(&away, 75, "do not answer");
    let events = json!(["more.scans"]);
    let more = with(&running.site, "/sources/my-flowcode/events", events);
    let ran = failed(&more, 1, "events.flowcode.more.scans is missing");
    ran.line(&["NOT balanced"]);
}

/// A raw record that the group's offset has passed, and that nobody judged: its id.
fn a_loss_is_named(running: &Running) -> String {
    let (site, names) = (&running.site, running.names());
    let raw = names.raw();
    let lost = records(running, std::slice::from_ref(&raw));
    let ends = offsets::ends(site.bootstrap(), &raw).expect("ends");
    let committed = offsets::committed(site.bootstrap(), &site.group(), &raw).expect("offsets");
    let passed = ends.iter().zip(committed).zip(0..);
    let passed: Vec<(i32, i64)> = passed
        .filter(|((end, committed), _)| **end > 0 && *committed != Some(**end))
        .map(|((end, _), partition)| (partition, *end))
        .collect();
    assert_eq!(passed.len(), 1, "one record waits: {passed:?}");
    offsets::commit(site.bootstrap(), &site.group(), &raw, &passed).expect("a commit");

    let report = audit(running, 1);
    counts(
        &report,
        &[&[("raw", 9), ("missing_total", 1)], &SOUND[1..]].concat(),
    );
    let missing = &report["missing"][0];
    let (partition, offset) = (passed[0].0, passed[0].1 - 1);
    assert_eq!(
        (&missing["topic"], &missing["partition"], &missing["offset"]),
        (&json!(raw), &json!(partition), &json!(offset))
    );
    assert_eq!(missing["kind"], json!("fate"));
    assert_eq!(missing["source"], json!("my-referralloop"), "{missing}");
    let at = |one: &&Record| (one.partition, one.offset) == (partition, offset);
    let record = lost.iter().find(at).expect("the record");
    let request = record.header("request").expect("a request");
    let request: Value = serde_json::from_slice(request).expect("JSON");
    assert_eq!(missing["request_id"], request["id"], "{missing}");
    // The command that it names is one.
    let look = missing["look"].as_str().expect("a command");
    let arguments: Vec<&str> = look.split(' ').skip(1).collect();
    let found = run(site, &site.settings, &arguments);
    assert_eq!(found.status, Some(0), "{look}: {}", found.err);
    found.line(&["none yet"]);
    request["id"].as_str().expect("an id").to_owned()
}

/// An event record that was written again, under its own raw record and under another one.
fn a_double_is_named(running: &Running, lost: &str) {
    let mut topics = fate_topics(&running.site);
    topics.retain(|topic| topic.contains("events.flowcode."));
    let events = records(running, &topics);
    let event = events.first().expect("an event");
    copy(running, event);
    let report = audit(running, 1);
    let more = [("raw", 9), ("missing_total", 1), ("twice_total", 1)];
    counts(&report, &[&more, &SOUND[1..]].concat());
    let twice = &report["twice"][0];
    assert_eq!(
        (&twice["kind"], &twice["topic"]),
        (&json!("fate"), &json!(event.topic))
    );
    let offset = twice["offset"].as_i64().expect("an offset");
    assert!(offset > event.offset, "{twice}");
    assert_eq!(twice["records"][0]["offset"], json!(event.offset));
    let named = event.event().expect("an event");
    assert_eq!(twice["request_id"], json!(named.request_id), "{twice}");
    assert_eq!(
        twice["raw"],
        json!({"partition": named.raw_partition, "offset": named.raw_offset})
    );
    assert_eq!(report["missing"][0]["request_id"], json!(lost));
}

/// Records that are gone from a topic of fates: by retention, and by hand before it.
fn deleted_records_are_expired(running: &Running) {
    let (site, names) = (&running.site, running.names());
    let rejected = names.rejected();
    let ends = offsets::ends(site.bootstrap(), &rejected).expect("ends");
    let all: Vec<(i32, i64)> = (0..).zip(ends).filter(|(_, end)| *end > 0).collect();
    offsets::delete_records(site.bootstrap(), &rejected, &all).expect("a deletion");
    let kept = |expired: u64, unexplained: u64, missing: u64| {
        let mut kept = vec![
            ("raw", 9),
            ("events", 3),
            ("duplicates", 1),
            ("dead_letters", 2),
            ("twice_total", 1),
        ];
        kept.extend([("expired", expired), ("unexplained_total", unexplained)]);
        kept.extend([("missing_total", missing)]);
        kept
    };
    // What is lost may have stood there too: nobody can know.
    let report = audit(running, 1);
    counts(&report, &kept(3, 3, 0));
    assert_eq!(
        report["unexplained"][0]["deleted_from"],
        json!(rejected),
        "{report}"
    );
    let why = report["why"][0].as_str().expect("a sentence");
    assert!(why.contains("deleted by hand"), "{why}");
    // Where the topic deletes by its size, that is what became of them.
    let small = with(&running.site, "/topics/rejected_bytes", json!(1));
    let report = audit_under(running, &small, 1, &[]);
    counts(&report, &kept(3, 0, 0));
    assert_eq!(report["why"], json!([]), "{report}");
}

fn records(running: &Running, topics: &[String]) -> Vec<Record> {
    read(running.site.bootstrap(), topics, Isolation::Committed).expect("records")
}

/// Writes a record to its topic once more.
fn copy(running: &Running, record: &Record) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", running.site.bootstrap())
        .create()
        .expect("a producer");
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    let copy = BaseRecord::to(&record.topic)
        .partition(record.partition)
        .timestamp(record.timestamp)
        .key(&record.key)
        .payload(&record.value)
        .headers(headers);
    producer
        .send(copy)
        .map_err(|(error, _)| error)
        .expect("a queue");
    producer.flush(Duration::from_secs(60)).expect("delivery");
}
