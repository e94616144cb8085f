//! `sluicectl replay`: raw judged again, by this build and these settings, and compared with what is in the
//! topics.
//!
//! Comes in: raw and the topics of fates. Goes out: each difference, and numbers. Written are shadow topics
//! alone, where they are asked for.

use std::path::{Path, PathBuf};

use sluice_processor::pipeline::outgoing::FateTopics;
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::help::layout;
use crate::judging::Judging;
use crate::output;
use crate::records;
use crate::records::reader::Topics;
use crate::records::window::Times;

mod difference;

mod fates;

mod judge;

mod ranges;

mod redriven;

mod run;

mod shadow;

mod summary;

mod table;

mod writer;

use ranges::Plan;
use run::Run;
use shadow::Shadow;
use writer::Writer;

const LAYOUT: &str = layout!(
    "Judges the records that were appended to raw from --since to --until as the processor would now, and
prints each that becomes something else than what is in the topics: its fate, its reason, the event
that it repeats, the topic of its event, and the event's columns. Headers, the sentences of reasons
and the framing of events are not compared. One window of raw before --since is read ahead, so that
repetitions are known. Nothing is written unless --into is given, and then to shadow topics alone.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl replay --since 24h
  $ sluicectl replay --since 7d --settings new.yaml
  $ sluicectl replay --since 7d --settings new.yaml --json | jq 'select(.kind == \"summary\")'
  $ sluicectl replay --since 2h --settings new.yaml --into shadow.

EXIT STATUS
  0   Nothing differs; what is redriven, uncertain, expired or in flight is counted
  1   Something differs, or a record could not be judged or read
  2   The command line cannot be carried out; shadow topics hold records
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

/// The options of `sluicectl replay`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Judge raw again, and compare with the topics",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    #[command(flatten)]
    times: Times,
    /// Judge by the sources and secrets of this file; Kafka and names are those of --config
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Write what is judged to topics of this prefix too, which are made and must be empty
    #[arg(long, value_name = "PREFIX")]
    into: Option<String>,
    /// Show columns that may be about a person
    #[arg(long)]
    show_bodies: bool,
    /// Print one JSON object a line, a summary last
    #[arg(long)]
    json: bool,
}

/// Judges again; whether nothing differs.
pub fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let window = options.times.window()?;
    let settings = records::settings(file)?;
    let judging = Judging::new(judged_by(file, options.settings.as_deref())?)?;
    let into = options.into.as_ref();
    let shadow = into.map(|prefix| Shadow::new(prefix, &settings, judging.settings()));
    let shadow = shadow.transpose()?;
    eprintln!("judging raw {window}");
    let topics = Topics::new(&settings)?;
    let plan = Plan::new(&topics, (&settings, judging.settings()), window)?;
    if let Some(shadow) = &shadow {
        shadow.prepare(&settings, &topics)?;
    }
    let writer = shadow
        .as_ref()
        .map(|shadow| Writer::new(shadow, &settings))
        .transpose()?;
    let shape = run::Shape {
        json: options.json,
        show_bodies: options.show_bodies,
    };
    let fate_topics = FateTopics::new(&settings.topics.names);
    let places = (&plan, &fate_topics);
    let mut run = Run::new((&settings, &judging), places, writer.as_ref(), shape);
    run.all(&topics)?;
    if let Some(writer) = &writer {
        writer.finish()?;
    }
    let (summary, notes, cut) = run.end();
    if options.json {
        output::line(&summary.json(window).to_string());
    } else {
        for line in summary.lines() {
            output::line(&line);
        }
    }
    for line in summary.remarks(&plan, cut) {
        eprintln!("{line}");
    }
    if let Some(shadow) = &shadow {
        eprintln!("{}", shadow.ends(summary.written));
    }
    let is_all_read = notes.report();
    Ok(summary.differences == 0 && summary.not_judged == 0 && is_all_read)
}

/// The settings that are judged by: those of a file, with the installation's Kafka and names.
fn judged_by(file: &Path, new: Option<&Path>) -> Result<Settings, Failure> {
    let base = records::settings(file)?;
    let Some(new) = new else {
        return Ok(base);
    };
    let mut settings = records::settings(new)?;
    settings.kafka = base.kafka;
    settings.topics = base.topics;
    settings.schema_registry = base.schema_registry;
    settings.processor.group = base.processor.group;
    Ok(settings)
}
