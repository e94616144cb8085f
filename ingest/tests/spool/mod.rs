//! What a sender sees while Kafka is away and there is a spool, and what then comes to raw.

use std::path::Path;
use std::process::Command;

use sluice_schemas::raw::Ack;

use crate::support::{Ingest, Mood, eventually, within};

mod process;

mod waiting;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn bodies(ingest: &Ingest) -> Vec<Vec<u8>> {
    let published = ingest.published();
    published.into_iter().map(|record| record.value).collect()
}

fn records(ingest: &Ingest) -> u64 {
    ingest.spool.as_ref().unwrap().records()
}

#[test]
fn nothing_is_spooled_while_kafka_acknowledges() {
    let dir = folder();
    let ingest = Ingest::start_spooling(dir.path(), Mood::Acknowledge);
    assert_eq!(ingest.post("/v1/hooks/site", b"1").status, 200);
    assert_eq!(ingest.published()[0].request.ack, Ack::Broker);
    assert_eq!(records(&ingest), 0);
    let metrics = ingest.metrics();
    let spooled = |line: &&str| line.starts_with("sluice_ingest_spooled_total{");
    for line in metrics.lines().filter(spooled) {
        assert!(line.ends_with(" 0"), "{metrics}");
    }
    assert_eq!(
        ingest.value("sluice_ingest_accepted_total{to=\"spool\"}"),
        0
    );
}

#[test]
fn unacknowledged_requests_are_spooled_and_drained_in_order() {
    for mood in [Mood::Keep, Mood::TimeOut, Mood::Refuse, Mood::QueueFull] {
        let dir = folder();
        let ingest = Ingest::start_spooling(dir.path(), mood);
        let mut ids = Vec::new();
        for body in [b"1", b"2", b"3"] {
            let answer = ingest.post("/v1/hooks/site", body);
            assert_eq!(answer.status, 200, "{mood:?}");
            ids.push(answer.body);
        }
        assert!(records(&ingest) >= 3, "{mood:?}");
        let accepted = "sluice_ingest_accepted_total{to=\"spool\"}";
        assert_eq!(ingest.value(accepted), 3, "{mood:?}");
        // This publisher fails records one by one, where Kafka's client keeps those behind waiting. So that
        // nothing flies any more, it takes nothing until the drain has come back to the first record.
        ingest.mood(Mood::QueueFull);
        ingest.publisher.turned_away.lock().unwrap().clear();
        for hold in ingest.publisher.kept.lock().unwrap().drain(..) {
            let _ = hold
                .reply
                .send(Err(sluice_ingest::publish::Undelivered::Refused));
        }
        eventually("the drain is at the first record", || {
            let turned_away = ingest.publisher.turned_away.lock().unwrap();
            turned_away.last().is_some_and(|body| body == b"1")
        });
        // From here on what is tried goes through.
        ingest.publisher.published.lock().unwrap().clear();
        ingest.mood(Mood::Acknowledge);
        eventually("the spool is empty", || records(&ingest) == 0);
        let spooled = ingest.published();
        let order: Vec<&[u8]> = spooled.iter().map(|record| &record.value[..]).collect();
        assert_eq!(order, [b"1", b"2", b"3"], "{mood:?}");
        for (record, id) in spooled.iter().zip(ids) {
            assert_eq!(record.request.ack, Ack::Spool);
            assert_eq!(id, format!("{{\"id\":\"{}\"}}", record.request.id));
        }
        // And again straight to Kafka.
        assert_eq!(ingest.post("/v1/hooks/site", b"4").status, 200);
        let last = ingest.published().pop().unwrap();
        assert_eq!(last.request.ack, Ack::Broker);
    }
}

#[test]
fn spooled_records_outlive_the_process() {
    let dir = folder();
    {
        let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
        for body in [b"1", b"2"] {
            assert_eq!(ingest.post("/v1/hooks/site", body).status, 200);
        }
    }
    let ingest = Ingest::start_spooling(dir.path(), Mood::Acknowledge);
    eventually("the spool is empty", || records(&ingest) == 0);
    assert_eq!(bodies(&ingest), [b"1", b"2"]);
}

