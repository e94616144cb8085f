//! What the benchmarks are asked for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::case::Case;

/// The most rounds of a point that decides nothing.
const OTHER_ROUNDS: u32 = 3;

/// A part of the benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// CPU and rate of ingest.
    Ingest,
    /// CPU and rate of the processor.
    Processor,
    /// Times at half of ingest's rate and at a steady trickle, and ingest's memory.
    Latency,
    /// CPU and rate of both with three brokers.
    ThreeBrokers,
}

/// What the benchmarks are asked for.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Runs this part alone; may be given several times.
    #[arg(long, value_enum)]
    pub part: Vec<Part>,
    /// Of ingest and the processor: bodies of at least 200, 1000, 10000 or 100000 bytes alone.
    #[arg(long, value_name = "BYTES")]
    pub size: Option<usize>,
    /// Of ingest and the processor: this provider alone, or `mixed`.
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Rounds of what decides: floor and service run in turns this often, and the median counts. All else has
    /// three at most.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Seconds for which ingest and its floor are loaded, each round.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub load_seconds: u64,
    /// Connections that load ingest, each with one request on the way.
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// Raw records that the processor and its floor work through, each round; fewer where bodies are large.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub records: u64,
    /// Requests per second while the time to the event is measured.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub latency_rate: u32,
    /// Measures what telemetry costs, and nothing else.
    #[arg(long, conflicts_with_all = ["part", "size", "provider"])]
    pub telemetry: bool,
    /// Measures what this build costs next to the services in this folder, and nothing else.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["telemetry", "part", "size", "provider"])]
    pub against: Option<PathBuf>,
    /// With --telemetry or --against: counts instructions in place of CPU seconds. Needs valgrind.
    #[arg(long)]
    pub instructions: bool,
}

impl Options {
    /// Whether a part is to run.
    pub fn has(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }

    /// Those of these cases that are to be measured.
    pub fn chosen(&self, cases: Vec<Case>) -> Vec<Case> {
        let is_size = |case: &Case| self.size.is_none_or(|size| size == case.least_body_bytes);
        let is_provider = |case: &Case| {
            let provider = self.provider.as_deref();
            provider.is_none_or(|name| name == case.provider)
        };
        let chosen = cases.into_iter();
        chosen.filter(is_size).filter(is_provider).collect()
    }

    /// Refuses a choice that leaves nothing to measure.
    pub fn check(&self) -> Result<()> {
        let narrows = self.size.is_some() || self.provider.is_some();
        let parts = [
            (Part::Ingest, Case::of_ingest()),
            (Part::Processor, Case::of_processor()),
        ];
        let parts = parts.into_iter().filter(|(part, _)| self.has(*part));
        let (mut offered, mut chosen) = (Vec::new(), 0);
        for (_, cases) in parts {
            offered.extend(cases.iter().map(Case::label));
            chosen += self.chosen(cases).len();
        }
        offered.dedup();
        ensure!(
            !narrows || chosen > 0,
            "no point has this --size and --provider; there are {}",
            offered.join(", ")
        );
        Ok(())
    }

    /// How often a case is measured.
    pub fn rounds_of(&self, decides: bool) -> u32 {
        if decides {
            self.rounds
        } else {
            self.rounds.min(OTHER_ROUNDS)
        }
    }

    /// For how long ingest is loaded.
    pub fn load_time(&self) -> Duration {
        Duration::from_secs(self.load_seconds)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        let line = std::iter::once(&"bench").chain(line);
        Line::try_parse_from(line).expect("a good line").options
    }

    #[test]
    fn all_parts_run_unless_some_are_named() {
        assert!(options(&[]).has(Part::ThreeBrokers));
        let some = options(&["--part", "ingest", "--part", "latency"]);
        assert!(some.has(Part::Ingest) && some.has(Part::Latency) && !some.has(Part::Processor));
    }

    #[test]
    fn size_and_provider_choose_points_and_must_leave_one() {
        let one = options(&["--size", "1000", "--provider", "flowcode"]);
        assert_eq!(one.chosen(Case::of_processor()), [Case::HEADLINE]);
        one.check().expect("one point");
        let none = options(&["--part", "processor", "--size", "7"]);
        let fault = none.check().expect_err("no point").to_string();
        assert!(fault.contains("mixed-200"), "{fault}");
    }

    #[test]
    fn what_decides_has_all_rounds() {
        let rounds = |line: &[&str]| [true, false].map(|decides| options(line).rounds_of(decides));
        assert_eq!(rounds(&[]), [5, 3]);
        assert_eq!(rounds(&["--rounds", "2"]), [2, 2]);
    }
}
