//! Planted violations, without brokers: each is named, and nothing else is.

use sluice_schemas::audit::testing::{NAMES, event, id, record, request, sound};
use sluice_schemas::event::{CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT};
use sluice_schemas::fate::{DUPLICATE_OF, RAW_OFFSET, RAW_PARTITION, RAW_TOPIC};
use sluice_schemas::raw::REQUEST;
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;

use super::deleted::Deleted;
use super::ledger::Ledger;
use super::questions::Questions;
use super::report::{LISTED, Partition, Report};
use super::work::sums;

const DAY: i64 = 86_400_000;

fn settings() -> Settings {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.yaml");
    let text = "kafka: {bootstrap_servers: 'b:9092'}\n\
                topics: {retention: {events: 28d, rejected: 7d}, rejected_bytes: 1MiB}\n\
                sources: {x: {provider: flock, secrets: [a], dedup_window: 72h}}\n";
    std::fs::write(&file, text).expect("the settings");
    sluice_service::settings::load(&file).expect("settings without faults")
}

/// What stands on the topics of a test.
struct Scene {
    records: Vec<Record>,
    /// Behind the last offset of raw that is judged.
    committed: i64,
    /// The topics of fates whose partition 0 has lost its first records.
    fronts: Vec<&'static str>,
    now: i64,
}

impl Scene {
    fn sound() -> Self {
        Self {
            records: sound().0,
            committed: 4,
            fronts: Vec::new(),
            now: DAY,
        }
    }

    fn without(mut self, topic: &str) -> Self {
        self.records.retain(|record| record.topic != topic);
        self
    }

    fn raw(&mut self, offset: i64, timestamp: i64) {
        let mut raw = record("webhooks.raw", offset, b"", &[(REQUEST, &request(offset))]);
        raw.timestamp = timestamp;
        self.records.push(raw);
    }

    fn event(&mut self, at: i64, id: &str, raw: i64) {
        let framing = (CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT.as_bytes());
        let value = event(id, raw, "");
        self.records
            .push(record("events.flock.a", at, &value, &[framing]));
    }

    fn audit(&self) -> Report {
        let settings = settings();
        let raw = |one: &&Record| one.topic == "webhooks.raw";
        let end = self
            .records
            .iter()
            .filter(raw)
            .map(|one| one.offset + 1)
            .max();
        let end = end.unwrap_or_default();
        let partition = Partition {
            number: 0,
            begin: 0,
            from: 0,
            to: end,
            committed: Some(self.committed),
            end,
        };
        let mut deleted = Deleted::new(&settings, self.now);
        for topic in &self.fronts {
            deleted.front(topic, 0);
        }
        let mut ledger = Ledger::new(&NAMES, &[partition], deleted);
        let (raws, fates): (Vec<_>, Vec<_>) = self.records.iter().partition(raw);
        for one in &raws {
            ledger.raw(one);
        }
        for one in &fates {
            ledger.fate(one);
        }
        let ids = ledger.sort();
        let mut questions = Questions::new(&settings, &ledger, ids);
        if questions.needs_fates() {
            for one in &fates {
                questions.fate(one);
            }
        }
        let ranges = questions.raw_ranges();
        for one in raws {
            if ranges
                .get(&0)
                .is_some_and(|(first, last)| (*first..=*last).contains(&one.offset))
            {
                questions.raw(one);
            }
        }
        let mut report = Report::default();
        questions.finish(&mut report);
        sums(&ledger, &mut report);
        report.judge();
        let fates = report.events + report.duplicates + report.rejected + report.dead_letters;
        assert_eq!(
            report.raw,
            fates + report.expired + report.missing_fates,
            "{report:?}"
        );
        report
    }
}

