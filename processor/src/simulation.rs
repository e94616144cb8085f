//! A deterministic simulation of the loop: the real [`Worker`](crate::worker::Worker), transaction,
//! partitions, dedup index and restore, on brokers in memory. A seed decides the faults, the time and who
//! goes next; every call of a client is a place where others may go first.
//!
//! `SLUICE_SEEDS` is how many seeds are run (default 2,000), `SLUICE_FIRST` the first of them (default 0),
//! `SLUICE_SEED` runs one and prints its history.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sluice_schemas::metric::processor::{PRODUCERS_RECREATED, TRANSACTIONS};

use check::Sums;
use run::{PARTITIONS, Run};
use webhooks::Site;

use crate::engine::outcome::TxOutcome;
use crate::metrics::Replaced;

mod run;

mod trouble;

mod seldom;

mod process;

mod webhooks;

mod brokers;

mod state;

mod transactions;

mod group;

mod clients;

mod thread;

mod consumer;

mod producer;

mod reader;

mod check;

mod oracle;

mod history;

mod record;

pub mod guard;

mod chance;

/// Runs a seed: what it came to or what is broken, and its history where that is wanted.
fn run_seed(seed: u64, site: &Rc<Site>, recorded: bool) -> (Result<Sums, String>, String) {
    history::begin(recorded);
    let mut run = Run::new(seed, Rc::clone(site));
    let whole = || catch_unwind(AssertUnwindSafe(|| run.whole()));
    let outcome = tracing::subscriber::with_default(history::Log, whole);
    let outcome = outcome.unwrap_or_else(|_| Err("a panic".to_owned()));
    let outcome = outcome.map_err(|why| format!("seed {seed}: {why}"));
    (outcome, history::end())
}

/// Runs seeds on two threads; the first failure is run again for its history.
fn run_seeds(first: u64, count: u64) -> (Sums, BTreeMap<String, f64>) {
    let next = AtomicU64::new(first);
    let failed: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let totals: Mutex<Sums> = Mutex::default();
    let counted: Mutex<BTreeMap<String, f64>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let site = Rc::new(Site::new(PARTITIONS));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || !failed.lock().expect("no panic").is_empty() {
                        site.add_counted(&mut counted.lock().expect("no panic"));
                        return;
                    }
                    if let (Ok(sums), _) = run_seed(seed, &site, false) {
                        totals.lock().expect("no panic").add(sums);
                        continue;
                    }
                    let (again, history) = run_seed(seed, &site, true);
                    let why = again.err().unwrap_or_else(|| {
                        format!("seed {seed} failed once and held when run again")
                    });
                    let recorded = format!("{history}\n{why}");
                    failed.lock().expect("no panic").insert(seed, recorded);
                }
            });
        }
    });
    if let Some((_, why)) = failed.into_inner().expect("no panic").pop_first() {
        panic!("{why}");
    }
    (
        totals.into_inner().expect("no panic"),
        counted.into_inner().expect("no panic"),
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_is_lost_and_nothing_is_twice_whatever_the_seed() {
    if let Some(seed) = number("SLUICE_SEED") {
        let (outcome, history) = run_seed(seed, &Rc::new(Site::new(PARTITIONS)), true);
        println!("{history}\n{outcome:?}");
        assert!(outcome.is_ok());
        return;
    }
    let count = number("SLUICE_SEEDS").unwrap_or(2000);
    let started = Instant::now();
    let (sums, counted) = run_seeds(number("SLUICE_FIRST").unwrap_or(0), count);
    println!("{count} seeds in {:.1?}: {sums:?}", started.elapsed());
    // A simulation in which little happens proves little.
    assert!(
        sums.events > 0 && sums.duplicates > 0 && sums.refused > 0,
        "{sums:?}"
    );
    assert!(sums.again > 0 && sums.torn > 0, "{sums:?}");
    let transactions = TxOutcome::NAMES.map(|outcome| (TRANSACTIONS, "outcome", outcome));
    let producers = Replaced::ALL.map(|cause| (PRODUCERS_RECREATED, "cause", cause.name()));
    let all = transactions.into_iter().chain(producers);
    let mut never = Vec::new();
    for (metric, label, value) in all {
        let series = format!("{}{{{label}=\"{value}\"}}", metric.exposed());
        let times = counted.get(&series).copied().unwrap_or_default();
        println!("{times:>8} {series}");
        if times == 0.0 {
            never.push(series);
        }
    }
    assert!(never.is_empty(), "never happened: {never:?}");
}
