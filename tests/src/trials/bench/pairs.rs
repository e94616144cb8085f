//! Both services under two conditions, in turns: what a million of their records costs under each.

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::deployment::Site;

use super::measure::Bench;
use super::options::Options;
use super::spread::Spread;
use super::{ingest, instructions, processor};
use crate::trials::frame;

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    /// How often the base's cost may be reached.
    bound: f64,
    unit: &'static str,
    ingest: Cost,
    processor: Cost,
}

/// The median of all rounds, and each round's.
#[derive(Serialize)]
struct Cost {
    base: f64,
    changed: f64,
    /// Of the medians: the rounds of a pair that is close differ by more than it does.
    ratio: f64,
    rounds_base: Vec<f64>,
    rounds_changed: Vec<f64>,
}

/// Two conditions, and by how much the second may cost more.
pub struct Pair<'a> {
    /// What is compared, as a part of topics' names.
    pub name: &'static str,
    pub bound: f64,
    /// Brings a site under the first condition.
    pub base: &'a dyn Fn(&mut Site),
    /// Brings a site under the second.
    pub changed: &'a dyn Fn(&mut Site),
}

/// A service, measured on a site of its own: what a million of its records cost.
type Measured = fn(&mut Site, &Options) -> Result<f64>;

/// What is measured, and of each service how.
type Unit = (&'static str, Measured, Measured);

const CPU: Unit = (
    "CPU seconds per million",
    |site, options| Ok(ingest::alone(site, options)?.cpu_seconds_per_million),
    |site, options| Ok(processor::alone(site, options)?.cpu_seconds_per_million),
);

const INSTRUCTIONS: Unit = (
    "instructions per million",
    instructions::ingest,
    instructions::processor,
);

/// Runs it; whether the second condition costs at most the bound.
pub fn run(bench: &Bench<'_>, pair: &Pair<'_>) -> Result<bool> {
    let (unit, ingest, processor) = if bench.options.instructions {
        INSTRUCTIONS
    } else {
        CPU
    };
    let cost = |name, measured| cost(name, (unit, measured), bench, pair);
    let ingest = cost("ingest", ingest)?;
    let processor = cost("processor", processor)?;
    let report = Report {
        holds: ingest.ratio <= pair.bound && processor.ratio <= pair.bound,
        bound: pair.bound,
        unit,
        ingest,
        processor,
    };
    frame::conclude(&report, report.holds, &[], None)
}

fn cost(
    name: &str,
    (unit, measured): (&str, Measured),
    bench: &Bench<'_>,
    pair: &Pair<'_>,
) -> Result<Cost> {
    let (mut base, mut changed) = (Vec::new(), Vec::new());
    for round in 1..=bench.options.rounds {
        // The one that goes first changes, for the broker warms up.
        for is_changed in [round % 2 == 0, round % 2 == 1] {
            let prefix = format!("{}-{name}-{round}-{is_changed}.", pair.name);
            let mut site = bench.site(&prefix)?;
            let (condition, rounds, what) = if is_changed {
                (pair.changed, &mut changed, "changed")
            } else {
                (pair.base, &mut base, "base")
            };
            condition(&mut site);
            let spent = measured(&mut site, bench.options)?;
            bench.clear(&site)?;
            eprintln!("round {round}: {name}, {what}: {spent:.2} {unit}");
            rounds.push(spent);
        }
    }
    let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
    Ok(Cost {
        base: median(&base),
        changed: median(&changed),
        ratio: median(&changed) / median(&base),
        rounds_base: base,
        rounds_changed: changed,
    })
}
