//! What telemetry costs: both services with one in a hundred requests traced, next to themselves without an
//! endpoint, in turns. The Collector is a real one; its own time is not counted.

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use sluice_tests::harness::collector::Collector;
use sluice_tests::harness::deployment::Site;

use super::measure::Options;
use super::{ingest, instructions, processor};
use crate::trials::frame;

/// By how much telemetry may cost more.
const BOUND: f64 = 1.05;

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    bound: f64,
    unit: &'static str,
    ingest: Cost,
    processor: Cost,
}

/// CPU seconds or instructions per million, the median of all rounds, and each round's.
#[derive(Serialize)]
struct Cost {
    off: f64,
    on: f64,
    ratio: f64,
    rounds_off: Vec<f64>,
    rounds_on: Vec<f64>,
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

/// Runs it; whether telemetry costs at most [`BOUND`].
pub fn run(bootstrap: &str, options: &Options) -> Result<bool> {
    let collector = Collector::start()?;
    let (unit, ingest, processor) = if options.instructions {
        INSTRUCTIONS
    } else {
        CPU
    };
    let ingest = cost("ingest", (unit, ingest), bootstrap, &collector, options)?;
    let processor = cost(
        "processor",
        (unit, processor),
        bootstrap,
        &collector,
        options,
    )?;
    let report = Report {
        holds: ingest.ratio <= BOUND && processor.ratio <= BOUND,
        bound: BOUND,
        unit,
        ingest,
        processor,
    };
    frame::conclude(&report, report.holds, &[], None)
}

fn cost(
    name: &str,
    (unit, measured): (&str, Measured),
    bootstrap: &str,
    collector: &Collector,
    options: &Options,
) -> Result<Cost> {
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds.max(1) {
        // The one that goes first changes, for the broker warms up.
        for is_on in [round % 2 == 0, round % 2 == 1] {
            let prefix = format!("telemetry-{name}-{round}-{is_on}.");
            let mut site = Site::new(&prefix, bootstrap)?;
            if is_on {
                site.set(&["telemetry", "otlp_endpoint"], json!(collector.grpc()));
            }
            let spent = measured(&mut site, options)?;
            let what = if is_on { "on" } else { "off" };
            eprintln!("round {round}: {name}, telemetry {what}: {spent:.2} {unit}");
            if is_on { &mut on } else { &mut off }.push(spent);
        }
    }
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    Ok(Cost {
        off: median(&off),
        on: median(&on),
        ratio: median(&on) / median(&off),
        rounds_off: off,
        rounds_on: on,
    })
}
