//! What keeps failing stays small: the partitions of a forbidden topic's keys, that of a batch that cannot be
//! read, and that of a record at which judging panics wait alone, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sluice_schemas::fate::RAW_PARTITION;
use sluice_schemas::metric::processor::{ABORTED_RECORDS, FATES, RESTORE};

use super::check::{check_fates, event_partition};
use super::history;
use super::run::{PARTITIONS, Run};
use super::state::{MS, SECOND, Stored};
use super::webhooks::{Site, header};
use crate::pipeline::PANICS;

/// Webhooks come this often.
const EVERY: u64 = 40 * MS;

impl Run {
    /// Time without faults, in which webhooks come or do not.
    pub(super) fn calm(&mut self, seconds: u64, webhooks: bool) {
        let until = self.world.borrow().now + seconds * SECOND;
        let mut next = if webhooks { 0 } else { u64::MAX };
        while self.world.borrow().now < until {
            let now = self.world.borrow().now;
            if now >= next {
                self.receive();
                next = now + EVERY;
            }
            self.step(until.min(next)).expect("no worker ends");
        }
    }

    /// The partitions of raw of which all is committed.
    pub(super) fn caught_up(&self) -> BTreeSet<i32> {
        let world = self.world.borrow();
        let raw = self.site.shared.settings.topics.names.raw();
        let logs = world.logs.iter().filter(|((topic, _), _)| *topic == raw);
        logs.filter(|((_, partition), log)| world.committed.get(partition) == Some(&log.end))
            .map(|((_, partition), _)| *partition)
            .collect()
    }

    /// Puts webhooks on raw until one of a partition is there, which is changed.
    pub(super) fn receive_one_on(&mut self, partition: i32, change: impl Fn(&mut Stored)) -> i64 {
        let raw = self.site.shared.settings.topics.names.raw();
        let count = |run: &Self| run.world.borrow_mut().log(&raw, partition).records.len();
        let before = count(self);
        while count(self) == before {
            self.receive();
        }
        let world = &mut *self.world.borrow_mut();
        let record = world.log(&raw, partition).records.last_mut();
        let record = record.expect("it has just come");
        change(record);
        record.offset
    }

    /// What the engine counted, all series of a metric together.
    pub(super) fn counted(&self, name: &str) -> f64 {
        let mut sums = BTreeMap::new();
        self.site.add_counted(&mut sums);
        let named = sums.iter().filter(|(series, _)| series.starts_with(name));
        named.map(|(_, value)| value).sum()
    }
}

/// Of those seeds that have no faults of their own.
pub(super) fn run_of(seed: u64) -> Run {
    history::begin(false);
    Run::new(seed * 8, Rc::new(Site::new(PARTITIONS)))
}

fn run() -> Run {
    run_of(0)
}

/// By event topic, the partitions of raw whose records become its events.
fn partitions_of_topics() -> BTreeMap<String, BTreeSet<i32>> {
    let mut run = run();
    run.calm(30, true);
    let names = &run.site.shared.settings.topics.names;
    let world = run.world.borrow();
    let mut topics: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for ((topic, _), log) in &world.logs {
        if *topic == names.raw() || *topic == names.dedup_log() {
            continue;
        }
        for record in log.all_committed() {
            if header(record, RAW_PARTITION).is_none() {
                let partition = event_partition(record).expect("an event");
                topics.entry(topic.clone()).or_default().insert(partition);
            }
        }
    }
    topics
}

#[test]
fn a_forbidden_topic_suspends_the_partitions_of_its_keys_and_no_other() {
    let (topic, partitions) = narrow_topic();
    let mut run = run();
    run.world.borrow_mut().forbidden.insert(topic);
    run.calm(60, true);
    run.calm(3, false);
    let others: BTreeSet<i32> = (0..PARTITIONS)
        .filter(|partition| !partitions.contains(partition))
        .collect();
    assert_eq!(run.caught_up(), others, "no other partition waits");
    assert_eq!(run.restarts, 0);
    let aborted = run.counted(&ABORTED_RECORDS.exposed());
    let judged = run.counted(&FATES.exposed());
    assert!(aborted < judged / 4.0, "aborted {aborted} of {judged}");
    let ready = run.site.shared.readiness.reasons();
    assert!(
        ready
            .iter()
            .any(|fault| fault.contains("suspended") && fault.contains("not authorized")),
        "{ready:?}"
    );
    run.world.borrow_mut().forbidden.clear();
    run.calm(65, false);
    assert!(run.is_quiet());
    check_fates(&run.world.borrow(), &run.site, &BTreeMap::new()).expect("all is right");
    assert_eq!(run.site.shared.readiness.reasons(), Vec::<String>::new());
}

/// The event topic whose keys are in the fewest partitions.
fn narrow_topic() -> (String, BTreeSet<i32>) {
    let mut topics: Vec<(String, BTreeSet<i32>)> = partitions_of_topics().into_iter().collect();
    topics.sort_by_key(|(_, partitions)| partitions.len());
    let (topic, partitions) = topics.swap_remove(0);
    assert!(partitions.len() < usize::try_from(PARTITIONS).expect("small"));
    (topic, partitions)
}

