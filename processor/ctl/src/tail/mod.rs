//! `sluicectl tail`: events and fates as they come.

use std::path::Path;
use std::sync::Arc;

use sluice_schemas::fate::Fate;
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::help::layout;
use crate::output;
use crate::records::filter::Filter;
use crate::records::follow::{self, Following, content, ended};
use crate::records::view::Read;
use crate::records::window::{Moment, moment};
use crate::records::{self, fate_topics};

const LAYOUT: &str = layout!(
    "One line for each event and each other fate, as a committed reader sees it, until Ctrl-C. Partitions are
read next to each other, so that their records are not in one order. Where the brokers go away it
waits for a minute. No body is printed unless --show-bodies.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl tail --fate rejected,dead_letter
  $ sluicectl tail --source codes --type scan.created --since 10m
  $ sluicectl tail --json --show-bodies | jq .content

EXIT STATUS
  0   It was ended by Ctrl-C, by a TERM signal, or by its reader
  1   A topic could not be read
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

/// A fate on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wanted {
    #[value(name = "event")]
    Event,
    #[value(name = "duplicate")]
    Duplicate,
    #[value(name = "rejected")]
    Rejected,
    #[value(name = "dead_letter", alias = "dead-letter")]
    DeadLetter,
}

impl Wanted {
    const fn fate(self) -> Fate {
        match self {
            Self::Event => Fate::Event,
            Self::Duplicate => Fate::Duplicate,
            Self::Rejected => Fate::Rejected,
            Self::DeadLetter => Fate::DeadLetter,
        }
    }
}

/// The options of `sluicectl tail`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Print events and fates as they come",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    /// Of these sources alone; several with commas
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    source: Vec<String>,
    /// Events of these types alone; several with commas. Other fates have no type
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    r#type: Vec<String>,
    #[arg(
        long,
        help = "Of these fates alone: event, duplicate, rejected, dead_letter; several with commas",
        value_name = "FATE",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    fate: Vec<Wanted>,
    /// Begin here, not now: RFC 3339, or a duration before now (s, m, h, d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// With the columns of events and the bodies of others: persons' data
    #[arg(long)]
    show_bodies: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints what comes until it is ended; whether all topics could be read.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let filter = filter(options)?;
    let settings = Arc::new(records::settings(file)?);
    filter.warn(&settings);
    let wanted = topics(&settings, &filter);
    let following = Following::new(&settings, filter, wanted, options.since.is_none());
    let stop = following.stop();
    let (show_bodies, json) = (options.show_bodies, options.json);
    let mut work = tokio::task::spawn_blocking(move || {
        following.run(&mut |record, read| print(&record, &read, show_bodies, json))
    });
    let done = tokio::select! {
        done = &mut work => done,
        () = ended() => {
            stop.set();
            work.await
        }
    };
    done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
}

fn filter(options: &Options) -> Result<Filter, Failure> {
    let mut filter = follow::filter(options.since)?;
    filter.sources.clone_from(&options.source);
    filter.types.clone_from(&options.r#type);
    let fates = options
        .fate
        .iter()
        .map(|wanted| wanted.fate().name().to_owned());
    filter.fates = fates.collect();
    if !options.r#type.is_empty()
        && !options.fate.is_empty()
        && !options.fate.contains(&Wanted::Event)
    {
        return Err(Failure::Usage(
            "events alone have a type, and --fate leaves them out: give --type or --fate"
                .to_owned(),
        ));
    }
    Ok(filter)
}

/// The topics that can hold what is asked for.
fn topics(settings: &Settings, filter: &Filter) -> Vec<String> {
    let names = &settings.topics.names;
    let mut topics = fate_topics(settings);
    let fates = &filter.fates;
    topics.retain(|topic| {
        let fate = sluice_schemas::audit::fate_of(names, topic);
        let is_typed = filter.types.is_empty() || fate == Fate::Event;
        is_typed && (fates.is_empty() || fates.iter().any(|one| one == fate.name()))
    });
    topics
}

/// Prints a record; whether anybody reads it.
fn print(record: &Record, read: &Read, show_bodies: bool, json: bool) -> bool {
    if !json {
        let content = show_bodies.then(|| output::plain(&content(record, read).to_string()));
        let content = content.map_or_else(String::new, |content| format!("  {content}"));
        return output::line(&format!("{}{content}", read.view.line()));
    }
    let mut object = serde_json::json!(read.view);
    if show_bodies {
        object["content"] = content(record, read);
    }
    output::line(&object.to_string())
}
