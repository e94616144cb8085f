//! `sluicectl topics plan` and `apply` on real topics: what is missing is made, what differs is altered, and
//! nothing is done that could delete a record.

use serde_json::{Value, json};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets;

use crate::ctl::{Ran, run, with};
use crate::harness::site;

#[track_caller]
fn ended(site: &Site, settings: &Value, command: &str, status: i32) -> Ran {
    let ran = run(site, settings, &["topics", command, "--json"]);
    assert_eq!(
        ran.status,
        Some(status),
        "{command}\n{}\n{}",
        ran.out,
        ran.err
    );
    ran
}

/// The states of a topic's steps.
fn states(ran: &Ran, topic: &str) -> Vec<String> {
    let objects = ran.objects();
    let steps = objects.iter().filter(|step| step["topic"] == topic);
    let state = |step: &Value| step["state"].as_str().unwrap_or_default().to_owned();
    steps.map(state).collect()
}

#[test]
fn topics_are_made_and_altered_as_planned_and_nothing_is_lost() {
    let site = site("ctl-topics");
    let (names, settings) = (site.names(), &site.settings);
    let (raw, rejected) = (names.raw(), names.rejected());
    let event = names.event("flock", "referral.accepted");
    let plan = ended(&site, settings, "plan", 1);
    assert_eq!(states(&plan, &raw), ["create"]);
    let missing = offsets::ends(site.bootstrap(), &raw);
    assert!(missing.is_err(), "a plan makes nothing");
    let applied = ended(&site, settings, "apply", 0);
    assert_eq!(states(&applied, &raw), ["done"]);
    assert_eq!(offsets::ends(site.bootstrap(), &raw).expect("raw").len(), 3);
    // What it made is what the services demand.
    let checked = run(&site, settings, &["check"]);
    assert!(!checked.out.contains("FAIL  topics"), "{}", checked.out);
    assert!(!checked.out.contains("WARN  topics"), "{}", checked.out);
    let plan = ended(&site, settings, "plan", 0);
    assert_eq!(states(&plan, &event), ["ok"]);

    // A topic of others' settings, and one that is gone.
    let own = [("compression.type", "gzip"), ("retention.ms", "1000")];
    offsets::alter_topic(site.bootstrap(), &event, &own).expect("other settings");
    offsets::delete_topic(site.bootstrap(), &rejected).expect("a topic less");
    let plan = ended(&site, settings, "plan", 1);
    assert!(
        states(&plan, &event).contains(&"alter".to_owned()),
        "{}",
        plan.out
    );
    assert_eq!(states(&plan, &rejected), ["create"]);
    let applied = ended(&site, settings, "apply", 0);
    let altered = "altered: retention.ms was 1000 and is 2419200000";
    assert!(applied.out.contains(altered), "{}", applied.out);
    let setting = |topic: &str, key: &str| {
        offsets::topic_setting(site.bootstrap(), topic, key).expect("a setting")
    };
    assert_eq!(setting(&event, "compression.type").as_deref(), Some("gzip"));
    let kept = setting(&event, "retention.ms").expect("a retention");
    assert_eq!(kept, (28_u64 * 86_400_000).to_string());
    ended(&site, settings, "plan", 0);

    // More partitions for topics of fates, and never for raw; a shorter retention deletes records.
    let grown = with(&site, "/topics/event_partitions", json!(2));
    let applied = ended(&site, &grown, "apply", 0);
    assert_eq!(states(&applied, &rejected), ["done"]);
    let done = "grown: partitions were 1 and are 2;";
    assert!(applied.out.contains(done), "{}", applied.out);
    assert_eq!(
        offsets::ends(site.bootstrap(), &rejected)
            .expect("ends")
            .len(),
        2
    );
    let mut other = with(&site, "/topics/partitions", json!(5));
    other["topics"]["retention"] = json!({"raw": "1d"});
    let refused = ended(&site, &other, "apply", 1);
    assert_eq!(states(&refused, &raw), ["refused", "refused"]);
    assert!(
        refused.out.contains("repetitions would become events"),
        "{}",
        refused.out
    );
    assert!(
        refused.out.contains("would be deleted at once"),
        "{}",
        refused.out
    );
    assert_eq!(offsets::ends(site.bootstrap(), &raw).expect("raw").len(), 3);
    assert_eq!(setting(&raw, "retention.ms").as_deref(), Some("604800000"));
}
