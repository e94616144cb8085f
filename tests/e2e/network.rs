//! The environment of faults: three nodes, a client behind proxies, a small disk and a wrong clock.
//!
//! A cluster is taken through several things, because starting it is what takes longest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sluice_tests::harness::cluster::{Cluster, Options};
use sluice_tests::harness::offsets;
use sluice_tests::harness::proxy::{Api, Link, Side, Sprung, Then, Trap};
use sluice_tests::harness::topics::{Isolation, Record, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

const SLOT: &str = "processor-0";
const TRANSACTIONAL_ID: &str = "network-0";

/// The node with the small disk, and the one whose clock is ten minutes ahead.
const SMALL: usize = 1;
const AHEAD: usize = 2;

/// Room for what a node writes in this test, its indexes included.
const DISK_MIB: u64 = 96;

#[test]
fn three_nodes_behind_proxies() {
    let cluster = cluster(BTreeMap::new(), BTreeMap::new());
    let producer = client(&cluster);
    held_and_lost(&cluster, &producer);
    links(&cluster, &producer);
    nodes_go_and_come(&cluster, &producer);
}

#[test]
#[ignore = "needs root and libfaketime: make faketime"]
fn a_small_disk_and_a_wrong_clock() {
    let clocks = BTreeMap::from([(AHEAD, "+600s".to_owned())]);
    let cluster = cluster(BTreeMap::from([(SMALL, DISK_MIB)]), clocks);
    let producer = client(&cluster);
    a_clock_is_ahead(&cluster);
    a_disk_fills_up(&cluster, &producer);
}

fn cluster(disks: BTreeMap<usize, u64>, clocks: BTreeMap<usize, String>) -> Cluster {
    let cluster = Cluster::start_with(&Options {
        slots: vec![SLOT.to_owned(), "ingest-0".to_owned()],
        disks,
        clocks,
        ..Options::default()
    })
    .expect("three nodes");
    offsets::create_topic(&cluster.bootstrap(), "copy", 1, &[]).expect("a topic");
    cluster
}

/// A transaction whose end is held is not seen; one whose reply was lost is committed once.
fn held_and_lost(cluster: &Cluster, producer: &Client) {
    let held = end_of_transaction(cluster, Side::Request, Then::Hold);
    let commit = begin(producer, "held");
    held.wait(PATIENCE).expect("the commit comes by");
    assert_eq!(texts(cluster, Isolation::Uncommitted), ["held"]);
    assert_eq!(texts(cluster, Isolation::Committed), [""; 0]);
    assert!(!commit.is_finished());
    held.release();
    done(commit);
    let mut expected = vec!["held".to_owned()];
    committed(cluster, &expected);

    let lost = end_of_transaction(cluster, Side::Reply, Then::Lose);
    let commit = begin(producer, "lost");
    lost.wait(PATIENCE).expect("the reply comes by");
    done(commit);
    expected.push("lost".to_owned());
    committed(cluster, &expected);
}

/// What a link does to its client, and that the client goes on when it opens again.
fn links(cluster: &Cluster, producer: &Client) {
    let mut expected = texts(cluster, Isolation::Committed);
    let slow = Link::Slow {
        delay: Duration::from_millis(20),
        bytes_per_second: 100_000,
    };
    for link in [
        slow,
        Link::Stalled,
        Link::ToBrokerOnly,
        Link::ToClientOnly,
        Link::Cut,
    ] {
        let name = format!("{link:?}");
        // All but the slow one end here, so the transaction must wait for the link.
        set(cluster, link);
        let commit = begin(producer, &name);
        if link != slow {
            assert!(!texts(cluster, Isolation::Committed).contains(&name));
            assert!(!commit.is_finished());
            set(cluster, Link::Open);
        }
        done(commit);
        set(cluster, Link::Open);
        expected.push(name);
        committed(cluster, &expected);
    }
}

/// A coordinator that is killed, one that is paused, and the leader stopped: transactions go on.
fn nodes_go_and_come(cluster: &Cluster, producer: &Client) {
    let mut expected = texts(cluster, Isolation::Committed);
    let transactions = cluster.transaction_coordinator(TRANSACTIONAL_ID);
    let transactions = transactions.expect("a coordinator");
    cluster.kill(transactions).expect("a kill");
    assert!(!cluster.is_running(transactions).expect("a look"));
    done(begin(producer, "killed"));
    expected.push("killed".to_owned());
    let moved = cluster.transaction_coordinator(TRANSACTIONAL_ID);
    assert_ne!(moved.expect("a coordinator"), transactions);
    cluster.restart(transactions).expect("a start");
    cluster.wait_ready().expect("all nodes");
    cluster.wait_in_sync(PATIENCE).expect("all replicas");

    let group = cluster.group_coordinator("network").expect("a coordinator");
    cluster.pause(group).expect("SIGSTOP");
    assert!(cluster.is_running(group).expect("a look"));
    let transaction = begin(producer, "paused");
    wait_for("another group coordinator", PATIENCE, || {
        Ok((cluster.group_coordinator("network")? != group).then_some(()))
    })
    .expect("the group moves");
    cluster.resume(group).expect("SIGCONT");
    done(transaction);
    expected.push("paused".to_owned());
    cluster.wait_ready().expect("all nodes");
    cluster.wait_in_sync(PATIENCE).expect("all replicas");

    let leader = cluster.leader_of("copy", 0).expect("a leader");
    cluster.stop(leader).expect("an orderly end");
    done(begin(producer, "stopped"));
    expected.push("stopped".to_owned());
    cluster.restart(leader).expect("a start");
    cluster.wait_ready().expect("all nodes");
    cluster.wait_in_sync(PATIENCE).expect("all replicas");
    committed(cluster, &expected);
}

/// What the node with the wrong clock appends bears its time.
fn a_clock_is_ahead(cluster: &Cluster) {
    let bootstrap = cluster.bootstrap();
    let stamped = [("message.timestamp.type", "LogAppendTime")];
    offsets::create_topic(&bootstrap, "stamped", 3, &stamped).expect("a topic");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .create()
        .expect("a producer");
    for partition in 0..3 {
        let record = BaseRecord::<(), str>::to("stamped").payload("x");
        let sent = producer.send(record.partition(partition));
        sent.map_err(|(error, _)| error).expect("a record");
    }
    producer.flush(PATIENCE).expect("a flush");
    let records = read(&bootstrap, &["stamped".to_owned()], Isolation::Committed);
    let (ahead, right): (Vec<Record>, Vec<Record>) =
        records.expect("records").into_iter().partition(|record| {
            cluster
                .leader_of("stamped", record.partition)
                .expect("a leader")
                == AHEAD
        });
    assert_eq!((ahead.len(), right.len()), (1, 2));
    // Half of what it is ahead, so that no slow machine matters.
    assert!(
        right
            .iter()
            .all(|record| ahead[0].timestamp - record.timestamp > 300_000)
    );
}

/// A node whose disk is full ends, the others go on, and with room again it comes back.
fn a_disk_fills_up(cluster: &Cluster, producer: &Client) {
    let mut expected = texts(cluster, Isolation::Committed);
    cluster.fill_disk(SMALL).expect("ballast");
    cluster
        .wait_end(SMALL, PATIENCE)
        .expect("the node ends by itself");
    done(begin(producer, "full"));
    expected.push("full".to_owned());
    cluster.free_disk(SMALL).expect("room");
    cluster.restart(SMALL).expect("a start");
    cluster.wait_ready().expect("all nodes");
    cluster.wait_in_sync(PATIENCE).expect("all replicas");
    committed(cluster, &expected);
    assert!(
        cluster.fill_disk(AHEAD).is_err(),
        "it has no disk of its own"
    );
}

type Client = Arc<BaseProducer>;

/// The transactional client behind the proxies, as the processor has it.
fn client(cluster: &Cluster) -> Client {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_of(SLOT))
        .set("transactional.id", TRANSACTIONAL_ID)
        .set("reconnect.backoff.max.ms", "200")
        .set("log_level", "0")
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("an epoch");
    Arc::new(producer)
}

