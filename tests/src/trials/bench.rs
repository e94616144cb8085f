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

mod children;
pub mod dedup;
mod ingest;
mod latency;
mod load;
mod processor;

pub use children::Floor;

/// What the benchmarks are asked for.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds: floor and service run in turns this often, and the best of each counts.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Seconds for which ingest and its floor are loaded, each round.
    #[arg(long, default_value_t = 6)]
    load_seconds: u64,
    /// Connections that load ingest, each with one request on the way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Raw records that the processor and its floor work through, each round.
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// Requests per second while the latency is measured.
    #[arg(long, default_value_t = 200)]
    latency_rate: u32,
    /// Requests whose latency is measured.
    #[arg(long, default_value_t = 2_000)]
    latency_requests: u32,
}

/// One measure: of a service or of its floor.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measure {
    per_second: f64,
    cpu_seconds_per_million: f64,
    peak_mebibytes: f64,
}

/// A service next to its floor: the best round of each.
#[derive(Debug, Serialize)]
struct Beside {
    ours: Measure,
    floor: Measure,
    rate_ratio: f64,
    cpu_ratio: f64,
    rounds: u32,
}

impl Beside {
    fn of(rounds: &[(Measure, Measure)]) -> Self {
        let best = |pick: fn(&(Measure, Measure)) -> Measure| {
            let measures = rounds.iter().map(pick);
            measures.reduce(|best, next| Measure {
                per_second: best.per_second.max(next.per_second),
                cpu_seconds_per_million: best
                    .cpu_seconds_per_million
                    .min(next.cpu_seconds_per_million),
                peak_mebibytes: best.peak_mebibytes.max(next.peak_mebibytes),
            })
        };
        let nothing = Measure {
            per_second: 0.0,
            cpu_seconds_per_million: 0.0,
            peak_mebibytes: 0.0,
        };
        let ours = best(|round| round.0).unwrap_or(nothing);
        let floor = best(|round| round.1).unwrap_or(nothing);
        Self {
            ours,
            floor,
            rate_ratio: ours.per_second / floor.per_second,
            cpu_ratio: ours.cpu_seconds_per_million / floor.cpu_seconds_per_million,
            rounds: u32::try_from(rounds.len()).unwrap_or(u32::MAX),
        }
    }
}

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    /// What is expected: ratios to the floors' rates, and ingest's peak memory.
    expected: Expected,
    ingest: Beside,
    processor: Beside,
    latency: latency::Latencies,
    elapsed_seconds: f64,
}

impl frame::Report for Report {
    fn holds(&self) -> bool {
        self.holds
    }
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
    let ingest = Beside::of(&ingest_rounds);
    let processor = Beside::of(&processor_rounds);
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
    frame::conclude(&report, None)
}
