//! Kafka away, ingest killed, a spool left behind: every 200 comes to raw, in its order.

use std::process::Command;

use bytes::Bytes;
use serde_json::{Value, json};
use sluice_schemas::raw::{Ack, REQUEST, RawRequest};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::find;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::Running;

/// What the clients of a broker that is gone say, and the two of us that were killed or drained. A connection
/// to one that dies or starts is refused or reset.
const AWAY: &[&str] = &[
    "records are not delivered",
    "disconnected",
    " failed: Connection re",
    "brokers are down",
    "timed out",
    "the spool is not empty",
];

/// What ingest says of records that are too old.
const OLDER: &str = "spooled records are older than ingest.spool.max_age and wait aside";

/// Signed requests about one entity, so that all are in one partition, and none is like another.
fn request(running: &Running, n: u64) -> Outgoing {
    let source = running.source("flock");
    let made = source.signed("referral.accepted", n, now());
    made.expect("a request")
}

/// Kills the broker while only ingest is at work: what a processor makes of that is proved elsewhere.
fn kill_broker(running: &mut Running, cluster: &Cluster) {
    running.wait_caught_up();
    running.processor.stop().expect("the processor ends");
    cluster.kill(0).expect("a kill");
}

/// Runs `sluice-ingest drain`; its status and what it printed.
fn drain(site: &Site, settings: &Value, more: &[&str]) -> (Option<i32>, Value) {
    let file = site.dir().join("drain.yaml");
    std::fs::write(&file, settings.to_string()).expect("a file");
    let output = Command::new(find("sluice-ingest").expect("the binary"))
        .arg("drain")
        .arg("--config")
        .arg(&file)
        .args(more)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The last line; those before it are its log.
    let report = text
        .lines()
        .rev()
        .find(|line| line.starts_with("{\"drained\""));
    let report = report.map_or(Value::Null, |line| {
        serde_json::from_str(line).expect("JSON")
    });
    (output.status.code(), report)
}

#[test]
fn an_outage_and_two_kills_lose_nothing_and_keep_the_order() {
    let cluster = Cluster::start(1, Purpose::Tests).expect("Kafka starts");
    let mut site = Site::new("spool.", &cluster.bootstrap()).expect("a site");
    let spool = site.dir().join("spool");
    site.set(&["ingest", "spool"], json!({"dir": spool, "wait": "300ms"}));
    let settings = site.settings.clone();
    let mut running = Running::on(site);
    let mut sent = Vec::new();
    let mut n = 0;
    let mut post = |running: &mut Running| {
        n += 1;
        let request = request(running, n);
        sent.push(running.accept(&request));
    };
    for _ in 0..3 {
        post(&mut running);
    }
    kill_broker(&mut running, &cluster);
    for _ in 0..20 {
        post(&mut running);
    }
    running.ingest.kill().expect("a kill");
    // It starts without Kafka, for its disk has room.
    running.ingest = running.site.ingest().expect("ingest starts");
    running.ingest.wait_ready().expect("ingest is ready");
    for _ in 0..5 {
        post(&mut running);
    }
    let metrics = running.ingest.metrics().expect("metrics");
    let held = metrics.sum("sluice_ingest_spool_records", &[]);
    assert!((held - 25.0).abs() < 0.5, "{held}");
    let (status, _) = drain(&running.site, &settings, &[]);
    assert_eq!(status, Some(75), "the spool is in use");
    running.ingest.kill().expect("a kill");

    cluster.restart(0).expect("a start");
    cluster.wait_ready().expect("the node");
    let (status, report) = drain(&running.site, &settings, &[]);
    assert_eq!(
        (status, report),
        (
            Some(0),
            json!({"drained": 25, "left": 0, "refused": 0, "stopped": null})
        )
    );
    running.ingest = running.site.ingest().expect("ingest starts");
    running.ingest.wait_ready().expect("ingest is ready");
    post(&mut running);

    let raw = [running.names().raw()];
    let records = read(running.site.bootstrap(), &raw, Isolation::Committed).expect("raw");
    let of = |id: &String| {
        let header = records.iter().filter_map(|record| record.header(REQUEST));
        let mut requests = header.filter_map(|header| RawRequest::decode(header).ok());
        let found = requests.find(|request| request.id.to_string() == *id);
        found.expect("it is on raw").ack
    };
    let acks: Vec<Ack> = sent.iter().map(of).collect();
    assert!(acks[..3].iter().all(|ack| *ack == Ack::Broker));
    assert!(acks[3..28].iter().all(|ack| *ack == Ack::Spool), "{acks:?}");
    assert_eq!(acks[28], Ack::Broker);
    running.start_processor();
    let verdict = running.finish(AWAY);
    assert_eq!(verdict.acked, 29);
    assert_eq!(verdict.events.values().sum::<usize>(), 29);
}

