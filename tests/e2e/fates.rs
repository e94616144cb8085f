//! Every reason of the design, brought about from outside, and a body of exactly the largest size
//! through every fate.

use std::net::IpAddr;

use serde_json::{Value, json};
use sluice_schemas::fate::{DETAIL_BYTES, Fate, REDRIVE_COUNT, REDRIVE_LIMIT};
use sluice_schemas::providers::testing::Unsigned;
use sluice_schemas::raw::{Ack, Headers, RawRequest};
use sluice_schemas::reason::Reason;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::load::mix::foreign_secret;

use crate::harness::{Running, fresh_id, produce_raw, site};

/// A request of a source with any body and headers, signed.
fn signed(source: &Source, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Outgoing {
    let unsigned = Unsigned {
        headers: headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        body: body.into(),
        delivery_id: format!("msg_{}", fresh_id().simple()),
    };
    source.sign(&unsigned, now()).expect("a request")
}

/// The same request with a header's value changed; `None` takes it out.
fn with(mut request: Outgoing, name: &str, value: Option<&str>) -> Outgoing {
    match value {
        None => request.headers.retain(|(found, _)| found != name),
        Some(value) => {
            let found = request.headers.iter_mut().find(|(found, _)| found == name);
            value.clone_into(&mut found.expect("the header").1);
        }
    }
    request
}

fn and(mut request: Outgoing, name: &str, value: &str) -> Outgoing {
    request.headers.push((name.to_owned(), value.to_owned()));
    request
}

/// Every row that a sender can bring about: what it is, the request, the reason.
fn rows(running: &Running) -> Vec<(String, Outgoing, Reason)> {
    let mut rows = flock(&running.source("flock"));
    rows.extend(flowcode(&running.source("flowcode")));
    rows.extend(flockler(&running.source("flockler")));
    rows.extend(referralloop(&running.source("referralloop")));
    rows
}

type Rows = Vec<(String, Outgoing, Reason)>;

#[expect(clippy::too_many_lines, reason = "a table: one row a case")]
fn flock(source: &Source) -> Rows {
    const SIGNATURE: &str = "x-flock-signature";
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("flock: {what}"), request, reason));
    };
    let body = |n: u64, change: &dyn Fn(&mut Value)| {
        let mut body = json!({
            "entity": "referral", "entityId": format!("row_{n}"), "name": "referral.accepted",
            "timestamp": now(),
        });
        change(&mut body);
        body.to_string()
    };
    let plain = |n| signed(source, &[], body(n, &|_| {}));
    let timed = |n, time: Value| {
        signed(
            source,
            &[],
            body(n, &|body| body["timestamp"] = time.clone()),
        )
    };
    row(
        "no signature",
        with(plain(1), SIGNATURE, None),
        Reason::SignatureMissing,
    );
    row(
        "an empty signature",
        with(plain(2), SIGNATURE, Some("")),
        Reason::SignatureMalformed,
    );
    row(
        "no encoding",
        with(plain(3), SIGNATURE, Some("!!!")),
        Reason::SignatureMalformed,
    );
    row(
        "twice",
        and(plain(4), SIGNATURE, "00"),
        Reason::SignatureMalformed,
    );
    let long = "a".repeat(4_097);
    row(
        "over 4 KiB",
        with(plain(5), SIGNATURE, Some(&long)),
        Reason::SignatureMalformed,
    );
    let zeros = "0".repeat(64);
    row(
        "a wrong signature",
        with(plain(6), SIGNATURE, Some(&zeros)),
        Reason::SignatureMismatch,
    );
    let no_time =
        |body: &mut Value| drop(body.as_object_mut().map(|body| body.remove("timestamp")));
    row(
        "no time",
        signed(source, &[], body(7, &no_time)),
        Reason::TimestampMissing,
    );
    row(
        "time in words",
        timed(8, json!("yesterday")),
        Reason::TimestampMalformed,
    );
    row(
        "stale",
        timed(9, json!(now() - 400)),
        Reason::TimestampStale,
    );
    row(
        "from the future",
        timed(10, json!(now() + 400)),
        Reason::TimestampStale,
    );
    row(
        "the far future",
        timed(11, json!(99_999_999_999_u64)),
        Reason::TimestampStale,
    );
    row(
        "not UTF-8",
        signed(source, &[], b"{\"name\":\"\xff\"}".to_vec()),
        Reason::NotUtf8,
    );
    row("empty", signed(source, &[], ""), Reason::MalformedJson);
    row(
        "not JSON",
        signed(source, &[], "name=x"),
        Reason::MalformedJson,
    );
    let twice = format!(
        r#"{{"name":"a","name":"b","entity":"x","entityId":"y","timestamp":{}}}"#,
        now()
    );
    row(
        "a key twice",
        signed(source, &[], twice),
        Reason::MalformedJson,
    );
    let no_name = |body: &mut Value| drop(body.as_object_mut().map(|body| body.remove("name")));
    row(
        "no name",
        signed(source, &[], body(12, &no_name)),
        Reason::MissingField,
    );
    rows
}