/// The fates of receipts that are an hour old are too many to look for at once.
#[test]
fn a_partition_in_trouble_behind_an_old_backlog_has_no_other_restored() {
    let (topic, partitions) = narrow_topic();
    for seed in 0..8 {
        let mut run = run_of(seed);
        run.alone();
        run.world.borrow_mut().pass(1);
        run.world.borrow_mut().forbidden.insert(topic.clone());
        run.calm(12, true);
        let suspended = run.site.shared.readiness.reasons().join("\n");
        assert!(suspended.contains("suspended"), "{suspended}");
        let counter = format!("{}_count", RESTORE.exposed());
        let before = (
            run.counted(&counter),
            run.counted(&ABORTED_RECORDS.exposed()),
        );
        run.calm(60, true);
        run.calm(3, false);
        assert!(
            run.counted(&ABORTED_RECORDS.exposed()) > before.1,
            "it is tried"
        );
        let restored = run.counted(&counter) - before.0;
        assert!(
            restored == 0.0,
            "seed {seed}: {restored} partitions were restored for {partitions:?}"
        );
        assert!(run.caught_up().is_disjoint(&partitions));
        assert_eq!(run.caught_up().len() + partitions.len(), 4);
    }
}

/// How long the partitions that are not in trouble take for what waits in raw.
fn catches_up(seed: u64, forbidden: Option<&String>, partitions: &BTreeSet<i32>) -> u64 {
    let mut run = run_of(seed);
    run.alone();
    run.world.borrow_mut().pass(1);
    run.world.borrow_mut().forbidden.extend(forbidden.cloned());
    for _ in 0..10_000 {
        run.receive();
    }
    let until = run.world.borrow().now + 600 * SECOND;
    while (0..PARTITIONS).any(|one| !partitions.contains(&one) && !run.caught_up().contains(&one)) {
        run.step(until).expect("no worker ends");
        assert!(run.world.borrow().now < until, "it takes too long");
    }
    run.world.borrow().now
}

#[test]
fn a_partition_in_trouble_does_not_slow_the_others_down() {
    let (topic, partitions) = narrow_topic();
    for seed in 0..8 {
        let without = catches_up(seed, None, &partitions);
        let with = catches_up(seed, Some(&topic), &partitions);
        assert!(
            with < without * 11 / 10,
            "seed {seed}: {} ms without and {} ms with a partition in trouble",
            without / MS,
            with / MS
        );
    }
}

#[test]
fn a_batch_that_cannot_be_read_stops_its_partition_alone() {
    let _log = tracing::subscriber::set_default(history::Log);
    // Batches have from one to eight records.
    for seed in 0..8 {
        unreadable(run_of(seed));
    }
}

fn unreadable(mut run: Run) {
    run.calm(5, true);
    let before = run.receive_one_on(1, |_| {});
    let bad = run.receive_one_on(1, |_| {});
    run.world.borrow_mut().unreadable.insert(1, bad);
    run.calm(60, true);
    run.calm(3, false);
    assert_eq!(run.caught_up(), BTreeSet::from([0, 2, 3]));
    assert_eq!(run.world.borrow().committed[&1], before + 1, "{bad}");
    assert!(run.restarts <= 1, "{} processes ended", run.restarts);
    let why = history::called_the_operator().expect("it stops");
    assert!(
        why.contains("partition=1") && why.contains("cannot be read"),
        "{why}"
    );
}

#[test]
fn a_record_at_which_judging_panics_stops_its_partition_alone() {
    let _log = tracing::subscriber::set_default(history::Log);
    let mut run = run();
    run.calm(5, true);
    let bad = run.receive_one_on(1, |record| {
        record.headers.push((PANICS.to_owned(), None));
        record.headers.push((PANICS.to_owned(), Some(Vec::new())));
    });
    run.calm(30, true);
    run.calm(3, false);
    assert_eq!(run.caught_up(), BTreeSet::from([0, 2, 3]));
    assert!(run.world.borrow().committed[&1] <= bad);
    assert_eq!(run.restarts, 0);
    let why = history::called_the_operator().expect("it stops");
    assert!(
        why.contains("partition=1") && why.contains("panicked"),
        "{why}"
    );
}

/// Steps until a transaction is open.
fn into_a_transaction(run: &mut Run) {
    let until = run.world.borrow().now + 20 * SECOND;
    let mut next = 0;
    while run.world.borrow().now < until {
        let now = run.world.borrow().now;
        if now >= next {
            run.receive();
            next = now + EVERY;
        }
        run.step(next.min(until)).expect("no worker ends");
        let world = run.world.borrow();
        if world.names.values().any(|state| state.open.is_some()) {
            return;
        }
    }
    panic!("no transaction");
}

#[test]
fn a_transaction_that_timed_out_is_fenced_by_nobody() {
    let mut run = run();
    run.alone();
    run.calm(5, true);
    for _ in 0..3 {
        into_a_transaction(&mut run);
        // It stands still for longer than a transaction may take.
        run.freeze(0, true);
        run.calm(31, false);
        run.freeze(0, false);
    }
    run.calm(20, false);
    assert_eq!(run.restarts, 0, "nobody else has a name");
    assert!(run.is_quiet());
    check_fates(&run.world.borrow(), &run.site, &BTreeMap::new()).expect("all is right");
}
