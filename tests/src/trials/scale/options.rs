//! The options of the trial.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use super::scene::AXES;

/// What is measured, and what becomes of it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Measures this axis and no other; several times: these.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(AXES.map(|axis| axis.name)))]
    pub axis: Vec<String>,
    /// Rounds in which CPU time is taken at each point; the median counts.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// A quarter of the requests and records, and one round.
    #[arg(long)]
    pub quick: bool,
    /// Measures nothing: makes tables and pictures of the results that are there.
    #[arg(long, conflicts_with_all = ["axis", "quick"])]
    pub redraw: bool,
    /// Writes the pictures to docs/plots and the tables into docs/measurements.md.
    #[arg(long)]
    pub update: bool,
    /// The folder `usr` of a valgrind that was unpacked; the system's where there is none.
    #[arg(long, value_name = "DIR")]
    pub valgrind: Option<PathBuf>,
}

impl Options {
    /// How often CPU time is taken at each point.
    pub fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds.max(1) }
    }
}
