//! Senders that close the connection, or their side of it, right behind a request.

use sluice_tests::harness::client::{Hurry, parse, raw};
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::Running;

/// Connections of each kind.
const MANY: usize = 25;

#[test]
fn what_came_whole_is_on_raw_and_half_closed_senders_get_their_answer() {
    let running = Running::start("half-close");
    let path = running.source("flock").path();
    let (listen, topic) = (running.site.listen(), running.names().raw());
    let on_raw = || {
        let records = read(
            running.site.bootstrap(),
            std::slice::from_ref(&topic),
            Isolation::Committed,
        );
        records.expect("raw").len()
    };
    let mut expected = 0;
    for size in [300, 200_000] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n");
        let request = [head.as_bytes(), &vec![b'x'; size]].concat();
        for _ in 0..MANY {
            raw(listen, &[&request], Hurry::Leave).expect("sent");
        }
        for _ in 0..MANY {
            let answer = raw(listen, &[&request], Hurry::HalfClose).expect("an end");
            assert_eq!(parse(&answer).expect("an answer").status, 200, "{size}");
        }
        expected += 2 * MANY;
        wait_for("all are on raw", PATIENCE, || {
            Ok((on_raw() == expected).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{size}: {} of {expected}: {error:#}", on_raw()));
    }
    let metrics = running.ingest.metrics().expect("metrics");
    let counted = metrics.sum("sluice_ingest_requests_total", &[("status", "200")]);
    assert!((counted - 100.0).abs() < 0.5, "{counted}");
    running.finish(&[]);
}
