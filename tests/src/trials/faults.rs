//! The fault schedules: three brokers, two processes of ingest, three processors, a steady load, and one
//! fault after the other under it; then the checker over all that was ever sent.
//!
//! A seed gives the same faults in the same order. It does not give the same timing: what a run found is
//! shown by its ledger and its logs, which are kept when the verdict does not hold.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use serde::Serialize;
use sluice_schemas::audit::{Invariant, Verdict};
use sluice_tests::checker::{check, check_settled, compare_counts};
use sluice_tests::harness::topics::{Isolation, read, with_prefix};
use sluice_tests::load::ledger::{Told, now_micros};

pub mod fleet;

pub mod fsync;

mod observer;

pub mod world;

mod processes;

mod brokers;

mod network;

mod kind;

pub mod spool;

mod torn;

mod options;

use crate::trials::frame;
use fleet::Role;
use kind::Kind;
pub use options::Options;
use world::World;

/// What came of a kind.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    /// How often the schedule ran.
    runs: u64,
    /// How many faults that were.
    injected: u64,
    /// The longest time from the heal until all was settled.
    settled_seconds: f64,
}

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    seed: u64,
    #[serde(flatten)]
    schedules: Option<Schedules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn: Option<torn::Report>,
    elapsed_seconds: f64,
}

/// What came of the kinds that share a world.
#[derive(Serialize)]
struct Schedules {
    membership: String,
    attempts: usize,
    refused: usize,
    unanswered: usize,
    kinds: BTreeMap<Kind, Outcome>,
    settled_seconds: f64,
    bound_seconds: u64,
    counts_compared: bool,
    ends: BTreeMap<String, BTreeMap<String, u64>>,
    ingest_peak_bytes: u64,
    processor_peak_bytes: u64,
    #[serde(flatten)]
    verdict: Verdict,
}

/// How often a long run is checked on its way.
const CHECK_EVERY: Duration = Duration::from_secs(600);

/// Beyond the bound by so much, nothing is waited for any more.
const LATE: u32 = 2;

/// Runs the schedules; whether the verdict holds.
pub fn run(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(|| now_micros() / 1_000);
    let (dir, start) = (frame::folder("faults", seed)?, Instant::now());
    eprintln!(
        "seed {seed}; brokers and services start, under {}",
        dir.display()
    );
    let mut schedules = None;
    if Kind::all().into_iter().any(|kind| options.shares(kind)) {
        schedules = Some(Run::start(options, seed, &dir)?.finish()?);
    }
    let mut torn = None;
    if options.wants(Kind::Torn) {
        let short = options.kinds.is_empty();
        torn = Some(torn::run(&options.torn, short, options.rate, seed, &dir)?);
    }
    let report = Report {
        holds: schedules.as_ref().is_none_or(|all| all.verdict.holds())
            && torn.as_ref().is_none_or(|torn| torn.holds),
        seed,
        schedules,
        torn,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    frame::conclude(&report, report.holds, &[], Some(&dir))
}

/// A run on its way.
struct Run<'a> {
    options: &'a Options,
    seed: u64,
    dir: &'a Path,
    start: Instant,
    world: World,
    kinds: BTreeMap<Kind, Outcome>,
    /// Every time to settle, and after what.
    settled: Vec<(Kind, Duration)>,
    /// What comparing counts found; counts are lost with the first process that ends.
    counts: Option<Verdict>,
    checked: Instant,
    /// Why the run ended early.
    stuck: Option<String>,
}

impl<'a> Run<'a> {
    fn start(options: &'a Options, seed: u64, dir: &'a Path) -> Result<Self> {
        let world = World::start(options.setup(), seed, dir)?;
        let start = Instant::now();
        eprintln!("all is up; {} requests a second", options.rate);
        Ok(Self {
            options,
            seed,
            dir,
            start,
            world,
            kinds: BTreeMap::new(),
            settled: Vec::new(),
            counts: None,
            checked: start,
            stuck: None,
        })
    }

    fn finish(mut self) -> Result<Schedules> {
        let end = self
            .options
            .minutes
            .map(|minutes| Duration::from_secs(60 * minutes));
        let mut choices = Rng::with_seed(self.seed).fork();
        let plan = plan(self.options, &mut choices);
        let mut next = plan.iter().copied();
        while let Some(kind) = next.next().or_else(|| {
            let more = end.is_some_and(|end| self.start.elapsed() < end);
            more.then(|| plan[choices.usize(..plan.len())])
        }) {
            if let Err(error) = self.inject(kind) {
                let group = self.world.eyes.describe(self.world.group());
                eprintln!("      {group}");
                self.stuck = Some(format!("{kind:?}: {error:#}; {group}"));
                break;
            }
            // The first of the plan ends no process, so that its counts can be compared.
            let due = self.counts.is_none() && self.world.fleet.ends().is_empty()
                || self.checked.elapsed() > CHECK_EVERY
                || self.options.stop_at_first_fault;
            if due {
                let holds = self.check()?.holds() && self.world.faults.is_empty();
                self.world.load.resume();
                if !holds && self.options.stop_at_first_fault {
                    break;
                }
            }
        }
        let mut verdict = self.check()?;
        if let Err(error) = self.world.fleet.stop() {
            let sentence = format!("a service did not end when it was asked to: {error:#}");
            self.world.fault(sentence);
        }
        self.report(&mut verdict)
    }

