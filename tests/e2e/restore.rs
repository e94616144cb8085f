//! Where to begin: every case of the design in which position and log do not agree.

use serde_json::json;
use sluice_schemas::dedup_log::SEEN;
use sluice_schemas::fate::Fate;
use sluice_schemas::raw::REQUEST;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::offsets;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::{Running, produce_raw, site};

/// A site of one partition, so that a position is one number, with `n` events on it.
fn with_events(test: &str, n: u64) -> (Running, Vec<Outgoing>) {
    let mut site = site(test);
    site.set(&["topics", "partitions"], json!(1));
    let mut running = Running::on(site);
    let source = running.source("referralloop");
    let at = now();
    let requests: Vec<Outgoing> = (0..n)
        .map(|n| source.signed("signup.created", n, at).expect("a request"))
        .collect();
    for request in &requests {
        running.accept(request);
    }
    running.outcomes(requests.len());
    running.wait_caught_up();
    (running, requests)
}

/// Sends the requests again: each must be a duplicate.
fn all_repeat(running: &mut Running, requests: &[Outgoing]) {
    for request in requests {
        let id = running.accept(request);
        assert_eq!(running.outcome(&id).fate, Fate::Duplicate);
    }
}

/// Starts the processor, which must say in an ERROR with this text why it cannot go on, and then be
/// unready for as long as it stands, or end.
fn stops_for_the_operator(running: &mut Running, text: &str) {
    running.processor = running.site.processor("p0").expect("a process");
    wait_for("operator action required", PATIENCE, || {
        let log = running.processor.log()?;
        let said = log
            .lines()
            .any(|line| line.contains("\"ERROR\"") && line.contains(text));
        Ok((said && !running.processor.is_ready()).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", running.processor.log().unwrap_or_default()));
}

#[test]
fn an_empty_log_with_an_offset_is_made_again_from_the_fates() {
    let (mut running, requests) = with_events("restore-empty-log", 3);
    running.processor.stop().expect("an end");
    let log = running.names().dedup_log();
    let (_, end) = offsets::bounds(running.site.bootstrap(), &log).expect("bounds")[0];
    offsets::delete_records(running.site.bootstrap(), &log, &[(0, end)]).expect("deletion");
    // Nothing is written again, and what the events were is known again.
    running.start_processor();
    all_repeat(&mut running, &requests);
    let verdict = running.finish(&["committed", "torn by the brokers"]);
    assert_eq!((verdict.raw, verdict.duplicates), (6, 3));
}

#[test]
fn an_offset_lost_and_a_log_there() {
    let (mut running, requests) = with_events("restore-no-offset", 3);
    running.processor.stop().expect("an end");
    offsets::delete_group(running.site.bootstrap(), &running.site.group()).expect("deletion");
    // The log's last record says where to go on.
    running.start_processor();
    all_repeat(&mut running, &requests);
    let verdict = running.finish(&["committed"]);
    assert_eq!((verdict.raw, verdict.duplicates), (6, 3));
}

#[test]
fn both_lost_stops_until_the_operator_decides() {
    let (mut running, _) = with_events("restore-both-lost", 4);
    running.processor.stop().expect("an end");
    let (bootstrap, names) = (running.site.bootstrap().to_owned(), running.names());
    offsets::delete_group(&bootstrap, &running.site.group()).expect("deletion");
    let (_, end) = offsets::bounds(&bootstrap, &names.dedup_log()).expect("bounds")[0];
    offsets::delete_records(&bootstrap, &names.dedup_log(), &[(0, end)]).expect("deletion");
    // Raw no longer starts at 0, so nobody can say that nothing was judged.
    offsets::delete_records(&bootstrap, &names.raw(), &[(0, 2)]).expect("deletion");
    stops_for_the_operator(&mut running, "begin");
    running.processor.kill().expect("a kill");
    running.site.set(&["processor", "begin"], json!("latest"));
    running.start_processor();
    let source = running.source("referralloop");
    let id = running.accept(
        &source
            .signed("signup.created", 99, now())
            .expect("a request"),
    );
    assert_eq!(running.outcome(&id).fate, Fate::Event);
    running.processor.stop().expect("an end");
}

#[test]
fn both_lost_and_raw_whole_begins_at_its_start() {
    let mut site = site("restore-fresh");
    site.set(&["topics", "partitions"], json!(1));
    let mut running = Running::on(site);
    let source = running.source("referralloop");
    running.processor.kill().expect("a kill");
    let request = source
        .signed("signup.created", 1, now())
        .expect("a request");
    let ids = [running.accept(&request), running.accept(&request)];
    running.start_processor();
    assert_eq!(running.outcome(&ids[0]).fate, Fate::Event);
    assert_eq!(running.outcome(&ids[1]).fate, Fate::Duplicate);
    running.finish(&[]);
}

/// What the last record of the dedup-log vouches for.
fn vouched(running: &Running) -> i64 {
    let log = [running.names().dedup_log()];
    let records = read(running.site.bootstrap(), &log, Isolation::Committed).expect("the log");
    let last = records.last().expect("a record");
    last.number(SEEN).expect("a mark")
}

#[test]
fn a_rewound_offset_stops_for_the_operator() {
    let (mut running, _) = with_events("restore-rewound", 4);
    // A worker without work writes a checkpoint.
    wait_for("a checkpoint", PATIENCE, || {
        Ok((vouched(&running) == 4).then_some(()))
    })
    .expect("a checkpoint");
    // The next records are committed, and not vouched for within the second until the end.
    let source = running.source("referralloop");
    for n in 4..6 {
        let request = source.signed("signup.created", n, now());
        let id = running.accept(&request.expect("a request"));
        assert_eq!(running.outcome(&id).fate, Fate::Event);
    }
    running.processor.stop().expect("an end");
    let (group, raw) = (running.site.group(), running.names().raw());
    offsets::commit(running.site.bootstrap(), &group, &raw, &[(0, 1)]).expect("a commit");
    stops_for_the_operator(&mut running, "rewound");
    running.processor.kill().expect("a kill");
    // An offset behind the log, but not behind what is vouched for, may be that of a torn transaction: the
    // log says how far it was.
    offsets::commit(running.site.bootstrap(), &group, &raw, &[(0, 5)]).expect("a commit");
    running.start_processor();
    running.wait_caught_up();
    let verdict = running.finish(&["\"ERROR\""]);
    assert_eq!(verdict.events.values().sum::<usize>(), 6);
}

#[test]
fn a_changed_partition_count_stops_for_the_operator() {
    let (mut running, _) = with_events("restore-grown", 3);
    running.processor.stop().expect("an end");
    let (bootstrap, names) = (running.site.bootstrap().to_owned(), running.names());
    offsets::grow_topic(&bootstrap, &names.raw(), 2).expect("a second partition");
    offsets::grow_topic(&bootstrap, &names.dedup_log(), 2).expect("a second partition");
    running.site.set(&["topics", "partitions"], json!(2));
    // A partition is restored before its next record is judged, so both get some.
    let source = running.source("referralloop");
    for n in 100..120 {
        running.accept(
            &source
                .signed("signup.created", n, now())
                .expect("a request"),
        );
    }
    stops_for_the_operator(&mut running, "topics.key_partitions is 2 now");
}

#[test]
fn a_new_partition_of_a_grown_raw_stops_too() {
    let (mut running, _) = with_events("restore-new-partition", 3);
    running.processor.stop().expect("an end");
    let (bootstrap, names) = (running.site.bootstrap().to_owned(), running.names());
    offsets::grow_topic(&bootstrap, &names.raw(), 2).expect("a second partition");
    offsets::grow_topic(&bootstrap, &names.dedup_log(), 2).expect("a second partition");
    running.site.set(&["topics", "partitions"], json!(2));
    // Nothing was sent since, so that the new partition alone can show it: its log is empty, but the
    // other one's says that there was one partition.
    stops_for_the_operator(&mut running, "\"partition\":1");
}

#[test]
fn an_offset_out_of_range_stops_until_the_operator_decides() {
    let (mut running, _) = with_events("restore-out-of-range", 4);
    running.processor.stop().expect("an end");
    let (bootstrap, names) = (running.site.bootstrap().to_owned(), running.names());
    let source = running.source("referralloop");
    let more: Vec<Outgoing> = (10..14)
        .map(|n| {
            source
                .signed("signup.created", n, now())
                .expect("a request")
        })
        .collect();
    let ids: Vec<String> = more.iter().map(|request| running.accept(request)).collect();
    // Two of the four were not judged yet, and are gone.
    offsets::delete_records(&bootstrap, &names.raw(), &[(0, 6)]).expect("deletion");
    stops_for_the_operator(&mut running, "outside of raw");
    running.processor.kill().expect("a kill");
    running.site.set(&["processor", "begin"], json!("earliest"));
    running.start_processor();
    for id in &ids[2..] {
        assert_eq!(running.outcome(id).fate, Fate::Event);
    }
    running.processor.stop().expect("an end");
}

#[test]
fn a_record_of_a_newer_version_stops_its_partition_and_nothing_else() {
    let mut running = Running::on(site("restore-newer"));
    let source = running.source("referralloop");
    let first = source
        .signed("signup.created", 1, now())
        .expect("a request");
    let id = running.accept(&first);
    assert_eq!(running.outcome(&id).fate, Fate::Event);
    let stopped = offsets::ends(running.site.bootstrap(), &running.names().raw())
        .expect("ends")
        .iter()
        .position(|end| *end > 0)
        .expect("the partition of the first request");
    let raw = running.raw_request(&id);
    // Of two headers of one name the last one counts.
    produce_raw(&running.site, &raw, &first.body, &[(REQUEST, r#"{"v":2}"#)]);
    wait_for("operator action required", PATIENCE, || {
        let said = running
            .processor
            .log()?
            .contains("a newer release wrote this record");
        Ok((said && !running.processor.is_ready()).then_some(()))
    })
    .expect("the partition stops");
    // Of many requests those for the other partitions are judged.
    let before = offsets::ends(running.site.bootstrap(), &running.names().raw()).expect("ends");
    for n in 100..130 {
        running.accept(
            &source
                .signed("signup.created", n, now())
                .expect("a request"),
        );
    }
    let after = offsets::ends(running.site.bootstrap(), &running.names().raw()).expect("ends");
    let elsewhere: i64 = (0..after.len())
        .filter(|partition| *partition != stopped)
        .map(|partition| after[partition] - before[partition])
        .sum();
    let judged = running.outcomes(usize::try_from(elsewhere).expect("a count") + 1);
    assert!(elsewhere > 0 && judged.len() > 1);
    running.processor.stop().expect("an end");
}
