//! What a command printed, and what the topics hold.

use serde_json::{Value, json};
use sluice_schemas::event::{CONTENT_TYPE, WebhookEvent, decode};
use sluice_schemas::record::Record;
use sluice_schemas::topic::TopicNames;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets;
use sluice_tests::harness::topics::{Isolation, read, with_prefix};

use crate::ctl::{Ran, run};

#[track_caller]
pub fn only(site: &Site, settings: &Value, arguments: &[&str], status: i32) -> Value {
    let ran = run(site, settings, arguments);
    result(&ran, status)
}

#[track_caller]
pub fn result(ran: &Ran, status: i32) -> Value {
    assert_eq!(ran.status, Some(status), "{}\n{}", ran.out, ran.err);
    let objects = ran.objects();
    assert_eq!(objects.len(), 1, "{}\n{}", ran.out, ran.err);
    objects.into_iter().next().expect("one")
}

#[track_caller]
pub fn has(found: &Value, expected: &[(&str, u64)]) {
    for (member, count) in expected {
        assert_eq!(found[member], json!(count), "{member}: {found}");
    }
}

pub fn raw_ends(site: &Site) -> i64 {
    let ends = offsets::ends(site.bootstrap(), &site.names().raw());
    ends.expect("ends").iter().sum()
}

pub fn records(site: &Site, topic: &str) -> Vec<Record> {
    read(site.bootstrap(), &[topic.to_owned()], Isolation::Committed).expect("records")
}

pub fn events(site: &Site) -> Vec<WebhookEvent> {
    let names: TopicNames = site.names();
    let mut topics = with_prefix(site.bootstrap(), &names.prefix).expect("topics");
    topics.retain(|topic| topic.starts_with(&format!("{}events.", names.prefix)));
    let records = read(site.bootstrap(), &topics, Isolation::Committed).expect("records");
    let event =
        |record: &Record| decode(record.text(CONTENT_TYPE), &record.value).expect("an event");
    records.iter().map(event).collect()
}
