//! A redrive whose broker goes away in the middle, and one long after the event is there.

use std::collections::BTreeSet;

use serde_json::json;
use sluice_tests::harness::cluster::{Cluster, Options, Purpose};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::reading::{events, has, only, result};
use super::{Broken, started};
use crate::ctl::run;
use crate::harness::Running;

/// Three dead letters of a source that is not known, in a cluster of its own; the settings are mended since.
fn three_letters(cluster: &Cluster, prefix: &str) -> Running {
    let site = Site::new(prefix, &cluster.bootstrap()).expect("a site");
    let mut broken = Broken::on(site);
    let source = broken.running.source("flowcode");
    let kind = source.samples().expect("samples")[0];
    for n in 0..3 {
        let request = source.signed(kind, n, now()).expect("a request");
        broken.running.accept(&request);
    }
    broken.mended()
}

const LETTERS: [&str; 4] = ["dead-letters", "redrive", "--source=my-flowcode", "--json"];

#[test]
fn a_broker_that_goes_away_ends_it_and_the_second_run_goes_on() {
    let cluster = Cluster::start(1, Purpose::Tests).expect("a node");
    let running = three_letters(&cluster, "redrive-away.");
    let site = &running.site;
    let child = started(site, &LETTERS, "1", 1);
    cluster.kill(0).expect("a kill");
    let ended = child.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert!(said.contains("the same command goes on there"), "{said}");
    cluster.restart(0).expect("a start");
    cluster.wait_ready().expect("the node");
    // The node finds its own logs first: until then it is to be tried again.
    let ran = wait_for("the second run", PATIENCE, || {
        let ran = run(site, &site.settings, &LETTERS);
        Ok((ran.status != Some(75)).then_some(ran))
    });
    let found = result(&ran.expect("a run"), 0);
    assert_eq!(found["resumed"], json!(true), "{found}");
    running.wait_caught_up();
    let became = events(site);
    let ids: BTreeSet<&String> = became.iter().map(|event| &event.id).collect();
    assert_eq!((ids.len(), became.len()), (3, 3));
}

/// The brokers' clocks are 80 hours ahead when the dead letter is redriven: no index remembers the retry.
#[test]
#[ignore = "needs root and libfaketime: make faketime"]
fn after_80_hours_the_retry_that_became_the_event_is_the_only_one() {
    let cluster = Cluster::start_with(&Options {
        nodes: 1,
        ..Options::default()
    })
    .expect("a node");
    let mut site = Site::new("redrive-80h.", &cluster.bootstrap()).expect("a site");
    site.set(&["processor", "dedup_window"], json!("79h"));
    let mut broken = Broken::on(site);
    let source = broken.running.source("flowcode");
    let kind = source.samples().expect("samples")[0];
    let request = source.signed(kind, 1, now()).expect("a request");
    broken.running.accept(&request);
    let mut running = broken.mended();
    let retry = running.accept(&request);
    running.wait_caught_up();
    let became = |running: &Running| -> Vec<String> {
        let events = events(&running.site).into_iter();
        events.map(|event| event.request_id).collect()
    };
    assert_eq!(became(&running), std::slice::from_ref(&retry));
    cluster.stop(0).expect("an orderly end");
    cluster.set_clock(0, Some("+80h"));
    cluster.restart(0).expect("a start");
    cluster.wait_ready().expect("the node");
    let found = only(&running.site, &running.site.settings, &LETTERS, 0);
    has(
        &found,
        &[("selected", 1), ("already_event", 1), ("sent", 0)],
    );
    running.wait_caught_up();
    assert_eq!(became(&running), [retry]);
}
