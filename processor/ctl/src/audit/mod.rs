//! `sluicectl audit`: whether each raw record has its one fate.
//!
//! Comes in: raw, the topics of fates, and the offsets of the processor's group. Goes out: a [`Report`]. The
//! library's audit (`schemas/src/audit.rs`) holds all records in memory and compares their bytes, for tests;
//! this one holds two bits for a raw record and 16 bytes for an event and for a duplicate.

use std::path::Path;

use crate::failure::Failure;
use crate::help::layout;
use crate::output;
use crate::records;
use crate::records::window::{Moment, Window, moment, now, shown};

mod deleted;

mod fated;

mod ledger;

mod questions;

mod report;

mod states;

mod work;

#[cfg(test)]
mod tests;

const LAYOUT: &str = layout!(
    "Asks for the offsets that the processor's group has committed, reads raw up to them and the topics of
all fates, and accounts for each raw record: its one fate, or missing, or there twice. What is not
judged yet is in flight; what retention may have deleted from a topic of fates is expired. Each
duplicate's original must be there. Joins no group, commits nothing, writes nothing. It reads all
records of the range, so it takes as long as they take to be read.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl audit
  $ sluicectl audit --since 2026-01-26T00:00:00Z
  $ sluicectl audit --since 24h --until 1h --json | jq '.missing[] | .look'

EXIT STATUS
  0   It balances: nothing is missing, nothing is there twice
  1   It does not, or not all could be seen; the last lines say why
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

/// The options of `sluicectl audit`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Account for each raw record: did we lose anything?",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    /// From here on: RFC 3339, or a duration before now (s, m, h, d); else from raw's start
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Up to here, not included; else all
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Audits; whether it balances.
pub fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let since = options.since.unwrap_or(Moment::At(0));
    let window = Window::new(since, options.until, now())?;
    let settings = records::settings(file)?;
    match options.since {
        Some(_) => eprintln!("auditing what is on raw {window}"),
        None => match window.until {
            Some(until) => eprintln!("auditing what is on raw up to {}", shown(until)),
            None => eprintln!("auditing all that is on raw"),
        },
    }
    let report = work::audit(&settings, window)?;
    if report.raw == 0 && report.in_flight == 0 {
        let hint = match (options.since, options.until) {
            (Some(_), _) => ": --since looks further back",
            (None, Some(_)) => ": raw begins later, or is empty",
            (None, None) => ": raw is empty",
        };
        eprintln!("no raw record is in the range {window}{hint}");
    }
    if options.json {
        output::line(&serde_json::json!(report).to_string());
    } else {
        for line in report.lines() {
            output::line(&line);
        }
    }
    Ok(report.balanced)
}
