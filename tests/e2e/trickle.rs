//! Requests that trickle: those of some milliseconds share a transaction, and one that comes alone waits for
//! none.

use std::time::{Duration, Instant};

use sluice_tests::harness::deployment::now;

use crate::harness::Running;

/// What a trickle is here: 200 requests a second.
const INTERVAL: Duration = Duration::from_millis(5);

/// The most transactions a second of a worker.
const MOST: f64 = 60.0;

/// What may come on top: of the worker's start, and of the second that is counted in part.
const MARGIN: f64 = 10.0;

#[test]
fn a_trickle_shares_transactions() {
    let mut running = Running::start("trickle");
    let source = running.source("flowcode");
    let event = source.samples().expect("samples")[0];
    let committed = |running: &Running| {
        let metrics = running.processor.metrics().expect("metrics");
        metrics.sum("sluice_transactions_total", &[("outcome", "committed")])
    };
    let (before, since) = (committed(&running), Instant::now());
    for n in 0..600 {
        let request = source.signed(event, n, now()).expect("a request");
        running.accept(&request);
        let due = INTERVAL * (u32::try_from(n).expect("a few") + 1);
        std::thread::sleep(due.saturating_sub(since.elapsed()));
    }
    running.wait_caught_up();
    let (made, took) = (committed(&running) - before, since.elapsed());
    let most = took.as_secs_f64() * MOST + MARGIN;
    assert!(made <= most, "{made} transactions in {took:?}");
    running.finish(&[]);
}
