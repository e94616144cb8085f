//! What the benchmarks are asked for, and what each of them measures.

use std::path::PathBuf;

use serde::Serialize;

/// What the benchmarks are asked for.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds: floor and service run in turns this often, and the best of each counts.
    #[arg(long, default_value_t = 2)]
    pub rounds: u32,
    /// Seconds for which ingest and its floor are loaded, each round.
    #[arg(long, default_value_t = 6)]
    pub load_seconds: u64,
    /// Connections that load ingest, each with one request on the way.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Raw records that the processor and its floor work through, each round.
    #[arg(long, default_value_t = 200_000)]
    pub records: u64,
    /// Requests per second while the latency is measured.
    #[arg(long, default_value_t = 200)]
    pub latency_rate: u32,
    /// Requests whose latency is measured.
    #[arg(long, default_value_t = 2_000)]
    pub latency_requests: u32,
    /// Measures what telemetry costs, and nothing else.
    #[arg(long)]
    pub telemetry: bool,
    /// Measures what this build costs next to the services in this folder, and nothing else.
    #[arg(long, value_name = "DIR", conflicts_with = "telemetry")]
    pub against: Option<PathBuf>,
    /// With --telemetry or --against: counts instructions in place of CPU seconds. Needs valgrind.
    #[arg(long)]
    pub instructions: bool,
}

/// One measure: of a service or of its floor.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measure {
    pub per_second: f64,
    pub cpu_seconds_per_million: f64,
    pub peak_mebibytes: f64,
}

/// A service next to its floor: the best round of each.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub ours: Measure,
    pub floor: Measure,
    pub rate_ratio: f64,
    pub cpu_ratio: f64,
    pub rounds: u32,
}

impl Compared {
    /// The best of all rounds.
    pub fn of(rounds: &[(Measure, Measure)]) -> Self {
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
