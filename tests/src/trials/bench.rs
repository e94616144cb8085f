//! The benchmarks: what both services do next to a floor that does the same work with nothing between.
//!
//! Ingest's floor is a bare hyper server that hands each body to a threaded producer; the processor's
//! is a bare transactional copy; the latency's is a bare produce and consume. Floor and service run in
//! turns on the same broker, each in a process of its own, so that their figures can be divided.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::cluster::{Cluster, Purpose};

use crate::trials::frame;

mod build;
mod children;
mod ingest;
mod instructions;
mod latency;
mod load;
mod measure;
mod pairs;
mod processor;
mod telemetry;

pub use children::Floor;
use measure::Compared;
pub use measure::Options;

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    /// What is expected: ratios to the floors' rates, and ingest's peak memory.
    expected: Expected,
    ingest: Compared,
    processor: Compared,
    latency: latency::Latencies,
    elapsed_seconds: f64,
}

#[derive(Serialize)]
struct Expected {
    ingest_rate_ratio: f64,
    ingest_peak_mebibytes: f64,
    processor_rate_ratio: f64,
}

const EXPECTED: Expected = Expected {
    ingest_rate_ratio: 0.6,
    ingest_peak_mebibytes: 64.0,
    processor_rate_ratio: 0.35,
};

/// Runs all benchmarks; whether what is expected holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    eprintln!("starting Kafka");
    let cluster = Cluster::start(1, Purpose::Bench)?;
    let bootstrap = cluster.bootstrap();
    if options.telemetry {
        return telemetry::run(&bootstrap, options);
    }
    if let Some(folder) = &options.against {
        return build::run(&bootstrap, folder, options);
    }
    let mut ingest_rounds = Vec::new();
    let mut processor_rounds = Vec::new();
    // The first round of each warms the broker's code as well; the best of each counts.
    for round in 1..=options.rounds.max(1) {
        eprintln!("round {round}: ingest and its floor");
        ingest_rounds.push(ingest::round(&bootstrap, round, options)?);
        eprintln!("round {round}: the processor and its floor");
        processor_rounds.push(processor::round(&bootstrap, round, options)?);
    }
    eprintln!("latency at {} requests a second", options.latency_rate);
    let latency = latency::measure(&bootstrap, options)?;
    let ingest = Compared::of(&ingest_rounds);
    let processor = Compared::of(&processor_rounds);
    let holds = ingest.rate_ratio >= EXPECTED.ingest_rate_ratio
        && ingest.ours.peak_mebibytes <= EXPECTED.ingest_peak_mebibytes
        && processor.rate_ratio >= EXPECTED.processor_rate_ratio;
    let report = Report {
        holds,
        expected: EXPECTED,
        ingest,
        processor,
        latency,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    frame::conclude(&report, report.holds, &[], None)
}
