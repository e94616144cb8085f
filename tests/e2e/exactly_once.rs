//! The processor is killed, stopped and joined by others: every record still ends once.

use serde_json::json;
use sluice_tests::harness::child::Signal;
use sluice_tests::harness::deployment::now;

use crate::harness::{Running, site};

/// Sends `count` requests of all providers, from entity `from` on.
fn send(running: &mut Running, from: u64, count: u64) {
    let sources = running.site.sources.clone();
    let at = now();
    for n in from..from + count {
        let source = &sources[usize::try_from(n).expect("small") % sources.len()];
        let events = source.samples().expect("samples");
        let event = events[usize::try_from(n / 4).expect("small") % events.len()];
        running.accept(&source.signed(event, n, at).expect("a request"));
    }
}

#[test]
fn kills_and_restarts_of_the_processor() {
    let mut site = site("kills");
    site.set(&["processor", "workers"], json!(2));
    let mut running = Running::on(site);
    for round in 0..4 {
        send(&mut running, round * 1_000, 200);
        if round % 2 == 0 {
            running.kill_processor();
        } else {
            running.processor.stop().expect("an end");
            running.start_processor();
        }
    }
    send(&mut running, 10_000, 50);
    // A worker may commit while the other one joins: the broker refuses its generation, and it aborts.
    let verdict = running.finish(&["ILLEGAL_GENERATION"]);
    assert_eq!(verdict.events.values().sum::<usize>(), 850, "{verdict:?}");
}

#[test]
fn members_come_and_go() {
    let mut running = Running::start("members");
    send(&mut running, 0, 100);
    let mut second = running.site.processor("p1").expect("a process");
    second.wait_ready().expect("the second is ready");
    send(&mut running, 1_000, 100);
    second.kill().expect("a kill");
    send(&mut running, 2_000, 100);
    let mut third = running.site.processor("p2").expect("a process");
    third.wait_ready().expect("the third is ready");
    send(&mut running, 3_000, 100);
    running.wait_caught_up();
    third.stop().expect("an end");
    let verdict = running.finish(&[]);
    assert_eq!(verdict.events.values().sum::<usize>(), 400, "{verdict:?}");
}

/// What a member may say that finds its transaction timed out and its partitions gone.
const FROZEN: [&str; 5] = [
    "\"target\":\"librdkafka\"",
    "transaction",
    "fenced",
    "lost",
    "revoked",
];

#[test]
fn a_member_that_stood_still_writes_nothing_twice() {
    let mut running = Running::start("frozen");
    send(&mut running, 0, 50);
    running.processor.signal(Signal::Stop).expect("a signal");
    send(&mut running, 1_000, 100);
    // The second takes over once the group has given the first up.
    let mut second = running.site.processor("p1").expect("a process");
    second.wait_ready().expect("the second is ready");
    running.wait_caught_up();
    running
        .processor
        .signal(Signal::Continue)
        .expect("a signal");
    send(&mut running, 2_000, 50);
    running.wait_caught_up();
    second.stop().expect("an end");
    // The first may go on or end for its supervisor to start it; here is the supervisor.
    if running.processor.ended().expect("a status").is_some() {
        running.start_processor();
    }
    let verdict = running.finish(&FROZEN);
    assert_eq!(verdict.events.values().sum::<usize>(), 200, "{verdict:?}");
}
