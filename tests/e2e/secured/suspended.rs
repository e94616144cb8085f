//! A topic that may not be written suspends the partitions of raw whose records would go there, and no other.

use std::collections::BTreeSet;

use sluice_schemas::acl::{Acl, Operation, Resource};
use sluice_schemas::fate::Fate;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::offsets;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::{NODE, scram, source};

#[test]
fn a_topic_that_may_not_be_written_suspends_its_partitions_alone() {
    let secured = scram("secured-suspended");
    let principal = secured.principals[1].clone();
    let rules = secured.rules(1);
    let mut running = secured.run();
    let (source, event) = source(&running);
    let topic = source.topic(&running.names(), event).expect("a topic");
    let is_its = |rule: &&Acl| {
        rule.resource == Resource::Topic(topic.clone()) && rule.operation == Operation::Write
    };
    let rule = rules.iter().find(is_its).expect("a rule");
    NODE.1.remove(&principal, rule).expect("a rule less");
    let raw = running.names().raw();
    let ends = |bootstrap: &str| offsets::ends(bootstrap, &raw).expect("ends");
    let bootstrap = running.site.bootstrap().to_owned();
    let before = ends(&bootstrap);
    let waits = running.accept(&source.signed(event, 1, now()).expect("a request"));
    let after = ends(&bootstrap);
    let suspended: BTreeSet<usize> = (0..before.len())
        .filter(|n| before[*n] != after[*n])
        .collect();
    assert_eq!(suspended.len(), 1);
    wait_for("the suspension", PATIENCE, || {
        let log = running.processor.log()?;
        let mut lines = log.lines();
        let said =
            |line: &str| line.contains("this partition is suspended") && line.contains(&topic);
        Ok(lines.any(said).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", running.processor.log().unwrap_or_default()));
    running.processor.wait_unready().expect("it says so");
    // Records of other topics go on in all other partitions: forgeries are enough, their keys are any.
    for n in 100..160 {
        let stale = source.signed(event, n, now() - 1_000_000);
        running.accept(&stale.expect("a request"));
    }
    let group = running.site.group();
    wait_for("the other partitions", PATIENCE, || {
        let committed = offsets::committed(&bootstrap, &group, &raw)?;
        let ends = ends(&bootstrap);
        let others = (0..ends.len()).filter(|n| !suspended.contains(n));
        let behind = others.filter(|n| ends[*n] > 0 && committed[*n] != Some(ends[*n]));
        Ok((behind.count() == 0).then_some(()))
    })
    .expect("they do not wait");
    let aborted = running.processor.metrics().expect("metrics");
    let aborted = aborted.sum("sluice_aborted_records_total", &[]);
    assert!(aborted < 60.0, "{aborted} records of aborted transactions");
    NODE.1.add(&principal, rule).expect("a rule");
    assert_eq!(running.outcome(&waits).fate, Fate::Event);
    running.processor.wait_ready().expect("all is well again");
    running.finish(&["WARN", "ERROR", "Kafka refuses"]);
}
