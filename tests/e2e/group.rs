//! The consumer group: what a member does whose request to join is not answered.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use sluice_schemas::fate::Fate;
use sluice_tests::harness::child::Signal;
use sluice_tests::harness::client;
use sluice_tests::harness::cluster::{Cluster, Options};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::proxy::{Api, Side, Then, Trap};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::Running;

const SLOT: &str = "p0";

/// How long the coordinator may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Waits until the group has no member.
fn wait_empty(cluster: &Cluster, group: &str) {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        .create()
        .expect("a client");
    wait_for("the group to be empty", PATIENCE, || {
        let found = client.fetch_group_list(Some(group), ANSWER)?;
        let members = found.groups().iter().map(|group| group.members().len());
        Ok((members.sum::<usize>() == 0).then_some(()))
    })
    .expect("the session ends");
}

/// The reply is held for longer than the test lasts, as by a coordinator that forgot it. The client gives the
/// request up after `max.poll.interval.ms` and three seconds.
#[test]
fn a_request_to_join_that_is_not_answered_is_made_again() {
    let cluster = Cluster::start_with(&Options {
        nodes: 1,
        slots: vec![SLOT.to_owned()],
        ..Options::default()
    })
    .expect("a node");
    let mut site = Site::new("group.", &cluster.bootstrap()).expect("a site");
    let ingest = site.ingest().expect("ingest starts");
    let times = json!({"session.timeout.ms": 6_000, "max.poll.interval.ms": 15_000});
    site.set(&["kafka", "properties"], times);
    site.set(
        &["kafka", "bootstrap_servers"],
        json!(cluster.bootstrap_of(SLOT)),
    );
    let processor = site.processor("p0").expect("the processor starts");
    let mut running = Running::of(site, ingest, processor);
    let source = running.source("referralloop");
    let request = |n| source.signed("signup.created", n, now());
    let before = running.accept(&request(1).expect("a request"));
    assert_eq!(running.outcome(&before).fate, Fate::Event);

    let unanswered = cluster.trap(
        SLOT,
        Trap {
            api: Api::JoinGroup,
            side: Side::Reply,
            skip: 0,
            then: Then::Hold,
        },
    );
    running.processor.signal(Signal::Stop).expect("a signal");
    wait_empty(&cluster, &running.site.group());
    running
        .processor
        .signal(Signal::Continue)
        .expect("it goes on");
    unanswered.wait(PATIENCE).expect("it joins again");
    let admin = running.processor.admin().expect("an admin port");
    wait_for("the worker to say that it joins", PATIENCE, || {
        let readyz = client::get(admin, "/readyz")?;
        let text = String::from_utf8_lossy(&readyz.body);
        Ok((readyz.status == 503 && text.contains("joining the group")).then_some(()))
    })
    .expect("a condition of /readyz");

    let during = running.accept(&request(2).expect("a request"));
    assert_eq!(running.outcome(&during).fate, Fate::Event);
    running.processor.wait_ready().expect("it has joined");
    running.finish(&["\"target\":\"librdkafka\"", "the transaction broke"]);
    drop(unanswered);
}