fn flowcode(source: &Source) -> Rows {
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("flowcode: {what}"), request, reason));
    };
    let plain = || signed(source, &[], r#"{"type":"scan.created"}"#);
    let time = |value| with(plain(), "webhook-timestamp", value);
    row(
        "no signature",
        with(plain(), "webhook-signature", None),
        Reason::SignatureMissing,
    );
    row(
        "mixed families",
        and(plain(), "svix-id", "x"),
        Reason::SignatureMalformed,
    );
    row("no time", time(None), Reason::TimestampMissing);
    for odd in ["abc", "-1", "1700000000.5", "+1700000000", " "] {
        row(
            &format!("time {odd:?}"),
            time(Some(odd)),
            Reason::TimestampMalformed,
        );
    }
    let stale = |by: i64| {
        let unsigned = source
            .provider()
            .expect("known")
            .sender()
            .sample("scan.created", 1, now());
        source.sign(&unsigned, now() + by).expect("a request")
    };
    row("stale", stale(-400), Reason::TimestampStale);
    row("from the future", stale(400), Reason::TimestampStale);
    row(
        "not UTF-8",
        signed(source, &[], vec![0xff]),
        Reason::NotUtf8,
    );
    row("not JSON", signed(source, &[], "{"), Reason::MalformedJson);
    rows
}

fn flockler(source: &Source) -> Rows {
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("flockler: {what}"), request, reason));
    };
    let request = |action: &str, env: &str, body: Value| {
        let headers = [("x-flockler-action", action), ("x-flockler-env", env)];
        signed(source, &headers, body.to_string())
    };
    let body = |action: &str| json!({"action": action, "article": {"id": 900_001}});
    let other = request("publish", "production", body("update"));
    row(
        "header and body differ",
        other,
        Reason::ContradictoryHeaders,
    );
    let odd = request("explode", "production", body("explode"));
    row(
        "an action outside the set",
        odd,
        Reason::ContradictoryHeaders,
    );
    let staging = request("update", "staging", body("update"));
    row("staging", staging, Reason::EnvironmentNotAccepted);
    let nobody = request(
        "update",
        "production",
        json!({"action": "update", "article": {}}),
    );
    row("no id", nobody, Reason::MissingField);
    // The title stands in the event twice: as a column and in the body.
    let title = "t".repeat(1_900_000);
    let large = json!({"action": "update", "article": {"id": 900_002, "title": title}});
    row(
        "a huge title",
        request("update", "production", large),
        Reason::TooLargeForTopic,
    );
    rows
}

fn referralloop(source: &Source) -> Rows {
    let mut rows = Rows::new();
    let mut row = |what: &str, request: Outgoing, reason| {
        rows.push((format!("referralloop: {what}"), request, reason));
    };
    let unsigned =
        source
            .provider()
            .expect("known")
            .sender()
            .sample("signup.created", 900_003, now());
    let forged = source.sign_with(&unsigned, &foreign_secret(&source.secret), now());
    row(
        "a bad signature",
        forged.expect("a request"),
        Reason::SignatureMismatch,
    );
    let body =
        json!({"event_type": "signup.created", "waitlist_id": "w", "data": {}, "timestamp": "x"});
    row(
        "no id",
        signed(source, &[], body.to_string()),
        Reason::MissingField,
    );
    rows
}

