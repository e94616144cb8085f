//! Who waits for what: requests for the spool's last records, and records that are too old for a person's
//! word.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use sluice_ingest::metrics::Metrics;
use sluice_ingest::publish::Record;
use sluice_ingest::spool::{Spool, WritePath};
use sluice_schemas::raw::{Ack, Headers, RawRequest};

use super::{bodies, folder, records};
use crate::support::{DELIVERED, Ingest, Mood, eventually, spooling};

#[test]
fn a_request_that_waits_for_the_last_records_goes_to_the_spool_when_they_take_too_long() {
    let dir = folder();
    // No drain comes, as where it waits for brokers that do not answer.
    let spool = leave(dir.path(), &[(b"1", now())]);
    assert!(spool.hold_new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let path = runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(5), spool.write_path()).await });
    assert_eq!(path, Ok(WritePath::Spool), "it waits without a bound");
}

const HOUR: i64 = 3_600_000_000;

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}

/// Leaves these requests on a spool, each with the time at which it came.
fn leave(dir: &Path, requests: &[(&[u8], i64)]) -> Spool {
    let mut settings = spooling(dir, 4 << 20).ingest.spool.unwrap();
    settings.max_age = Duration::from_secs(86_400);
    let metrics = Metrics::new(&mut Registry::default());
    let spool = Spool::open(&settings, metrics.spool().clone()).unwrap();
    for (body, received_at) in requests {
        let request = RawRequest {
            id: uuid::Uuid::from_u128(1),
            source: "site".to_owned(),
            provider: "flowcode".to_owned(),
            received_at: *received_at,
            method: "POST".to_owned(),
            target: "/v1/hooks/site".to_owned(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
            token: false,
            ack: Ack::Spool,
            headers: Headers::default(),
        };
        let record = Record {
            key: b"key",
            value: body,
            request: &request.encode(),
            traceparent: "",
        };
        let put = spool.put(&record, "site", *received_at, None);
        put.unwrap().blocking_recv().unwrap().unwrap();
    }
    spool
}

#[test]
fn what_is_older_than_max_age_waits_aside_and_new_requests_go_to_the_brokers() {
    let dir = folder();
    let old = now() - 2 * HOUR;
    let left: [(&[u8], i64); 4] = [
        (b"old 1", old),
        (b"old 2", old),
        (b"young", now()),
        (b"old 3", old),
    ];
    drop(leave(dir.path(), &left));
    let ingest = Ingest::start_spooling(dir.path(), Mood::Acknowledge);
    eventually("a request goes to the brokers", || {
        let answer = ingest.post("/v1/hooks/site", b"new");
        let last = ingest.published().pop();
        answer.status == 200 && last.is_some_and(|last| last.request.ack == Ack::Broker)
    });
    let drained = bodies(&ingest);
    assert!(
        drained.contains(&b"young".to_vec()),
        "the others are drained"
    );
    assert!(
        !drained.iter().any(|body| body.starts_with(b"old")),
        "{drained:?}"
    );
    let spool = ingest.spool.as_ref().unwrap();
    assert_eq!((spool.records(), spool.quarantined()), (0, 0));
    let aside = "sluice_ingest_spool_older";
    assert_eq!(ingest.value(aside), 3);
    // While Kafka is away there is room for new ones.
    ingest.mood(Mood::QueueFull);
    assert_eq!(ingest.post("/v1/hooks/site", b"away").status, 200);
    assert_eq!((records(&ingest), ingest.value(aside)), (1, 3));
    ingest.mood(Mood::Acknowledge);
    eventually("that is drained", || records(&ingest) == 0);
    // The operator's decision brings them to Kafka, in their order, without a restart.
    ingest.publisher.published.lock().unwrap().clear();
    spool.drain_older(true);
    eventually("they are drained too", || {
        ingest.value(aside) == 0 && records(&ingest) == 0
    });
    assert_eq!(bodies(&ingest), [&b"old 1"[..], b"old 2", b"old 3"]);
}

#[test]
fn a_drain_that_begins_again_counts_what_waits_aside_once() {
    let dir = folder();
    let old = now() - 2 * HOUR;
    drop(leave(dir.path(), &[(b"old", old), (b"young", now())]));
    // Each failed delivery makes the drain begin again.
    let ingest = Ingest::start_spooling(dir.path(), Mood::Refuse);
    eventually("it began again", || bodies(&ingest).len() > 2);
    assert_eq!(ingest.value("sluice_ingest_spool_older"), 1);
    assert_eq!(records(&ingest), 1);
    drop(ingest);
    // And the next start finds both.
    let ingest = Ingest::start_spooling(dir.path(), Mood::Acknowledge);
    eventually("the young one is drained", || records(&ingest) == 0);
    assert_eq!(ingest.value("sluice_ingest_spool_older"), 1);
}

#[test]
fn a_record_that_is_a_batch_of_its_own_is_sent_with_nothing_else_in_flight() {
    let dir = folder();
    let large = vec![b'x'; 200_000];
    let left: [(&[u8], i64); 3] = [(b"1", now()), (&large, now()), (b"2", now())];
    drop(leave(dir.path(), &left));
    let ingest = Ingest::start_spooling(dir.path(), Mood::Keep);
    for sent in 1..=3 {
        eventually("one more is in flight, alone", || {
            ingest.publisher.kept.lock().unwrap().len() == 1
        });
        assert_eq!(bodies(&ingest).len(), sent, "nothing overtakes it");
        let hold = ingest.publisher.kept.lock().unwrap().remove(0);
        let _ = hold.reply.send(Ok(DELIVERED));
    }
    eventually("all are drained", || records(&ingest) == 0);
    assert_eq!(bodies(&ingest), [&b"1"[..], &large, b"2"]);
}