#[test]
fn what_is_sound_balances_and_what_is_not_judged_is_in_flight() {
    let mut scene = Scene::sound();
    let report = scene.audit();
    assert!(report.balanced, "{report:?}");
    assert_eq!((report.raw, report.in_flight), (4, 0));
    let fates = [
        report.events,
        report.duplicates,
        report.rejected,
        report.dead_letters,
    ];
    assert_eq!(fates, [1; 4]);
    assert_eq!(report.lines().last().expect("lines"), "balanced");

    // One that is not judged, and one whose offset was not committed when it was asked for.
    scene.raw(4, 7);
    scene.committed = 3;
    let report = scene.audit();
    assert!(report.balanced, "{report:?}");
    assert_eq!(
        (report.raw, report.in_flight, report.dead_letters),
        (3, 2, 0)
    );
    assert_eq!(
        report.in_flight_since.as_deref(),
        Some("1970-01-01T00:00:00.000Z")
    );

    // Offsets without a record are none.
    scene.raw(9, 7);
    scene.event(1, "e9", 9);
    scene.committed = 10;
    scene
        .records
        .retain(|one| one.topic != "webhooks.raw" || one.offset != 4);
    let report = scene.audit();
    assert!(report.balanced, "{report:?}");
    assert_eq!((report.raw, report.in_flight, report.events), (5, 0, 2));
}

#[test]
fn a_raw_record_without_a_fate_is_missing_and_the_list_is_bounded() {
    let report = Scene::sound().without("webhooks.dead-letter").audit();
    assert!(!report.balanced);
    let [missing] = report.missing.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(
        (missing.kind, missing.topic.as_str(), missing.offset),
        ("fate", "webhooks.raw", 3)
    );
    assert_eq!(missing.request_id, Some(id(3).to_string()));
    assert_eq!(
        missing.look,
        format!("sluicectl find {} --since 1970-01-01T00:00:00.000Z", id(3))
    );
    let lines = report.lines();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("missing  webhooks.raw/0/3 has no fate"))
    );
    assert!(!lines.iter().any(|line| line.contains("originals")));

    let mut scene = Scene::sound();
    for offset in 4..300 {
        scene.raw(offset, 0);
    }
    scene.committed = 300;
    let report = scene.audit();
    assert_eq!((report.missing.len(), report.missing_total), (LISTED, 296));
    assert!(report.lines().contains(&"missing  and 196 more".to_owned()));
}

#[test]
fn a_second_fate_and_a_second_event_are_of_two_kinds() {
    let mut scene = Scene::sound();
    // The same record again.
    scene.event(1, "e0", 0);
    let report = scene.audit();
    let [twice] = report.twice.as_slice() else {
        panic!("{report:?}");
    };
    assert!(!report.balanced);
    assert_eq!((twice.kind, report.twice_total), ("fate", 1));
    assert_eq!(
        (twice.topic.as_str(), twice.offset, twice.records.len()),
        ("events.flock.a", 1, 2)
    );

    // Another raw record of the same identity, within its window, and behind it.
    for (hours, is_twice) in [(71, true), (72, false)] {
        let mut scene = Scene::sound();
        scene.raw(4, hours * 3_600_000);
        scene.event(1, "e0", 4);
        scene.committed = 5;
        let report = scene.audit();
        assert_eq!(report.balanced, !is_twice, "{report:?}");
        let kinds: Vec<_> = report
            .twice
            .iter()
            .map(|one| (one.kind, one.event.as_deref()))
            .collect();
        assert_eq!(
            kinds,
            if is_twice {
                vec![("event", Some("e0"))]
            } else {
                Vec::new()
            }
        );
    }
}

