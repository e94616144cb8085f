//! What is done to topics that differ, and what is refused because it could lose records or stop writers.

use super::*;

fn settings() -> Settings {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.yaml");
    let text = "kafka: {bootstrap_servers: b}\ntopics: {partitions: 5}\n\
                sources: {s: {provider: flock, secrets: [a]}}\n";
    std::fs::write(&file, text).expect("the settings");
    sluice_service::settings::load(&file).expect("settings without faults")
}

fn difference(key: &'static str, has: Option<&str>, wanted: &str) -> Difference {
    Difference {
        key,
        has: has.map(str::to_owned),
        wanted: wanted.to_owned(),
        is_advice: false,
        sentence: format!("{key} differs"),
    }
}

fn states(differences: &[Difference], replicas: usize) -> Vec<State> {
    let steps = alterations(&settings(), "t", differences, replicas);
    steps.iter().map(|step| step.state).collect()
}

#[test]
fn nothing_that_could_delete_a_record_or_stop_a_writer_is_altered() {
    for (key, has, wanted, replicas, state) in [
        ("retention.ms", Some("1"), "2", 3, State::Alter),
        ("retention.ms", Some("2"), "1", 3, State::Refused),
        ("retention.ms", Some("-1"), "1", 3, State::Refused),
        ("retention.bytes", Some("5"), "-1", 3, State::Alter),
        ("retention.bytes", Some("-1"), "5", 3, State::Refused),
        ("retention.ms", None, "5", 3, State::Refused),
        (
            "cleanup.policy",
            Some("compact"),
            "delete",
            3,
            State::Refused,
        ),
        ("max.message.bytes", Some("1"), "2", 3, State::Alter),
        (
            "message.timestamp.type",
            Some("CreateTime"),
            "LogAppendTime",
            3,
            State::Alter,
        ),
        ("min.insync.replicas", Some("1"), "2", 3, State::Alter),
        ("min.insync.replicas", Some("1"), "2", 2, State::Refused),
        ("min.insync.replicas", Some("1"), "2", 1, State::Refused),
    ] {
        let found = states(&[difference(key, has, wanted)], replicas);
        assert_eq!(found, [state], "{key} {has:?} {wanted} {replicas}");
    }
}

#[test]
fn what_is_demanded_and_what_is_advised_are_steps_of_their_own() {
    let advised = Difference {
        is_advice: true,
        ..difference("segment.ms", Some("1"), "2")
    };
    let cut = Difference {
        is_advice: true,
        ..difference("retention.ms", Some("2"), "1")
    };
    let demanded = difference("max.message.bytes", Some("1"), "2");
    let steps = alterations(&settings(), "t", &[advised, cut, demanded], 3);
    let found: Vec<_> = steps
        .iter()
        .map(|step| (step.state, step.required, step.holds()))
        .collect();
    assert_eq!(
        found,
        [
            (State::Refused, false, true),
            (State::Alter, true, false),
            (State::Alter, false, false)
        ]
    );
    assert_eq!(steps[1].configs, [("max.message.bytes", "2".to_owned())]);
    let line = steps[0].line();
    assert!(
        line.starts_with("refused  t: retention.ms differs: records that stand there now")
            && line.contains("(advised); by hand: kafka-configs.sh --bootstrap-server b --alter"),
        "{line}"
    );
}

#[test]
fn raw_is_never_grown_and_topics_of_fates_are() {
    let settings = settings();
    let partitions = |name: &str, count| {
        let partitions = std::collections::BTreeMap::from([(name.to_owned(), count)]);
        let examined = sluice_service::kafka::topics::examine(&settings, &partitions);
        let topic = examined.into_iter().find(|topic| topic.spec.name == name);
        of_existing(&settings, &topic.expect("known"), 3)
    };
    for (name, mend) in [
        (
            "webhooks.raw",
            "by hand: set topics.partitions to 3 and topics.key_partitions to 3: see \"More partitions\" in \
             docs/operating.md",
        ),
        (
            "webhooks.dedup-log",
            "by hand: kafka-topics.sh --bootstrap-server b --alter --topic webhooks.dedup-log --partitions 5",
        ),
    ] {
        let steps = partitions(name, 3);
        assert_eq!((steps.len(), steps[0].state), (1, State::Refused));
        let line = steps[0].line();
        assert!(
            line.contains("has 3 partitions and must have exactly 5: raw and"),
            "{line}"
        );
        assert!(line.ends_with(mend), "{line}");
    }
    // Raw that got partitions by accident: the keys stay where they are.
    let line = partitions("webhooks.raw", 6)[0].line();
    assert!(
        line.contains("by hand: set topics.partitions to 6 and topics.key_partitions to 5"),
        "{line}"
    );
    let steps = partitions("webhooks.rejected", 1);
    assert_eq!((steps[0].state, steps[0].partitions), (State::Grow, 3));
    let steps = partitions("webhooks.rejected", 9);
    assert_eq!(
        steps[0].line(),
        "ok       webhooks.rejected: 9 partitions, as it must be"
    );
}
