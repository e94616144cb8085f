//! Torn transactions: brokers that come back without the markers of a transaction, and call it complete.
//!
//! Kafka 4.3.0 to 4.4.0 drop the markers of partitions that have no leader at that moment (KAFKA-20734). What
//! was committed stays invisible until the same producer ends another transaction there: a commit shows it,
//! an abort destroys it, and the offsets are in force all the while. An aborted one is left open alike, and
//! the next commit publishes it. Each case runs on that release and on one that keeps its markers, the
//! control: where the control does not hold either, the fault is not the brokers'.
//!
//! A world is used until something in it is at fault, so that a round that does not settle spoils no other.
//!
//! The counters are not compared (I6). A commit that was answered, torn and made again is counted by the
//! first of the two, and the end of a process takes its counts with it: counters count answers, not what came
//! of them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::cluster::Release;

use fastrand::Rng;

mod case;

mod cases;

mod lonely;

mod trial;

use case::{Case, Trial};
use trial::Outcome;

/// What the kind `torn` is asked for in addition.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "torn")]
pub struct Options {
    /// For the kind `torn`: one release of Apache Kafka alone.
    #[arg(long, value_enum)]
    release: Option<Release>,
    /// For the kind `torn`: one case alone.
    #[arg(long, value_enum)]
    case: Option<Case>,
    /// For the kind `torn`: a folder with the services' binaries, to run those of another build.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

/// What came of it all.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether no trial had a fault.
    pub holds: bool,
    /// Over all trials.
    lost: usize,
    doubled: usize,
    stuck: usize,
    trials: Vec<Tried>,
    elapsed_seconds: f64,
}

/// What came of a trial.
#[derive(Debug, Serialize)]
struct Tried {
    #[serde(flatten)]
    trial: Trial,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Runs every trial that is wanted, those of a release one after the other. A short run is a part of the
/// affected release's, for runs of all kinds.
pub fn run(options: &Options, short: bool, rate: u32, seed: u64, dir: &Path) -> Result<Report> {
    let start = Instant::now();
    let mut random = Rng::with_seed(seed).fork();
    let mut plan = VecDeque::from(plan(options, short, &mut random));
    let mut trials = Vec::with_capacity(plan.len());
    while let Some(trial) = plan.pop_front() {
        let Trial {
            case,
            release,
            away_seconds,
        } = &trial;
        let (version, after) = (release.version(), start.elapsed().as_secs());
        eprintln!("{after:>4}s Torn {case:?} on Kafka {version}, away {away_seconds:?} s");
        let name = format!("torn-{}-{case:?}-{version}", trials.len());
        let dir = dir.join(name.to_lowercase());
        std::fs::create_dir_all(&dir)?;
        let means = trial::Means {
            binaries: options.binaries.as_deref(),
            rate,
            seed: random.u64(..),
        };
        let outcome = trial::run(&trial, &means, &dir);
        // Where the harness itself fails, the others are tried all the same.
        let outcome = outcome.unwrap_or_else(|error| Outcome::failed(&error));
        eprintln!("      {}", outcome.sentence());
        if let Some(rest) = trial.rest(outcome.rounds) {
            plan.push_front(rest);
        }
        trials.push(Tried { trial, outcome });
    }
    let sum = |of: fn(&Outcome) -> usize| trials.iter().map(|tried| of(&tried.outcome)).sum();
    Ok(Report {
        holds: trials.iter().all(|tried| tried.outcome.holds()),
        lost: sum(|outcome| outcome.lost),
        doubled: sum(|outcome| outcome.doubled),
        stuck: sum(|outcome| usize::from(outcome.stuck)),
        trials,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    })
}

/// The trials that are wanted: by release, the affected one first.
fn plan(options: &Options, short: bool, random: &mut Rng) -> Vec<Trial> {
    let mut plan = Vec::new();
    for release in [Release::Current, Release::Control] {
        let wanted = match options.release {
            Some(only) => only == release,
            None => release == Release::Current || !short,
        };
        if !wanted {
            continue;
        }
        // Both releases are tried with the same choices.
        let mut random = random.clone();
        for case in <Case as clap::ValueEnum>::value_variants() {
            let away_seconds = case.rounds(short, &mut random);
            let wanted = match options.case {
                Some(only) => only == *case,
                None => !short || matches!(case, Case::Away | Case::AtCommit),
            };
            plan.extend(wanted.then_some(Trial {
                case: *case,
                release,
                away_seconds,
            }));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::case::ROUNDS;
    use super::*;

    fn tried(options: &Options, short: bool) -> Vec<(Release, Case)> {
        let plan = plan(options, short, &mut Rng::with_seed(7));
        plan.iter()
            .map(|trial| (trial.release, trial.case))
            .collect()
    }

    #[test]
    fn the_control_is_tried_with_the_same_choices() {
        let plan = plan(&Options::default(), false, &mut Rng::with_seed(7));
        let of = |release| -> Vec<Vec<u64>> {
            let trials = plan.iter().filter(|trial| trial.release == release);
            trials.map(|trial| trial.away_seconds.clone()).collect()
        };
        assert_eq!(of(Release::Current), of(Release::Control));
        assert_eq!(of(Release::Current).len(), 4);
        assert_eq!(of(Release::Current)[1].len(), ROUNDS);
    }

    #[test]
    fn a_short_run_leaves_the_control_out_unless_it_is_asked_for() {
        let (current, control) = (Release::Current, Release::Control);
        let cases = [Case::Away, Case::AtCommit];
        let mut options = Options::default();
        assert_eq!(tried(&options, true), cases.map(|case| (current, case)));
        options.release = Some(control);
        assert_eq!(tried(&options, true), cases.map(|case| (control, case)));
    }

    #[test]
    fn one_case_on_one_release_may_be_asked_for() {
        let options = Options {
            release: Some(Release::Control),
            case: Some(Case::Leaderless),
            binaries: None,
        };
        assert_eq!(
            tried(&options, false),
            [(Release::Control, Case::Leaderless)]
        );
    }

    #[test]
    fn every_length_has_its_turn_and_no_trial_comes_back_for_ever() {
        let trial = Trial {
            case: Case::Away,
            release: Release::Current,
            away_seconds: vec![5, 15, 27],
        };
        let rest = trial.rest(2).expect("one is left");
        assert_eq!(rest.away_seconds, [27]);
        // The last one, and a world that could not be made.
        assert_eq!(rest.rest(1), None);
        assert_eq!(trial.rest(0), None);
        let other = Trial {
            case: Case::AtCommit,
            ..trial
        };
        assert_eq!(other.rest(1), None);
    }
}
