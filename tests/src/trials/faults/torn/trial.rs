//! One world, its rounds, and what is found in it at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use sluice_schemas::audit::{Invariant, Place, Verdict};
use sluice_tests::checker::{check, check_settled};
use sluice_tests::harness::topics::{Isolation, read, with_prefix};
use sluice_tests::load::ledger::Told;

use super::case::{BOUND, Case, PATIENCE, Trial};
use super::{cases, lonely};
use crate::trials::faults::fleet::Role;
use crate::trials::faults::world::LANES;
use crate::trials::faults::world::{Before, Setup, World};

/// What a trial is run with.
pub struct Means<'a> {
    /// The services' folder; `None` for those of this build.
    pub binaries: Option<&'a Path>,
    /// Requests a second.
    pub rate: u32,
    pub seed: u64,
}

/// What came of a trial.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Rounds that were run; the last one is at fault where one is.
    pub rounds: usize,
    acked: usize,
    /// Requests that were answered with 200 and are not on raw, and raw records without a fate of which the
    /// group's offsets say that they are done.
    pub lost: usize,
    /// The same, with a fate behind a transaction that nobody ended: none where all is settled.
    hidden: usize,
    /// Raw records without a fate that the group has before it still: none where all is settled.
    waiting: usize,
    pub doubled: usize,
    /// It had not settled two minutes after the brokers were back; nothing more was done in this world.
    pub stuck: bool,
    /// The longest time that it took to settle.
    settled_seconds: f64,
    violations: BTreeMap<Invariant, usize>,
    ends: BTreeMap<String, BTreeMap<String, u64>>,
    faults: Vec<String>,
}

impl Outcome {
    /// The harness itself failed.
    pub fn failed(error: &anyhow::Error) -> Self {
        Self {
            faults: vec![format!("the trial could not be run: {error:#}")],
            ..Self::default()
        }
    }

    /// Whether nothing is at fault.
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    /// What a person reads meanwhile.
    pub fn sentence(&self) -> String {
        let Self {
            acked,
            lost,
            hidden,
            doubled,
            stuck,
            settled_seconds,
            ..
        } = self;
        format!(
            "acknowledged {acked}, lost {lost}, hidden {hidden}, doubled {doubled}, stuck: {stuck}, \
             settled in {settled_seconds:.1} s at most; {:?}",
            self.faults.first()
        )
    }
}

/// Runs a trial in a world of its own, under `dir`, which goes where all holds. Ends with the first round
/// that does not: what comes after it in the same world says nothing.
pub fn run(trial: &Trial, means: &Means, dir: &Path) -> Result<Outcome> {
    let mut world = World::start(setup(trial, means), means.seed, dir)?;
    let mut outcome = Outcome::default();
    let mut verdict = Verdict::default();
    for seconds in &trial.away_seconds {
        let away = Duration::from_secs(*seconds);
        let took = inject(trial.case, &mut world, away, outcome.rounds)
            .and_then(|()| world.settle(PATIENCE));
        outcome.rounds += 1;
        // Nothing may be sent while it is read, or what is acknowledged meanwhile looks lost.
        let paused = world.load.pause(PATIENCE);
        let settled = took.and_then(|took| {
            paused?;
            come_to_rest(&world)?;
            Ok(took)
        });
        verdict = look(&world, dir, &mut outcome)?;
        match settled {
            Ok(took) => {
                outcome.settled_seconds = outcome.settled_seconds.max(took.as_secs_f64());
                let what = format!("{seconds} s without brokers");
                check_settled(&what, took, BOUND, &mut verdict);
            }
            Err(error) => {
                outcome.stuck = true;
                *verdict.violations.entry(Invariant::I7).or_default() += 1;
                // Before what is missing because of it.
                let sentence = format!("it did not settle: {error:#}");
                outcome.faults.push(sentence);
            }
        }
        if outcome.stuck || !verdict.holds() {
            break;
        }
        world.load.resume();
    }
    if !outcome.stuck
        && let Err(error) = world.fleet.stop()
    {
        verdict.remark(format!("a service did not end when asked to: {error:#}"));
    }
    report(world, verdict, outcome, dir)
}