/// Gives raw another bound on records, and what it has else.
fn bound_raw(running: &Running, bytes: &str) {
    let configs = [
        ("max.message.bytes", bytes),
        ("message.timestamp.type", "LogAppendTime"),
        ("segment.ms", "21600000"),
    ];
    let altered = offsets::alter_topic(running.site.bootstrap(), &running.names().raw(), &configs);
    altered.expect("another bound");
}

/// Bytes that stay as many when the client compresses them: raw's bound is for what then comes.
fn incompressible(bytes: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// A request that is larger than what [`bound_raw`] leaves.
fn large(running: &Running, n: u64) -> Outgoing {
    Outgoing {
        body: incompressible(300_000, n),
        ..request(running, n)
    }
}

fn wait_metric(running: &Running, what: (&str, &[(&str, &str)]), value: f64) {
    let found = wait_for(what.0, PATIENCE, || {
        let found = running.ingest.metrics()?.sum(what.0, what.1);
        Ok(((found - value).abs() < 0.5).then_some(()))
    });
    found.unwrap_or_else(|error| panic!("{error:#}\n{}", running.ingest.log().unwrap_or_default()));
}

#[test]
fn a_bound_of_raw_that_is_too_small_costs_503_and_holds_the_drain_until_it_is_raised() {
    let cluster = Cluster::start(1, Purpose::Tests).expect("Kafka starts");
    let mut site = Site::new("spool-limit.", &cluster.bootstrap()).expect("a site");
    let spool = site.dir().join("spool");
    site.set(&["ingest", "spool"], json!({"dir": spool, "wait": "300ms"}));
    let mut running = Running::on(site);
    bound_raw(&running, "150000");
    let refused = large(&running, 1);
    wait_for("the new bound", PATIENCE, || {
        Ok((running.post(&refused).status != 200).then_some(()))
    })
    .expect("raw refuses it");
    assert_eq!(running.post(&refused).status, 503);
    let small = request(&running, 2);
    running.accept(&small);
    assert!(running.ingest.is_ready(), "other senders are served");
    kill_broker(&mut running, &cluster);
    for request in [
        request(&running, 3),
        large(&running, 4),
        request(&running, 5),
    ] {
        running.accept(&request);
    }
    cluster.restart(0).expect("a start");
    cluster.wait_ready().expect("the node");
    let halted: (&str, &[(&str, &str)]) =
        ("sluice_ingest_drain_halted", &[("reason", "topic_limit")]);
    wait_metric(&running, halted, 1.0);
    let metrics = running.ingest.metrics().expect("metrics");
    let refused = metrics.sum("sluice_ingest_spool_refused", &[]);
    assert!(
        refused < 0.5,
        "{refused} acknowledged records were set aside"
    );
    let behind = request(&running, 6);
    running.accept(&behind);
    assert!(running.ingest.is_ready(), "the spool has room");
    bound_raw(&running, "2359296");
    wait_metric(&running, ("sluice_ingest_spool_records", &[]), 0.0);
    wait_metric(&running, halted, 0.0);
    running.start_processor();
    let mut allowed = AWAY.to_vec();
    allowed.extend([
        "raw refuses records of a size",
        "the drain of the spool waits before a record",
    ]);
    let verdict = running.finish(&allowed);
    assert!(verdict.acked >= 5, "{verdict:?}");
}

/// Waits until the oldest record is older than 2 s.
fn wait_aged(running: &Running) {
    wait_for("its age", PATIENCE, || {
        let metrics = running.ingest.metrics()?;
        let came = metrics.sum("sluice_ingest_spool_oldest_timestamp_seconds", &[]);
        let now = f64::from(u32::try_from(now())?);
        Ok((now - came > 3.0).then_some(()))
    })
    .expect("it is older than 2 s");
}

/// Sends requests from this number on until one goes to the brokers; how many. The first ones may take longer
/// than what they are given here, and are spooled.
fn accept_until_raw(running: &mut Running, first: u64) -> u64 {
    let mut n = 0;
    wait_for("a request that goes to the brokers", PATIENCE, || {
        let request = request(running, first + n);
        n += 1;
        running.accept(&request);
        let metrics = running.ingest.metrics()?;
        let on_raw = metrics.sum("sluice_ingest_accepted_total", &[("to", "raw")]);
        Ok((on_raw > 0.5).then_some(()))
    })
    .expect("Kafka is healthy");
    n
}

#[test]
fn what_is_older_than_max_age_waits_aside_for_a_persons_word_and_new_requests_are_served() {
    let cluster = Cluster::start(1, Purpose::Tests).expect("Kafka starts");
    let mut site = Site::new("spool-age.", &cluster.bootstrap()).expect("a site");
    let spool = site.dir().join("spool");
    site.set(
        &["ingest", "spool"],
        json!({"dir": spool, "wait": "300ms", "max_age": "2s"}),
    );
    let settings = site.settings.clone();
    let mut running = Running::on(site);
    kill_broker(&mut running, &cluster);
    let first = Outgoing {
        body: Bytes::from_static(b"{}"),
        ..request(&running, 1)
    };
    running.accept(&first);
    wait_aged(&running);
    // Killed before Kafka is back, for what was not too old at first is on its way already.
    running.ingest.kill().expect("a kill");
    cluster.restart(0).expect("a start");
    cluster.wait_ready().expect("the node");
    running.ingest = running.site.ingest().expect("ingest starts");
    running
        .ingest
        .wait_ready()
        .expect("it is ready: Kafka is healthy");
    wait_metric(&running, ("sluice_ingest_spool_older", &[]), 1.0);
    let mut n = 1 + accept_until_raw(&mut running, 2);
    wait_metric(&running, ("sluice_ingest_spool_records", &[]), 0.0);
    let logged = running.ingest.wait_log(OLDER, PATIENCE);
    logged.expect("it says what waits");
    running.ingest.kill().expect("a kill");

    let (status, printed) = drain(&running.site, &settings, &[]);
    assert_eq!(
        (status, &printed["left"]),
        (Some(75), &json!(1)),
        "{printed}"
    );
    let (status, printed) = drain(&running.site, &settings, &["--older"]);
    assert_eq!(
        (status, &printed["drained"]),
        (Some(0), &json!(1)),
        "{printed}"
    );
    running.ingest = running.site.ingest().expect("ingest starts");
    running.ingest.wait_ready().expect("ingest is ready");
    n += 1;
    let last = request(&running, n);
    running.accept(&last);
    running.start_processor();
    let mut allowed = AWAY.to_vec();
    allowed.push(OLDER);
    let verdict = running.finish(&allowed);
    // All of them, and the old one among them; one may be on raw twice.
    assert_eq!(verdict.acked as u64, n);
    assert!(verdict.raw as u64 >= n, "{verdict:?}");
}
