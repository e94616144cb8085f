//! What many seeds meet seldom, each by itself: a test here fails where the defence is taken away, whatever
//! the seeds of the day are.

use std::collections::{BTreeMap, BTreeSet};

use sluice_schemas::metric::processor::ABORTED_RECORDS;

use super::brokers::Odds;
use super::check::check_fates;
use super::history;
use super::run::{PARTITIONS, Run};
use super::state::{MS, SECOND};
use super::trouble::run_of;

impl Run {
    /// Another process has the transactional id of a worker for a while, aborts what brokers left undecided
    /// in the logs, and is gone. The group's offsets were committed.
    fn aborted_by_another(&self, worker: u32) {
        let name = self.site.shared.settings.transactional_id(worker);
        let world = &mut *self.world.borrow_mut();
        world.take_over(&name).expect("no transaction is open");
        for log in world.logs.values_mut() {
            for transaction in log.torn.remove(&name).unwrap_or_default() {
                log.decided.insert(transaction, false);
                log.end += 1;
            }
        }
        let offsets = world.torn_offsets.remove(&name).unwrap_or_default();
        world.committed.extend(offsets);
    }

    /// Whether a worker has sent its transaction's offsets, and its record of the dedup-log is on its way.
    fn is_between_offsets_and_records(&self, worker: u32) -> bool {
        let settings = &self.site.shared.settings;
        let (name, log) = (
            settings.transactional_id(worker),
            settings.topics.names.dedup_log(),
        );
        let world = self.world.borrow();
        let open = world.names.get(&name).and_then(|name| name.open.as_ref());
        let mut clients = world.clients.values();
        open.is_some_and(|open| !open.offsets.is_empty())
            && clients.any(|client| client.queue.iter().any(|queued| queued.topic == log))
    }

    /// The partitions of which a worker's open transaction has offsets.
    fn open_offsets(&self, worker: u32) -> BTreeSet<i32> {
        let name = self.site.shared.settings.transactional_id(worker);
        let world = self.world.borrow();
        let open = world.names.get(&name).and_then(|name| name.open.as_ref());
        open.map(|open| open.offsets.keys().copied().collect())
            .unwrap_or_default()
    }

    fn check_all(&self) {
        assert!(self.is_quiet());
        check_fates(&self.world.borrow(), &self.site, &BTreeMap::new()).expect("all is right");
    }
}

#[test]
fn a_commit_that_was_aborted_after_its_answer_is_found_though_no_record_follows() {
    let mut run = run_of(0);
    run.alone();
    run.calm(5, true);
    run.calm(15, false);
    run.world.borrow_mut().odds.torn = 1000;
    run.receive_one_on(1, |_| {});
    run.calm(1, false);
    assert!(run.world.borrow().dropped > 0);
    run.world.borrow_mut().odds.torn = 0;
    run.aborted_by_another(0);
    run.calm(20, false);
    run.check_all();
}

#[test]
fn a_leader_that_knows_less_than_the_one_before_hides_no_key_from_a_restore() {
    for seed in 0..60 {
        let mut run = run_of(seed);
        run.alone();
        let log = run.site.shared.settings.topics.names.dedup_log();
        for _ in 0..4 {
            run.calm(1, true);
            // All partitions are revoked and come straight back: they are restored.
            run.world.borrow_mut().odds.give_back = 1000;
            run.world.borrow_mut().rebalance();
            run.calm(1, false);
            run.world.borrow_mut().odds = Odds::default();
            let until = run.world.borrow().now + 2 * SECOND;
            while run.world.borrow().now < until {
                run.step(until).expect("no worker ends");
                let world = &mut *run.world.borrow_mut();
                if world.chance.in_thousand(20) {
                    let partition = i32::try_from(world.chance.below(4)).expect("small");
                    let time = world.chance.below(20 * MS);
                    world.elect_for(&(log.clone(), partition), time);
                }
            }
            run.calm(2, false);
        }
        run.calm(20, true);
        run.calm(10, false);
        run.check_all();
    }
}

#[test]
fn a_commit_between_a_restores_questions_hides_no_key() {
    let _log = tracing::subscriber::set_default(history::Log);
    let mut found = 0;
    for seed in 0..20 {
        let mut run = run_of(seed);
        history::begin(true);
        run.alone();
        run.receive_one_on(1, |_| {});
        while !run.is_between_offsets_and_records(0) {
            if run.world.borrow().now > 5 * SECOND {
                break;
            }
            run.step(u64::MAX).expect("no worker ends");
        }
        if !run.is_between_offsets_and_records(0) {
            continue;
        }
        found += 1;
        run.freeze(0, true);
        // Its partitions are given to another, whose restore waits for the offsets.
        run.start(1);
        run.calm(15, false);
        run.freeze(0, false);
        run.calm(10, false);
        run.calm(20, true);
        run.calm(10, false);
        run.check_all();
        // Nor is it taken for a torn transaction.
        assert!(!history::end().contains("a transaction was torn"));
    }
    assert!(found > 3, "{found}");
}

#[test]
fn a_transaction_that_hangs_keeps_its_own_partitions_alone_and_costs_no_clients() {
    let mut found = 0;
    for seed in 0..40 {
        let mut run = run_of(seed);
        run.alone();
        run.calm(1, true);
        run.start(1);
        run.calm(5, true);
        let until = run.world.borrow().now + 5 * SECOND;
        while run.world.borrow().now < until && !run.is_between_offsets_and_records(0) {
            run.receive();
            run.step(until).expect("no worker ends");
        }
        let hang = run.open_offsets(0);
        if hang.len() != 1 || !hang.contains(&0) && !hang.contains(&2) {
            continue;
        }
        let aborted = run.counted(&ABORTED_RECORDS.exposed());
        run.freeze(0, true);
        // Its partitions are given to the other one after ten seconds.
        run.calm(11, true);
        if run.counted(&ABORTED_RECORDS.exposed()) > aborted {
            // The rebalance cut a transaction of the other one too, which waits until all is decided.
            continue;
        }
        found += 1;
        let readers = run.world.borrow().readers;
        run.calm(3, false);
        let others = (0..PARTITIONS).filter(|partition| !hang.contains(partition));
        assert_eq!(run.caught_up(), others.collect(), "seed {seed}");
        run.calm(8, false);
        let made = run.world.borrow().readers - readers;
        assert!(made < 2, "seed {seed}: {made} readers");
        run.freeze(0, false);
        run.calm(20, false);
        run.check_all();
    }
    assert!(found > 3, "{found}");
}
