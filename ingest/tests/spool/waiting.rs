//! Requests that wait for the spool's last records.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use sluice_ingest::metrics::Metrics;
use sluice_ingest::publish::Record;
use sluice_ingest::spool::{Spool, WritePath};
use sluice_schemas::raw::{Ack, Headers, RawRequest};

use super::folder;
use crate::support::spooling;

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
