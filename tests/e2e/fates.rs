//! Every reason of the design, brought about from outside, and a body of exactly the largest size
//! through every fate.

use std::net::IpAddr;

use serde_json::json;
use sluice_schemas::fate::{DETAIL_BYTES, Fate, REDRIVE_COUNT, REDRIVE_LIMIT};
use sluice_schemas::raw::{Ack, Headers, RawRequest};
use sluice_schemas::reason::Reason;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Source, now};

use crate::harness::{Running, fresh_id, produce_raw, site};
use crate::refusals::{rows, signed, with};

/// A request as no sender can make one, written to raw.
fn by_hand(source: &str, provider: &str, token: bool) -> RawRequest {
    RawRequest {
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
    }
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
fn odd_bodies_are_events_or_dead_letters_and_never_stop_the_partition() {
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