fn setup(trial: &Trial, means: &Means) -> Setup {
    let nodes = match trial.case {
        Case::Away | Case::AtCommit => 1,
        Case::Leaderless | Case::AllNodes => 3,
    };
    let lonely = trial.case == Case::Leaderless;
    let membership: &[&str] = &["processor", "membership"];
    Setup {
        nodes,
        release: trial.release,
        names: &[
            ("ingest-0", Role::Ingest),
            ("processor-0", Role::Processor),
            ("processor-1", Role::Processor),
        ],
        settings: vec![(membership, json!("dynamic"))],
        rate: means.rate,
        lanes: LANES,
        binaries: means.binaries.map(Path::to_owned),
        before: lonely.then_some(lonely::make as Before),
        ..Setup::default()
    }
}

fn inject(case: Case, world: &mut World, away: Duration, round: usize) -> Result<()> {
    match case {
        Case::Away => cases::away(world, away),
        Case::AtCommit => cases::at_commit(world, away, round % 2 == 1),
        Case::Leaderless => cases::leaderless(world, away),
        Case::AllNodes => cases::all_nodes(world, away),
    }
}

/// With nothing sent any more, all must be stable and committed, and no offset pending.
fn come_to_rest(world: &World) -> Result<()> {
    world.rest(BOUND)?;
    world.eyes.wait_none_pending(BOUND)
}

/// Reads all topics and checks them against the ledger.
fn look(world: &World, dir: &Path, outcome: &mut Outcome) -> Result<Verdict> {
    let (bootstrap, names) = (world.site.bootstrap(), world.site.names());
    let topics = with_prefix(bootstrap, "")?;
    let mut records = read(bootstrap, &topics, Isolation::Committed)?;
    let told = Told::read(&dir.join("ledger"))?;
    let verdict = check(&names, &records, &told);
    let done = world.eyes.offsets().unwrap_or_default();
    let gone = done_and_gone(&verdict.fateless, &done);
    outcome.waiting = verdict.fateless.len() - gone;
    if gone > 0 {
        let stable = world.eyes.stable_ends();
        let all = read(bootstrap, &topics, Isolation::Uncommitted)?;
        records.extend(all.into_iter().filter(|record| {
            let place = (record.topic.clone(), record.partition);
            stable.get(&place).is_some_and(|end| record.offset >= *end)
        }));
        let fateless = check(&names, &records, &told).fateless;
        outcome.hidden = gone - done_and_gone(&fateless, &done);
    }
    // The rest was answered and is not on raw.
    outcome.lost = verdict.lost - verdict.fateless.len() + gone - outcome.hidden;
    Ok(verdict)
}

/// Of these raw records, how many lie before the offsets that the group has committed.
fn done_and_gone(fateless: &[Place], done: &BTreeMap<i32, i64>) -> usize {
    let is_done = |(partition, offset): &&Place| {
        let partition = i32::try_from(*partition).ok();
        partition.is_some_and(|partition| done.get(&partition).is_some_and(|done| offset < done))
    };
    fateless.iter().filter(is_done).count()
}

fn report(world: World, mut verdict: Verdict, mut outcome: Outcome, dir: &Path) -> Result<Outcome> {
    let World {
        load,
        fleet,
        faults,
        cluster,
        ..
    } = world;
    for sentence in faults.into_iter().chain(fleet.faults()).chain(load.odd()) {
        verdict.remark(sentence);
    }
    outcome.acked = verdict.acked;
    outcome.doubled = verdict.doubled;
    outcome.ends = fleet.ends();
    load.finish()?;
    if verdict.holds() && outcome.holds() {
        std::fs::remove_dir_all(dir)?;
    } else {
        for (n, log) in cluster.logs().iter().enumerate() {
            std::fs::copy(log, dir.join(format!("broker-{n}.log")))?;
        }
    }
    outcome.violations = verdict.violations;
    outcome.faults.extend(verdict.faults);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_group_has_before_it_is_not_lost() {
        let done = BTreeMap::from([(0, 5), (1, 0)]);
        let fateless = [(0, 3), (0, 4), (0, 5), (1, 0), (2, 7)];
        assert_eq!(done_and_gone(&fateless, &done), 2);
    }
}
