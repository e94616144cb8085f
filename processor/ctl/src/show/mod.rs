//! `sluicectl show`: one raw record, as a file.

use std::path::Path;

use sluice_schemas::record::Record;

use crate::failure::Failure;
use crate::help::layout;
use crate::output;
use crate::records::raw_file::{print, print_masked};
use crate::records::reader::Topics;
use crate::records::{one, settings};

const LAYOUT: &str = layout!(
    "The record is printed as JSON. A raw record holds the signed body and the headers of its request, so
that by default they are masked, and the file is for people alone. With --show-bodies it has every
byte: keep such a file as you would keep the topic.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl show --raw 3 1042
  $ sluicectl show --raw 3 1042 --show-bodies > record.json

EXIT STATUS
  0   The record was printed
  1   There is no such record
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

/// The options of `sluicectl show`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Print one raw record as a file",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    /// Partition and offset of the record on webhooks.raw
    #[arg(long, required = true, num_args = 2, value_names = ["PARTITION", "OFFSET"])]
    raw: Vec<i64>,
    /// With the body and the values of all headers: persons' data
    #[arg(long)]
    show_bodies: bool,
    /// Taken for the sake of scripts: the output is JSON in any case
    #[arg(long)]
    json: bool,
}

/// Prints the record; whether it is there.
pub fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let _ = options.json;
    let settings = settings(file)?;
    let place = one::place(options.raw[0], options.raw[1])?;
    let topics = Topics::new(&settings)?;
    let record = one::record(topics, &settings.topics.names.raw(), place)?;
    output::line(&text(&record, options.show_bodies));
    if !options.show_bodies {
        eprintln!("the body and the values of headers are masked: --show-bodies writes them");
    }
    Ok(true)
}

fn text(record: &Record, show_bodies: bool) -> String {
    if show_bodies {
        print(record)
    } else {
        print_masked(record)
    }
}