#[test]
fn a_duplicate_has_its_original_or_it_is_named() {
    let mut scene = Scene::sound();
    for one in &mut scene.records {
        if one.topic == "webhooks.duplicates" {
            one.headers.retain(|(name, _)| name != DUPLICATE_OF);
            one.headers.push((DUPLICATE_OF.to_owned(), b"e7".to_vec()));
        }
    }
    let report = scene.audit();
    let [missing] = report.missing.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(
        (missing.kind, missing.event.as_deref()),
        ("original", Some("e7"))
    );
    assert_eq!(
        (missing.topic.as_str(), report.missing_fates),
        ("webhooks.duplicates", 0)
    );
    let lines = report.lines();
    for line in [
        "           0  missing: raw records without a fate",
        "           1  missing originals: events that duplicates repeat",
    ] {
        assert!(lines.contains(&line.to_owned()), "{lines:?}");
    }

    // Records of its topic are deleted: long after its time by retention, before that by somebody.
    scene.fronts = vec!["events.flock.a"];
    scene.now = 40 * DAY;
    let report = scene.audit();
    assert!(report.balanced, "{report:?}");
    assert_eq!(report.expired_originals, 1);
    scene.now = DAY;
    let report = scene.audit();
    assert_eq!(
        (report.balanced, report.unexplained_total),
        (false, 1),
        "{report:?}"
    );
    // Of another provider.
    scene.fronts = vec!["events.flockler.a"];
    assert_eq!(scene.audit().missing_total, 1);
}

#[test]
fn what_retention_may_have_deleted_is_expired_and_nothing_else_is() {
    let audit = |fronts: &[&'static str], now| {
        let mut scene = Scene::sound().without("webhooks.rejected");
        (scene.fronts, scene.now) = (fronts.to_vec(), now);
        scene.audit()
    };
    // Older than the 7 days of its topic.
    let report = audit(&["webhooks.rejected"], 8 * DAY);
    assert!(report.balanced, "{report:?}");
    assert_eq!((report.expired, report.unexplained_total), (1, 0));
    // Younger: counted, and named.
    let report = audit(&["webhooks.rejected"], DAY);
    assert!(!report.balanced);
    assert_eq!((report.expired, report.missing_total), (1, 0));
    let deleted = report
        .unexplained
        .first()
        .and_then(|one| one.deleted_from.as_deref());
    assert_eq!(deleted, Some("webhooks.rejected"));
    // A dead letter of a later raw record may hide it, an event of an earlier one proves that it is lost.
    for (topic, expired) in [
        ("webhooks.dead-letter", 1),
        ("events.flock.a", 0),
        ("events.other.a", 0),
    ] {
        let report = audit(&[topic], 40 * DAY);
        assert_eq!(
            (report.expired, report.missing_fates),
            (expired, 1 - expired),
            "{topic}"
        );
    }
}

#[test]
fn a_topic_that_is_full_of_bytes_deletes_at_any_age() {
    let mut scene = Scene::sound().without("webhooks.rejected");
    scene.fronts = vec!["webhooks.rejected"];
    scene.raw(4, 0);
    scene.committed = 5;
    let place = |offset: &str| {
        let headers: [(&str, &[u8]); 3] = [
            (RAW_TOPIC, b"webhooks.raw"),
            (RAW_PARTITION, b"0"),
            (RAW_OFFSET, offset.as_bytes()),
        ];
        record("webhooks.rejected", 9, &vec![b'x'; 600_000], &headers)
    };
    scene.records.push(place("4"));
    let report = scene.audit();
    assert!(report.balanced, "{report:?}");
    assert_eq!((report.expired, report.rejected), (1, 1));
}

#[test]
fn fates_of_others_are_counted_and_are_no_violations() {
    let mut scene = Scene::sound();
    scene.event(1, "e50", 50);
    scene.records.push(record("events.flock.a", 2, b"{}", &[]));
    let report = scene.audit();
    assert!(report.balanced, "{report:?}");
    assert_eq!((report.fates_outside, report.unreadable), (1, 1));
    // A newer release's raw record cannot be accounted for with certainty.
    scene.records[0].headers = vec![(REQUEST.to_owned(), br#"{"v":9}"#.to_vec())];
    let report = scene.audit();
    assert!(!report.balanced && report.newer == 1, "{report:?}");
    assert!(report.why[0].contains("newer release"));
}