/// Fills the spool, or a source's share of it: how many requests it took until one was answered 503.
fn fill(ingest: &Ingest, path: &str) -> usize {
    let body = vec![b'x'; 10_000];
    let answers = std::iter::repeat_with(|| ingest.post(path, &body));
    let mut answers = answers.take(20).enumerate();
    let refused = answers.find(|(_, answer)| answer.status != 200);
    let (taken, refused) = refused.expect("128 KiB end");
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains("retry-after"), "{refused:?}");
    taken
}

#[test]
fn a_full_spool_is_503_and_takes_again_when_there_is_room() {
    let dir = folder();
    let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
    ingest.share_of_one(dir.path(), 1.0);
    let taken = fill(&ingest, "/v1/hooks/list/t0ken");
    assert!(taken >= 6, "{taken}");
    let metrics = ingest.metrics();
    let counted = "sluice_ingest_unavailable_total{reason=\"spool\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let spool = ingest.spool.as_ref().unwrap();
    assert!(spool.ready().unwrap_err().contains("full"));
    ingest.mood(Mood::Acknowledge);
    eventually("the spool is empty", || records(&ingest) == 0);
    assert_eq!(bodies(&ingest).len(), taken);
    assert_eq!(spool.ready(), Ok(()));
}

#[test]
fn a_source_without_a_guard_leaves_room_for_the_others() {
    let dir = folder();
    let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
    let taken = fill(&ingest, "/v1/hooks/site");
    for path in ["/v1/hooks/list/t0ken", "/v1/hooks/small"] {
        let answer = ingest.post(path, b"{}");
        assert_eq!(answer.status, 200, "{path} after {taken} of another source");
    }
    let unavailable =
        |reason: &str| format!("sluice_ingest_unavailable_total{{reason=\"{reason}\"}}");
    assert_eq!(ingest.value(&unavailable("spool_share")), 1);
    assert_eq!(ingest.value(&unavailable("spool")), 0);
}

/// How many posts to a source are taken until one is not.
fn taken(ingest: &Ingest, path: &str, body: &[u8]) -> usize {
    for taken in 0..200 {
        let answer = ingest.post(path, body);
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{path}");
            return taken;
        }
    }
    panic!("128 KiB do not end");
}

const SITE: &str = "/v1/hooks/site";

#[test]
fn shares_hold_over_a_restart_and_are_given_back_by_the_drain() {
    let dir = folder();
    // 16 KiB of the disk each, and the share is 64 KiB.
    let body = vec![b'x'; 10_000];
    let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
    assert_eq!(taken(&ingest, SITE, &body), 4);
    drop(ingest);
    let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
    assert_eq!(taken(&ingest, SITE, &body), 0);
    assert_eq!(ingest.post("/v1/hooks/small", b"1").status, 200);
    ingest.mood(Mood::Acknowledge);
    eventually("the spool is empty", || records(&ingest) == 0);
    ingest.mood(Mood::QueueFull);
    assert_eq!(taken(&ingest, SITE, &body), 4);
    // A changed file gives one source more, but for what is reserved: 96 of 128 KiB are for all.
    ingest.share_of_one(dir.path(), 1.0);
    assert_eq!(taken(&ingest, SITE, &body), 2);
    assert_eq!(taken(&ingest, "/v1/hooks/list/t0ken", &body), 2);
}

#[test]
fn the_last_quarter_is_for_sources_with_a_guard() {
    let dir = folder();
    let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
    taken(&ingest, SITE, &[b'x'; 10_000]);
    taken(&ingest, "/v1/hooks/small", &[b'x'; 1_000]);
    assert_eq!(ingest.post("/v1/hooks/list/t0ken", b"{}").status, 200);
    let keyed = ingest.send("POST /v1/hooks/keyed HTTP/1.1\r\nx-key: k3y", b"{}");
    assert_eq!(keyed.status, 200);
}

#[test]
fn a_source_alone_may_take_all() {
    let dir = folder();
    let ingest = Ingest::start_alone(dir.path());
    assert_eq!(taken(&ingest, SITE, &[b'x'; 10_000]), 8);
    let reason = "sluice_ingest_unavailable_total{reason=\"spool\"}";
    assert_eq!(ingest.value(reason), 1);
}

