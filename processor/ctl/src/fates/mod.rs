//! `sluicectl dead-letters`, `rejected` and `duplicates`: what became no event, one by one, by numbers, and
//! on its way back.

use std::path::Path;

use sluice_schemas::fate::Fate;
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::help::{GROUP, layout};
use crate::output;
use crate::records::filter::{Filter, Of};
use crate::records::reader::Topics;
use crate::records::view::{Read, read};
use crate::records::window::Times;
use crate::records::{self, Notes, one, topic_of};
use crate::redrive;

mod shown;

mod stats;

use stats::Stats;

/// Examples of a group, and its exit statuses.
macro_rules! behind {
    ($examples:literal) => {
        concat!(
            "EXAMPLES\n",
            $examples,
            "\n\nEXIT STATUS
  0   It was done, and nothing was left out
  1   There is no such record, or a topic or a record could not be read
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault"
        )
    };
}

const DEAD_LETTERS: &str = behind!(
    "  $ sluicectl dead-letters stats --since 7d
  $ sluicectl dead-letters list --reason malformed_json --source codes
  $ sluicectl dead-letters show 0 17 --show-bodies
  $ sluicectl dead-letters redrive --reason malformed_json --dry-run"
);

const REJECTED: &str = behind!(
    "  $ sluicectl rejected stats --since 7d
  $ sluicectl rejected list --reason signature_mismatch --json
  $ sluicectl rejected show 2 4 --show-bodies
  $ sluicectl rejected redrive --reason signature_mismatch --dry-run"
);

const DUPLICATES: &str = behind!(
    "  $ sluicectl duplicates stats --since 7d
  $ sluicectl duplicates list --id msg_2Lhn --json
  $ sluicectl duplicates show 1 9 --show-bodies"
);

const LIST: &str = layout!(
    "For each record, in the order of its partition: time, reason, source, ids, its place on raw and
on its topic. The time is that of its appending to raw. No body is printed.",
);

const SHOW: &str = layout!(
    "As JSON: what the record says of itself, its request and its body. Body, address of the sender, query
and the values of headers that are not the provider's own are masked unless --show-bodies.",
    "ARGUMENTS"
);

const STATS: &str =
    layout!("Numbers by reason and source, for each hour (UTC) of the time of appending to raw.",);

/// What is authentic, but no event.
#[derive(Debug, clap::Args)]
#[command(
    about = "Look at dead letters, authentic but no event, and redrive them",
    help_template = GROUP,
    after_help = DEAD_LETTERS,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct DeadLetters {
    #[command(subcommand)]
    command: Mendable,
}

/// What did not prove who sent it.
#[derive(Debug, clap::Args)]
#[command(
    about = "Look at what did not prove who sent it, and redrive it",
    help_template = GROUP,
    after_help = REJECTED,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Rejected {
    #[command(subcommand)]
    command: Mendable,
}

/// Repetitions of events.
#[derive(Debug, clap::Args)]
#[command(
    about = "Look at repetitions of events",
    help_template = GROUP,
    after_help = DUPLICATES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Duplicates {
    #[command(subcommand)]
    command: Command,
}

impl DeadLetters {
    /// Carries the command out; whether all could be read.
    pub fn run(&self, file: &Path) -> Result<bool, Failure> {
        mend(file, Fate::DeadLetter, &self.command)
    }
}

impl Rejected {
    /// Carries the command out; whether all could be read.
    pub fn run(&self, file: &Path) -> Result<bool, Failure> {
        mend(file, Fate::Rejected, &self.command)
    }
}