    fn inject(&mut self, kind: Kind) -> Result<()> {
        let before = Instant::now();
        eprintln!("{:>4}s {kind:?}", self.start.elapsed().as_secs());
        let injected = kind.inject(&mut self.world)?;
        let bound = Duration::from_secs(self.options.bound);
        let took = self.world.settle(bound * LATE)?;
        self.settled.push((kind, took));
        let outcome = self.kinds.entry(kind).or_default();
        outcome.runs += 1;
        outcome.injected += injected;
        outcome.settled_seconds = outcome.settled_seconds.max(took.as_secs_f64());
        eprintln!(
            "      {injected} in {:.0?}, settled {took:.1?} after the last heal; {:?}",
            before.elapsed(),
            self.world.load.counts()
        );
        Ok(())
    }

    /// Lets everything come to rest, where it stays, reads all topics and checks them against the ledger.
    fn check(&mut self) -> Result<Verdict> {
        let world = &mut self.world;
        let patience = Duration::from_secs(self.options.bound) * LATE;
        eprintln!("      checking");
        // Nothing may be sent while it is read, or what is acknowledged meanwhile looks lost.
        let paused = world.load.pause(patience);
        // Where it did not settle before, it is not waited for again: what is there is checked.
        if self.stuck.is_none()
            && let Err(error) = paused.and_then(|()| world.rest(patience))
        {
            self.stuck = Some(format!("at rest: {error:#}"));
        }
        let bootstrap = world.site.bootstrap();
        let topics = with_prefix(bootstrap, "")?;
        let records = read(bootstrap, &topics, Isolation::Committed)?;
        let told = Told::read(&self.dir.join("ledger"))?;
        let mut verdict = check(&world.site.names(), &records, &told);
        if self.stuck.is_none() && world.fleet.ends().is_empty() {
            let running = world.fleet.slots().iter().filter(|slot| slot.is_running());
            let samples = running.map(|slot| slot.metrics());
            let samples = samples.collect::<Result<Vec<_>>>()?;
            let mut counts = verdict.clone();
            (counts.fault_count, counts.faults) = (0, Vec::new());
            compare_counts(&samples, &told, &mut counts);
            self.counts = Some(counts);
        }
        for fault in &verdict.faults {
            eprintln!("  fault: {fault}");
        }
        // What was found before is found again, but not what counts say.
        for fault in self.counts.iter().flat_map(|counts| &counts.faults) {
            verdict.fault(Invariant::I6, fault.clone());
        }
        self.checked = Instant::now();
        Ok(verdict)
    }

    fn report(self, verdict: &mut Verdict) -> Result<Schedules> {
        let bound = Duration::from_secs(self.options.bound);
        for (kind, took) in &self.settled {
            check_settled(&format!("{kind:?}"), *took, bound, verdict);
        }
        if let Some(sentence) = &self.stuck {
            // Other faults may be of what was still on its way.
            verdict.fault(Invariant::I7, format!("the run came to a halt: {sentence}"));
        }
        let World {
            load,
            fleet,
            faults,
            cluster,
            ..
        } = self.world;
        for sentence in faults.into_iter().chain(fleet.faults()).chain(load.odd()) {
            verdict.remark(sentence);
        }
        if !verdict.holds() {
            for (n, log) in cluster.logs().iter().enumerate() {
                std::fs::copy(log, self.dir.join(format!("broker-{n}.log")))?;
            }
        }
        load.finish()?;
        let told = Told::read(&self.dir.join("ledger"))?;
        let longest = self.settled.iter().map(|(_, took)| took).max();
        Ok(Schedules {
            membership: self.options.membership.clone(),
            attempts: told.attempts.len(),
            refused: told.refused(503),
            unanswered: told.unanswered(),
            kinds: self.kinds,
            settled_seconds: longest.map_or(0.0, Duration::as_secs_f64),
            bound_seconds: self.options.bound,
            counts_compared: self.counts.is_some(),
            ends: fleet.ends(),
            ingest_peak_bytes: fleet.peak(Role::Ingest),
            processor_peak_bytes: fleet.peak(Role::Processor),
            verdict: verdict.clone(),
        })
    }
}

/// The kinds that are wanted: those that end no process first, the rest in an order by chance.
fn plan(options: &Options, choices: &mut Rng) -> Vec<Kind> {
    let mut plan = Kind::all();
    plan.retain(|kind| options.shares(*kind));
    let calm = plan.iter().filter(|kind| **kind == Kind::NetSlow).count();
    for n in (calm + 1..plan.len()).rev() {
        plan.swap(n, calm + choices.usize(..(n + 1 - calm)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn options(kinds: &[Kind]) -> Options {
        Options {
            seed: None,
            minutes: None,
            kinds: kinds.to_vec(),
            rate: 1,
            membership: "dynamic".into(),
            outage: 1,
            old: Some(PathBuf::new()),
            bound: 1,
            stop_at_first_fault: false,
            torn: torn::Options::default(),
        }
    }

    #[test]
    fn a_plan_has_every_kind_once_the_calm_one_first_and_repeats_with_its_seed() {
        let order = |seed| plan(&options(&[]), &mut Rng::with_seed(seed));
        let (one, other) = (order(1), order(2));
        assert_eq!(one, order(1));
        assert_ne!(one, other);
        assert_eq!(one[0], Kind::NetSlow);
        let mut sorted = one.clone();
        sorted.sort_unstable();
        // The last of all kinds is in no plan.
        assert_eq!(sorted, Kind::all()[..Kind::all().len() - 1]);
        assert!(!sorted.contains(&Kind::Torn));
        let two = [Kind::Outage, Kind::Churn];
        assert_eq!(plan(&options(&two), &mut Rng::with_seed(1)).len(), 2);
    }
}