#[test]
fn what_raw_finds_too_large_is_not_spooled() {
    let dir = folder();
    let ingest = Ingest::start_spooling(dir.path(), Mood::LargeIsTooLarge);
    assert_eq!(ingest.post("/v1/hooks/site", b"large").status, 503);
    assert_eq!(records(&ingest), 0);
    assert_eq!(ingest.post("/v1/hooks/site", b"1").status, 200);
    assert_eq!(ingest.published().pop().unwrap().request.ack, Ack::Broker);
}

#[test]
fn a_record_that_raw_finds_too_large_holds_the_drain_until_the_topic_is_mended() {
    let dir = folder();
    let ingest = Ingest::start_spooling_up_to(4 << 20, dir.path(), Mood::QueueFull);
    for body in [&b"1"[..], b"large", b"2"] {
        assert_eq!(ingest.post("/v1/hooks/site", body).status, 200);
    }
    ingest.mood(Mood::LargeIsTooLarge);
    eventually("the large record is tried again", || {
        let large = |body: &&Vec<u8>| *body == b"large";
        bodies(&ingest).iter().filter(large).count() > 1
    });
    let spool = ingest.spool.as_ref().unwrap();
    assert_eq!(spool.quarantined(), 0);
    let halted = "sluice_ingest_drain_halted{reason=\"topic_limit\"}";
    eventually("it says so", || ingest.value(halted) == 1);
    // It is ready, for it can make requests durable, and they wait behind that record.
    assert_eq!(spool.ready(), Ok(()));
    let small = ingest.post("/v1/hooks/site", b"3");
    assert_eq!(small.status, 200);
    assert!(!bodies(&ingest).contains(&b"3".to_vec()));
    ingest.mood(Mood::Acknowledge);
    within(10, "the spool is empty", || records(&ingest) == 0);
    assert_eq!(ingest.value(halted), 0);
    assert_eq!(ingest.value("sluice_ingest_drained_total"), 4);
    assert_eq!(bodies(&ingest).pop().unwrap(), b"3");
}

#[test]
fn steady_traffic_returns_to_kafka_after_an_outage() {
    let dir = folder();
    let ingest = Ingest::start_spooling(dir.path(), Mood::QueueFull);
    ingest.share_of_one(dir.path(), 1.0);
    assert_eq!(ingest.post("/v1/hooks/site", b"1").status, 200);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(ingest.post("/v1/hooks/site", b"more").status, 200);
                }
            });
        }
        ingest.mood(Mood::Acknowledge);
        eventually("requests go straight to Kafka again", || {
            let published = ingest.published();
            published
                .last()
                .is_some_and(|last| last.request.ack == Ack::Broker)
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A disk of its own, gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let folder = folder();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "this needs root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a test that failed may still use it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
#[ignore = "needs root: it mounts a disk of 16 MiB"]
fn a_full_disk_is_503_never_a_false_200_and_takes_again_when_drained() {
    let disk = SmallDisk::mount("16m");
    for round in 0..2 {
        let ingest = Ingest::start_spooling_up_to(1 << 30, disk.path(), Mood::QueueFull);
        let mut taken = Vec::new();
        let mut refused = 0;
        for n in 0..8_000 {
            let body = format!("{n} {}", "x".repeat(3_000)).into_bytes();
            match ingest.post("/v1/hooks/site", &body).status {
                200 => taken.push(body),
                503 => refused += 1,
                other => panic!("{other}"),
            }
            if refused == 50 {
                break;
            }
        }
        assert_eq!(refused, 50, "round {round}: the disk never filled");
        assert!(taken.len() > 1_000, "round {round}: {}", taken.len());
        let ready = ingest.spool.as_ref().unwrap().ready();
        assert!(ready.unwrap_err().contains("full"), "round {round}");
        ingest.publisher.published.lock().unwrap().clear();
        ingest.mood(Mood::Acknowledge);
        eventually("the spool is empty", || records(&ingest) == 0);
        assert_eq!(bodies(&ingest), taken, "round {round}");
        eventually("there is room again", || {
            ingest.spool.as_ref().unwrap().ready().is_ok()
        });
        ingest.mood(Mood::QueueFull);
        assert_eq!(ingest.post("/v1/hooks/site", b"again").status, 200);
        ingest.mood(Mood::Acknowledge);
        eventually("that is drained too", || records(&ingest) == 0);
    }
}