impl Duplicates {
    /// Carries the command out; whether all could be read.
    pub fn run(&self, file: &Path) -> Result<bool, Failure> {
        run(file, Fate::Duplicate, &self.command)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List records, one line each
    #[command(help_template = LIST)]
    List(Which),
    /// Print one record, by its place on its topic
    #[command(help_template = SHOW)]
    Show(Place),
    /// Print how many there are, by reason, source and hour
    #[command(help_template = STATS)]
    Stats(Which),
}

/// What can be done about what became no event and may become one.
#[derive(Debug, clap::Subcommand)]
enum Mendable {
    #[command(flatten)]
    Look(Command),
    // Its help stands at its options.
    Redrive(Box<redrive::Options>),
}

/// Which records.
#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    of: Of,
    /// Of this request or delivery, or repeating this event
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    times: Times,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// One record.
#[derive(Debug, clap::Args)]
struct Place {
    /// The partition of its topic
    partition: i64,
    /// Its offset there
    offset: i64,
    /// With body, address and the values of all headers: persons' data
    #[arg(long)]
    show_bodies: bool,
    /// Print it as one line
    #[arg(long)]
    json: bool,
}

fn mend(file: &Path, fate: Fate, command: &Mendable) -> Result<bool, Failure> {
    match command {
        Mendable::Look(command) => run(file, fate, command),
        Mendable::Redrive(options) => redrive::run(file, fate, options),
    }
}

fn run(file: &Path, fate: Fate, command: &Command) -> Result<bool, Failure> {
    match command {
        Command::List(which) => {
            let json = which.json;
            each(file, fate, which, &mut |read| {
                if json {
                    output::line(&serde_json::json!(read.view).to_string());
                } else {
                    output::line(&read.view.line());
                }
            })
        }
        Command::Stats(which) => {
            let mut stats = Stats::default();
            let whole = each(file, fate, which, &mut |read| stats.count(&read.view))?;
            for line in stats.lines(which.json) {
                output::line(&line);
            }
            Ok(whole)
        }
        Command::Show(place) => {
            let settings = records::settings(file)?;
            show(&settings, fate, place)
        }
    }
}

/// Reads the records that were asked for; whether nothing was left out.
fn each(
    file: &Path,
    fate: Fate,
    which: &Which,
    take: &mut dyn FnMut(&Read),
) -> Result<bool, Failure> {
    let filter = filter(fate, which)?;
    let settings = records::settings(file)?;
    filter.warn(&settings);
    let names = &settings.topics.names;
    let topic = topic_of(&settings, fate);
    let topics = Topics::new(&settings)?;
    eprintln!("reading {topic} {}", filter.window);
    let (mut notes, mut count) = (Notes::default(), 0_u64);
    let opened = records::read(
        topics,
        std::slice::from_ref(&topic),
        filter.window.since,
        &mut |record| {
            let read = read(names, &record);
            if !filter.window.has(read.view.millis) {
                return;
            }
            notes.unread(read.view.unread.as_ref());
            if filter.takes(&read) {
                count += 1;
                take(&read);
            }
        },
    )?;
    notes.lacking.clone_from(&opened.lacking);
    if count == 0 && opened.lacking.is_empty() {
        eprintln!(
            "no such record {}: --since looks further back",
            filter.window
        );
    } else {
        eprintln!("{}", output::counted(count, "record"));
    }
    Ok(notes.report())
}

fn filter(fate: Fate, which: &Which) -> Result<Filter, Failure> {
    let mut filter = which.of.filter(fate, which.times.window()?)?;
    filter.id.clone_from(&which.id);
    Ok(filter)
}

fn show(settings: &Settings, fate: Fate, place: &Place) -> Result<bool, Failure> {
    let at = one::place(place.partition, place.offset)?;
    let topics = Topics::new(settings)?;
    let record = one::record(topics, &topic_of(settings, fate), at)?;
    let read = read(&settings.topics.names, &record);
    let shown = shown::object(&read, &record.value, place.show_bodies);
    if place.json {
        output::line(&shown.to_string());
    } else {
        let pretty = serde_json::to_string_pretty(&shown);
        output::line(&pretty.unwrap_or_else(|_| shown.to_string()));
    }
    let mut notes = Notes::default();
    notes.unread(read.view.unread.as_ref());
    Ok(notes.report())
}
