//! Raw gets another partition under running processors and a steady load, and the steps of "More partitions"
//! in docs/operating.md are taken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use sluice_schemas::audit::{Acked, digest};
use sluice_schemas::fate::Fate;
use sluice_schemas::placement;
use sluice_schemas::raw::Headers;
use sluice_service::{EXIT_CONFIG, EXIT_RESTART};
use sluice_tests::harness::client::{Client, Outgoing};
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::{Running, fresh_id, produce_raw_to, site};

const BEFORE: i32 = 12;
const AFTER: i32 = 13;

/// Between two requests of the load.
const PERIOD: Duration = Duration::from_millis(10);

/// A sender of new deliveries, each followed by a repetition of an earlier one: all of them in turn.
struct Load {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// Ingest is being replaced, so that a request may find nobody.
    rolling: AtomicBool,
    /// Which delivery is repeated next.
    next: AtomicUsize,
    sent: AtomicUsize,
    acked: Mutex<Vec<Acked>>,
    refused: Mutex<Vec<String>>,
}

impl Load {
    fn start(source: Source, running: &Running) -> Self {
        let shared = Arc::new(Shared::default());
        let (client, its) = (Client::new(running.site.listen()), Arc::clone(&shared));
        let thread = std::thread::spawn(move || send(&source, &client, &its));
        Self { shared, thread }
    }

    /// How many deliveries were sent so far.
    fn sent(&self) -> usize {
        self.shared.sent.load(SeqCst)
    }

    /// Waits until there are as many.
    fn wait_sent(&self, count: usize) {
        wait_for("the load", PATIENCE, || {
            Ok((self.sent() >= count).then_some(()))
        })
        .expect("a load");
    }

    /// Repeats the first `count` deliveries from now on, and waits for that.
    fn repeat_first(&self, count: usize) {
        self.shared.next.store(0, SeqCst);
        wait_for("the repetitions", PATIENCE, || {
            Ok((self.shared.next.load(SeqCst) > count).then_some(()))
        })
        .expect("repetitions");
    }

    /// What was not answered 200 so far, outside of a roll.
    fn refused(&self) -> Vec<String> {
        let refused = self.shared.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stop(self) -> (usize, Vec<Acked>) {
        self.shared.stopping.store(true, SeqCst);
        self.thread.join().expect("a sender");
        let acked = self.shared.acked.lock();
        let acked = std::mem::take(&mut *acked.unwrap_or_else(PoisonError::into_inner));
        (self.shared.sent.load(SeqCst), acked)
    }
}

fn send(source: &Source, client: &Client, shared: &Shared) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let at = now();
    let mut deliveries: Vec<Outgoing> = Vec::new();
    let post = |request: &Outgoing| {
        while !shared.stopping.load(SeqCst) {
            let answer = runtime.block_on(client.post(request));
            let id = answer.and_then(|answer| answer.id());
            match id {
                Ok(id) => {
                    let digest = digest(&request.body);
                    let acked = shared.acked.lock();
                    let mut acked = acked.unwrap_or_else(PoisonError::into_inner);
                    acked.push(Acked { id, digest });
                    return true;
                }
                Err(error) if !shared.rolling.load(SeqCst) => {
                    let refused = shared.refused.lock();
                    let mut refused = refused.unwrap_or_else(PoisonError::into_inner);
                    refused.push(format!("{error:#}"));
                }
                Err(_) => {}
            }
            std::thread::sleep(PERIOD);
        }
        false
    };
    while !shared.stopping.load(SeqCst) {
        let n = u64::try_from(deliveries.len()).expect("small");
        let request = source.signed("signup.created", n, at).expect("a request");
        if !post(&request) {
            return;
        }
        deliveries.push(request);
        shared.sent.store(deliveries.len(), SeqCst);
        let again = shared.next.fetch_add(1, SeqCst);
        post(&deliveries[again % deliveries.len()]);
        std::thread::sleep(PERIOD);
    }
}

/// Both processors end with the reason, and one that starts under the same settings says what to set.
fn end_with_the_reason(running: &mut Running, other: &mut Service) {
    for process in [&mut running.processor, other] {
        let status = process.wait_end().expect("an end");
        let log = process.log().expect("a log");
        let reason = format!("raw had {BEFORE} partitions and has {AFTER}");
        assert!(log.contains(&reason), "{status}\n{log}");
        assert_eq!(status.code(), Some(EXIT_RESTART), "{log}");
    }
    let mut next = running.site.processor("p0").expect("a process");
    let status = next.wait_end().expect("an end");
    let log = next.log().expect("a log");
    assert_eq!(status.code(), Some(EXIT_CONFIG), "{log}");
    let raw = running.names().raw();
    let what = format!(
        "{raw}: has {AFTER} partitions and must have exactly {BEFORE}: set topics.partitions to {AFTER} and \
         topics.key_partitions to {BEFORE}"
    );
    assert!(log.contains(&what), "{log}");
}