#[test]
fn every_reason_of_the_design() {
    let mut site = site("fates");
    // So that a body fits raw while its event, which repeats the title, is too large for any topic.
    let name = site.source("flockler").expect("a source").name.clone();
    site.set(&["sources", &name, "max_body"], json!("2MiB"));
    let mut running = Running::on(site);
    let rows = rows(&running);
    let mut expected = Vec::new();
    for (what, request, reason) in rows {
        expected.push((running.accept(&request), what, reason));
    }
    // What no sender can bring about comes to raw by the operator's hand.
    let flock = running.source("flock");
    let by_hand = |source: &str, provider: &str, token: bool| RawRequest {
        id: fresh_id(),
        source: source.to_owned(),
        provider: provider.to_owned(),
        received_at: now() * 1_000_000,
        method: "POST".into(),
        target: "/".into(),
        peer: IpAddr::from([127, 0, 0, 1]),
        token,
        ack: Ack::Broker,
        headers: Headers::default(),
    };
    let over = (REDRIVE_LIMIT + 1).to_string();
    let waitlist = running.source("referralloop").name;
    let gone = by_hand("gone", "flock", false);
    let again = by_hand(&flock.name, "flock", false);
    let tokenless = by_hand(&waitlist, "referralloop", false);
    produce_raw(&running.site, &gone, b"{}", &[]);
    produce_raw(&running.site, &again, b"{}", &[(REDRIVE_COUNT, &over)]);
    produce_raw(&running.site, &tokenless, b"{}", &[]);
    for (request, reason) in [
        (gone, Reason::UnknownSource),
        (again, Reason::RedriveLimit),
        (tokenless, Reason::TokenMissing),
    ] {
        expected.push((request.id.to_string(), "by hand".to_owned(), reason));
    }

    let outcomes = running.outcomes(expected.len());
    let mut wrong = Vec::new();
    for (id, what, reason) in &expected {
        let outcome = &outcomes[id];
        if outcome.reason != reason.name() || Some(outcome.fate) != Some(reason.fate()) {
            wrong.push(format!(
                "{what}: {} {}, not {reason}",
                outcome.fate, outcome.reason
            ));
        }
        assert!(
            !outcome.detail.is_empty() && outcome.detail.len() <= DETAIL_BYTES,
            "{what}"
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let seen: Vec<Reason> = expected.iter().map(|(_, _, reason)| *reason).collect();
    for reason in Reason::ALL {
        // The duplicates have a file of their own.
        assert!(
            reason == Reason::Duplicate || seen.contains(&reason),
            "{reason} has no row"
        );
    }
    let metrics = running.processor.metrics().expect("metrics");
    let stale = [
        ("reason", "timestamp_stale"),
        ("fate", "rejected"),
        ("source", flock.name.as_str()),
    ];
    assert!((metrics.sum("sluice_fates_total", &stale) - 3.0).abs() < 0.5);
    running.accept(
        &flock
            .signed("referral.accepted", 1, now())
            .expect("a request"),
    );
    running.outcomes(expected.len() + 1);
    running.finish(&[]);
}

#[test]
fn odd_bodies_are_events_or_dead_letters_and_never_stop_the_road() {
    let mut running = Running::start("odd-bodies");
    let source = running.source("flowcode");
    let nested = format!(
        "{{\"type\":\"scan.created\",\"x\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let string = format!(
        "{{\"type\":\"scan.created\",\"x\":\"{}\"}}",
        "s".repeat(1_000_000)
    );
    let bodies = [
        (nested, None),
        (string, Some(Fate::Event)),
        (
            r#"{"type":"scan.created","n":123456789012345678901234567890}"#.into(),
            Some(Fate::Event),
        ),
        (r#"{"type":"scan.created","n":1e400}"#.into(), None),
        (
            r#"{"type":"never.heard.of/../it"}"#.into(),
            Some(Fate::Event),
        ),
        (r#"{"no":"type"}"#.into(), Some(Fate::Event)),
        (r#"{"type":"a","type":"b"}"#.into(), Some(Fate::DeadLetter)),
        ("[]".into(), None),
        ("\"scan.created\"".into(), None),
    ];
    let ids: Vec<_> = bodies
        .iter()
        .map(|(body, _)| running.accept(&signed(&source, &[], body.clone())))
        .collect();
    let outcomes = running.outcomes(ids.len());
    for (id, (body, fate)) in ids.iter().zip(&bodies) {
        let outcome = &outcomes[id];
        let start = &body[..body.len().min(40)];
        match fate {
            Some(fate) => assert_eq!(outcome.fate, *fate, "{start}: {outcome:?}"),
            None => assert!(
                matches!(outcome.fate, Fate::Event | Fate::DeadLetter),
                "{start}: {outcome:?}"
            ),
        }
    }
    // A number past 2^53 is kept as it was written.
    let event = outcomes[&ids[2]].event.as_ref().expect("an event");
    assert!(event.data.contains("123456789012345678901234567890"));
    assert_eq!(
        outcomes[&ids[4]].topic,
        running.names().event("flowcode", "other")
    );
    running.finish(&[]);
}

/// A signed body of exactly this many bytes: spaces before the last bracket.
fn padded(source: &Source, headers: &[(&str, &str)], start: &str, size: usize) -> Outgoing {
    let mut body = start.as_bytes().to_vec();
    body.resize(size - 1, b' ');
    body.push(b'}');
    signed(source, headers, body)
}

#[test]
fn a_body_of_the_largest_size_passes_through_every_fate() {
    const LARGEST: usize = 1 << 20;
    let mut running = Running::start("largest");
    let source = running.source("flock");
    let start = format!(
        r#"{{"entity":"referral","entityId":"e","name":"referral.accepted","timestamp":{}"#,
        now()
    );
    let event = padded(&source, &[], &start, LARGEST);
    let forged = with(event.clone(), "x-flock-signature", Some(&"0".repeat(64)));
    let dead = padded(
        &source,
        &[],
        &start.replace("\"name\"", "\"nome\""),
        LARGEST,
    );
    let sent = [
        (event.clone(), Fate::Event),
        (event.clone(), Fate::Duplicate),
        (forged, Fate::Rejected),
        (dead, Fate::DeadLetter),
    ];
    for (request, fate) in sent {
        assert_eq!(request.body.len(), LARGEST);
        let id = running.accept(&request);
        let outcome = running.outcome(&id);
        assert_eq!(outcome.fate, fate, "{outcome:?}");
    }
    let over = padded(&source, &[], &start, LARGEST + 1);
    assert_eq!(running.post(&over).status, 413);
    // Flowcode's bodies may be twice as large.
    let flowcode = running.source("flowcode");
    let id = running.accept(&padded(
        &flowcode,
        &[],
        r#"{"type":"scan.created""#,
        2 * LARGEST,
    ));
    assert_eq!(running.outcome(&id).fate, Fate::Event);
    running.finish(&[]);
}
