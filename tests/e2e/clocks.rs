//! Brokers' clocks that are off, and what both services say of it. All brokers ten minutes ahead are to a
//! service as its own clock ten minutes behind: the services themselves do not work under libfaketime.

use std::collections::BTreeMap;

use sluice_tests::harness::client;
use sluice_tests::harness::cluster::{Cluster, Options};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::Running;

const DIFFERENCE: &str = "sluice_clock_difference_seconds";

/// The node, counted from 0, whose clock is off first; the broker of that node is 3.
const FIRST: usize = 2;

const OFF: &str = "+720s";

#[test]
#[ignore = "needs root and libfaketime: make faketime"]
fn the_clock_of_one_broker_costs_no_readiness_and_that_of_all_does() {
    let cluster = Cluster::start_with(&Options {
        clocks: BTreeMap::from([(FIRST, OFF.to_owned())]),
        ..Options::default()
    })
    .expect("three nodes");
    let site = Site::new("clocks.", &cluster.bootstrap()).expect("a site");
    let mut running = Running::on(site);
    load_until(&mut running, "both see each broker's clock", |running| {
        [&running.ingest, &running.processor]
            .into_iter()
            .all(|service| {
                let off = |broker: &str| difference(service, broker);
                off("3").is_some_and(|off| off > 600.0)
                    && ["1", "2"]
                        .into_iter()
                        .all(|one| off(one).is_some_and(|off| off.abs() < 60.0))
            })
    });
    for service in [&running.ingest, &running.processor] {
        println!(
            "{DIFFERENCE}: {:?}",
            ["1", "2", "3"].map(|broker| difference(service, broker))
        );
        assert!(service.is_ready(), "{}", readyz(service));
    }

    for node in [0, 1] {
        cluster.stop(node).expect("an orderly end");
        cluster.set_clock(node, Some(OFF));
        cluster.restart(node).expect("a start");
        cluster.wait_ready().expect("all nodes");
    }
    load_until(&mut running, "neither is ready", |running| {
        let services = [&running.ingest, &running.processor];
        services
            .into_iter()
            .all(|service| readyz(service).contains("clock: "))
    });
    for service in [&running.ingest, &running.processor] {
        let said = readyz(service);
        println!("{said}");
        assert!(said.contains("s behind those of brokers ["), "{said}");
    }
}

fn difference(service: &Service, broker: &str) -> Option<f64> {
    let metrics = service.metrics().expect("metrics");
    let mut named = metrics.named(DIFFERENCE);
    let of_broker = named.find(|sample| sample.labels["broker"] == broker);
    of_broker.map(|sample| sample.value)
}

fn readyz(service: &Service) -> String {
    let answer =
        client::get(service.admin().expect("an admin port"), "/readyz").expect("an answer");
    String::from_utf8(answer.body).expect("text")
}

/// Sends requests, which may find a broker away, until something holds.
#[track_caller]
fn load_until(running: &mut Running, what: &str, mut holds: impl FnMut(&Running) -> bool) {
    let source = running.source("flowcode");
    let mut n = 0;
    wait_for(what, PATIENCE * 2, || {
        for _ in 0..5 {
            n += 1;
            let request = source.signed("scan.created", n, now()).expect("a request");
            drop(running.post(&request));
        }
        Ok(holds(running).then_some(()))
    })
    .expect(what);
}
