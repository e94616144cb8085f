//! What operators and disks do to topics under running processors: partitions that are added, a second group
//! on one prefix, a batch that nobody can read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_schemas::fate::Fate;
use sluice_service::EXIT_CONFIG;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::offsets;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::{Running, partition_folder, site};

/// Between two looks at the dedup-log a worker lets some seconds pass, and the first shows what was there.
const SEEN: Duration = Duration::from_secs(90);

fn signup(source: &Source, n: u64) -> Outgoing {
    let signed = source.signed("signup.created", n, now());
    signed.expect("a request")
}

#[test]
fn raw_that_grows_ends_the_processor_with_the_reason_and_the_next_start_says_what_to_do() {
    let mut site = site("grown");
    site.set(&["topics", "partitions"], json!(2));
    let mut running = Running::on(site);
    let source = running.source("referralloop");
    let request = |n| signup(&source, n);
    for n in 0..4 {
        running.accept(&request(n));
    }
    running.outcomes(4);
    let raw = running.names().raw();
    offsets::grow_topic(running.site.bootstrap(), &raw, 3).expect("a partition more");
    let status = running.processor.wait_end().expect("an end");
    let log = running.processor.log().expect("a log");
    assert!(
        log.contains("raw had 2 partitions and has 3"),
        "{status}\n{log}"
    );
    let mut next = running.site.processor("p0").expect("a process");
    let status = next.wait_end().expect("an end");
    assert_eq!(status.code(), Some(EXIT_CONFIG));
    let log = next.log().expect("a log");
    let what = format!("{raw}: has 3 partitions and must have exactly 2");
    assert!(log.contains(&what), "{log}");
}

#[test]
fn a_second_group_on_one_prefix_is_named_and_stops() {
    let mut site = site("two-groups");
    site.set(&["topics", "partitions"], json!(1));
    let mut running = Running::on(site);
    running.site.set(&["processor", "group"], json!("another"));
    let mut other = running.site.processor("p1").expect("a process");
    other.wait_ready().expect("it does not know yet");
    let source = running.source("referralloop");
    let text = "another consumer group writes under this prefix";
    let since = Instant::now();
    let mut n = 0;
    loop {
        n += 1;
        running.accept(&signup(&source, n));
        let logs = [&running.processor, &other].map(|process| process.log().expect("a log"));
        let stopped = logs.iter().any(|log| {
            log.lines()
                .any(|line| line.contains("\"ERROR\"") && line.contains(text))
        });
        if stopped {
            break;
        }
        assert!(since.elapsed() < SEEN, "{}", logs.join("\n"));
        std::thread::sleep(Duration::from_millis(200));
    }
    wait_for("an unready processor", PATIENCE, || {
        Ok((!running.processor.is_ready() || !other.is_ready()).then_some(()))
    })
    .expect("one of them stopped");
}

/// Flips bytes in the last batch of a partition, where its compressed records are.
fn damage(running: &Running, partition: i32) {
    let folder = partition_folder(&running.names().raw(), partition);
    let path = folder.join("00000000000000000000.log");
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("a segment");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("its batches");
    let (mut at, mut last) = (0, 0);
    // A batch begins with its offset and its length, and its records after 61 bytes.
    while let Some(length) = bytes.get(at + 8..at + 12) {
        last = at;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        at += 12 + usize::try_from(length).expect("small");
    }
    let records = u64::try_from(last + 61).expect("small");
    file.seek(SeekFrom::Start(records)).expect("a place");
    file.write_all(&[0xff; 16]).expect("a damage");
    file.sync_all().expect("a disk");
}

#[test]
fn a_batch_that_cannot_be_read_stops_its_partition_alone() {
    let mut site = site("unreadable");
    site.set(&["topics", "partitions"], json!(2));
    let mut running = Running::on(site);
    let source = running.source("referralloop");
    let request = |n| signup(&source, n);
    let first: Vec<String> = (0..8).map(|n| running.accept(&request(n))).collect();
    running.outcomes(first.len());
    running.wait_caught_up();
    running.processor.stop().expect("an end");
    let ends = |running: &Running| {
        let raw = running.names().raw();
        offsets::ends(running.site.bootstrap(), &raw).expect("ends")
    };
    let before = ends(&running);
    let good = running.accept(&request(20));
    // Whichever partition that came to.
    let after = ends(&running);
    let partition = usize::from(after[0] == before[0]);
    let number = i32::try_from(partition).expect("small");
    // The next one there is damaged, and what comes after it is not.
    let mut n = 20;
    while ends(&running)[partition] == after[partition] {
        n += 1;
        running.accept(&request(n));
    }
    damage(&running, number);
    let raw = running.names().raw();
    let bad = after[partition];
    // The damaged batch is met by a process that then ends, and by the next one at its start.
    running.processor = running.site.processor("p0").expect("a process");
    let status = running.processor.wait_end().expect("an end");
    assert!(!status.success());
    assert_eq!(
        running.outcome(&good).fate,
        Fate::Event,
        "what was read before it is committed"
    );
    running.processor = running.site.processor("p0").expect("a process");
    wait_for("the stop of the partition", PATIENCE, || {
        let log = running.processor.log()?;
        let why = format!("raw cannot be read from offset {bad} on");
        Ok(log
            .lines()
            .any(|line| line.contains("\"ERROR\"") && line.contains(&why))
            .then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", running.processor.log().unwrap_or_default()));
    // The other partition goes on.
    let other = 1 - partition;
    let had = ends(&running)[other];
    while ends(&running)[other] == had {
        n += 1;
        running.accept(&request(n));
    }
    wait_for("the other partition", PATIENCE, || {
        let bootstrap = running.site.bootstrap();
        let committed = offsets::committed(bootstrap, &running.site.group(), &raw)?;
        Ok((committed[other] == Some(ends(&running)[other])).then_some(()))
    })
    .expect("it goes on");
    assert!(running.processor.ended().expect("a status").is_none());
}