/// The steps of docs/operating.md, in its order: the dedup-log, the settings, and all processes.
fn take_the_steps(running: &mut Running, load: &Load) -> Service {
    let log = running.names().dedup_log();
    running.site.set(&["topics", "partitions"], json!(AFTER));
    running
        .site
        .set(&["topics", "key_partitions"], json!(BEFORE));
    // Without the first step a processor names the command.
    let mut early = running.site.processor("p0").expect("a process");
    let status = early.wait_end().expect("an end");
    let found = early.log().expect("a log");
    assert_eq!(status.code(), Some(EXIT_CONFIG), "{found}");
    let command = format!("--alter --topic {log} --partitions {AFTER}");
    assert!(found.contains(&command), "{found}");
    offsets::grow_topic(running.site.bootstrap(), &log, AFTER).expect("a partition more");
    // The processors before ingest: the order does not matter.
    running.processor = running.site.processor("p0").expect("a process");
    let mut other = running.site.processor("p1").expect("a process");
    running.processor.wait_ready().expect("it goes on");
    other.wait_ready().expect("it goes on");
    assert_eq!(load.refused(), Vec::<String>::new());
    load.shared.rolling.store(true, SeqCst);
    running.ingest.stop().expect("an end");
    running.ingest = running.site.ingest().expect("a process");
    running.ingest.wait_ready().expect("it goes on");
    load.shared.rolling.store(false, SeqCst);
    other
}

/// A delivery that somebody else writes to the new partition, where no key is.
fn write_to_the_new_partition(running: &Running, source: &Source, like: &str) -> String {
    let request = source.signed("signup.created", 1_000_000, now());
    let request = request.expect("a request");
    let mut raw = running.raw_request(like);
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.clone().into_bytes()));
    (raw.id, raw.headers) = (fresh_id(), Headers(headers.collect()));
    produce_raw_to(&running.site, &raw, &request.body, &[], Some(AFTER - 1));
    raw.id.to_string()
}

#[test]
fn raw_that_grows_under_load_loses_and_doubles_nothing_after_the_documented_steps() {
    let mut site = site("grown-load");
    site.set(&["topics", "partitions"], json!(BEFORE));
    let mut running = Running::on(site);
    let mut other = running.site.processor("p1").expect("a process");
    other.wait_ready().expect("it is ready");
    let source = running.source("referralloop");
    let load = Load::start(source.clone(), &running);
    load.wait_sent(60);
    let before = load.sent();
    running.outcomes(before);

    let (bootstrap, names) = (running.site.bootstrap().to_owned(), running.names());
    offsets::grow_topic(&bootstrap, &names.raw(), AFTER).expect("a partition more");
    end_with_the_reason(&mut running, &mut other);
    // Retries of what was judged before, and new requests, which are answered.
    load.repeat_first(before);
    assert_eq!(load.refused(), Vec::<String>::new());
    other = take_the_steps(&mut running, &load);
    load.repeat_first(before);

    let (sent, acked) = load.stop();
    let by_hand = write_to_the_new_partition(&running, &source, &acked[0].id);
    let requests = acked.len();
    running.also_acked(acked);
    running.wait_caught_up();
    let fates = running.outcomes(requests + 1);
    assert_eq!(
        fates.get(&by_hand).map(|found| found.fate),
        Some(Fate::Event)
    );
    let raw = read(&bootstrap, &[names.raw()], Isolation::Committed).expect("raw");
    let moves = raw.iter().filter(|record| {
        placement::partition(&record.key, BEFORE) != placement::partition(&record.key, AFTER)
    });
    let moves = moves.count();
    assert!(moves > before, "{moves} records have keys that would move");
    other.stop().expect("an end");
    let verdict = running.finish(&[
        "raw has another number of partitions",
        "raw has more partitions",
        // One of the two ends first, and the other one is given its partitions.
        "topics.partitions is 12",
        "ILLEGAL_GENERATION",
        "a worker cannot go on",
        "the process cannot go on",
        "the process does not start",
    ]);
    eprintln!("{sent} deliveries, {requests} requests, {moves} records of keys that would move");
    assert_eq!((verdict.lost, verdict.doubled), (0, 0));
    assert_eq!(verdict.events.values().sum::<usize>(), sent + 1);
    assert_eq!(verdict.duplicates, requests - sent);
}
