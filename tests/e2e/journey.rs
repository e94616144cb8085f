//! The whole road: every event of every provider, in its topic, as a reader of ours finds it.

use std::collections::BTreeMap;

use sluice_schemas::event::{CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT, WebhookEvent};
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::topics::{Isolation, Record, read};
use sluice_tests::load::mix::cases::{self, Case, Expected};
use sluice_tests::report::outcome;

use crate::harness::{Running, fate_topics};

#[test]
fn every_event_of_every_provider_is_in_its_topic() {
    let mut running = Running::start("road");
    let at = now();
    let mut sent: BTreeMap<String, Case> = BTreeMap::new();
    let mut refused = 0;
    for case in cases::all(&running.site, 1, at).expect("cases") {
        let answer = running.post(&case.outgoing);
        match case.expected {
            Expected::Refused(status) => {
                assert_eq!(answer.status, status, "{}", case.what);
                refused += 1;
            }
            _ => drop(sent.insert(answer.id().expect("accepted"), case)),
        }
    }
    assert!(
        refused > 0 && sent.len() > 50,
        "{refused} refused, {} accepted",
        sent.len()
    );
    let outcomes = running.outcomes(sent.len());
    for (id, case) in &sent {
        let outcome = outcomes
            .get(id)
            .unwrap_or_else(|| panic!("no fate of {}", case.what));
        assert!(
            outcome.is(&case.expected),
            "{} {}: {outcome:?}",
            case.provider,
            case.what
        );
    }

    let topics = fate_topics(&running.site);
    let records = read(running.site.bootstrap(), &topics, Isolation::Committed).expect("records");
    let names = running.names();
    let mut events = 0;
    for record in &records {
        let (id, outcome) = outcome(&names, record).expect("a fate");
        if let Some(event) = outcome.event {
            check_event(record, &event, &sent[&id], at);
            events += 1;
        }
    }
    let metrics = running.processor.metrics().expect("metrics");
    let count = |labels: &[(&str, &str)]| metrics.sum("sluice_fates_total", labels);
    assert!((count(&[("fate", "event"), ("reason", "")]) - f64::from(events)).abs() < 0.5);
    assert!(count(&[("fate", "duplicate"), ("reason", "duplicate")]) >= f64::from(events));
    assert!(count(&[("fate", "rejected"), ("provider", "flock")]) >= 2.0);
    assert!(count(&[("fate", "dead_letter"), ("reason", "malformed_json")]) >= 4.0);
    running.finish(&[]);
}

fn check_event(record: &Record, event: &WebhookEvent, case: &Case, at: i64) {
    let what = &case.what;
    assert_eq!(event.provider, case.provider, "{what}");
    assert_eq!(event.source, format!("my-{}", case.provider), "{what}");
    assert_eq!(&event.r#type, what);
    assert_eq!(event.data.as_bytes(), case.outgoing.body, "{what}");
    assert!(
        (at..at + 120).contains(&(event.received_at / 1_000)),
        "{what}"
    );
    assert_eq!(record.timestamp, event.received_at, "{what}");
    let known = ["signed", "partially_signed", "token"];
    assert!(known.contains(&event.authenticity.as_str()), "{what}");
    assert_eq!(
        event.key_id.as_deref(),
        Some(event.source.as_str()),
        "{what}: the secret's name"
    );
    if let (Some(kind), Some(id)) = (&event.entity_type, &event.entity_id) {
        assert_eq!(
            event.subject.as_deref(),
            Some(format!("{kind}/{id}").as_str()),
            "{what}"
        );
    }
    match (case.provider, what.as_str()) {
        ("flock", "invitee.accepted") => {
            assert_eq!(event.scope_id.as_deref(), Some("campaign_12345"));
            assert_eq!(event.authenticity, "partially_signed");
            assert!(event.referrer_id.is_some() && event.invitee_id.is_some());
            assert_eq!(event.occurred_at, Some(at * 1_000));
        }
        ("referralloop", "signup.position_changed") => {
            assert_eq!(
                (event.position, event.previous_position),
                (Some(5), Some(10))
            );
            assert!(event.person_email.is_some());
        }
        ("flockler", "article.publish") => {
            assert_eq!(event.environment.as_deref(), Some("production"));
            assert_eq!(event.tags.as_deref(), Some(r#"["ruby","optimization"]"#));
            assert_eq!(event.published_at, Some(at * 1_000));
        }
        ("flowcode", _) => assert!(event.delivery_id.is_some()),
        _ => {}
    }
    let header = |name: &str| record.text(name).map(str::to_owned);
    assert_eq!(
        header(CONTENT_TYPE).as_deref(),
        Some(CONTENT_TYPE_SINGLE_OBJECT),
        "{what}"
    );
    assert!(header("traceparent").is_some(), "{what}");
    assert_eq!(header("ce_specversion").as_deref(), Some("1.0"), "{what}");
    assert_eq!(header("ce_id").as_ref(), Some(&event.id), "{what}");
    assert!(
        header("ce_source").is_some_and(|text| text.contains(&event.source)),
        "{what}"
    );
    assert!(
        header("ce_type").is_some_and(|text| text.ends_with(&event.r#type)),
        "{what}"
    );
    assert!(
        header("ce_time").is_some_and(|text| text.ends_with('Z')),
        "{what}"
    );
    assert_eq!(header("ce_subject"), event.subject, "{what}");
}