/// Begins a transaction of one record and commits it, in a thread of its own.
fn begin(producer: &Client, text: &str) -> JoinHandle<Result<(), KafkaError>> {
    let producer = Arc::clone(producer);
    let text = text.to_owned();
    std::thread::spawn(move || {
        producer.begin_transaction()?;
        let record = BaseRecord::<(), str>::to("copy").payload(&text);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.commit_transaction(PATIENCE)
    })
}

#[track_caller]
fn done(commit: JoinHandle<Result<(), KafkaError>>) {
    commit.join().expect("no panic").expect("a commit");
}

fn end_of_transaction(cluster: &Cluster, side: Side, then: Then) -> Sprung {
    let api = Api::EndTxn;
    let trap = Trap {
        api,
        side,
        skip: 0,
        then,
    };
    cluster.trap(SLOT, trap)
}

/// Sets all links of the client.
fn set(cluster: &Cluster, link: Link) {
    for n in 0..cluster.len() {
        cluster.link(SLOT, n).set(link);
    }
}

/// Waits until exactly this is committed: the coordinator reports to its client that a transaction is
/// committed before the topic's readers see it.
#[track_caller]
fn committed(cluster: &Cluster, expected: &[String]) {
    let mut found = Vec::new();
    let seen = wait_for("what was committed", PATIENCE, || {
        found = texts(cluster, Isolation::Committed);
        Ok((found.len() >= expected.len()).then_some(()))
    });
    assert_eq!(found, expected, "{seen:?}");
}

/// What stands in the topic.
fn texts(cluster: &Cluster, isolation: Isolation) -> Vec<String> {
    let records = read(&cluster.bootstrap(), &["copy".to_owned()], isolation).expect("records");
    let texts = records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.value));
    texts.map(std::borrow::Cow::into_owned).collect()
}
