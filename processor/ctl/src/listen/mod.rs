//! `sluicectl listen`: events, or raw requests, re-sent to a developer's address as they come.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluice_schemas::record::Record;
use sluice_schemas::settings::reader::duration;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::help::layout;
use crate::output;
use crate::records;
use crate::records::follow::{self, Following, content, ended};
use crate::records::view::Read;
use crate::records::window::{Moment, moment};

mod outgoing;

mod target;

use outgoing::outgoing;
use target::{Delivery, Target};

const LAYOUT: &str = layout!(
    "Each event is posted as JSON, with all its columns and the headers of CloudEvents; with --raw each
request goes out as it came, with its method, headers and body. The path is the URL's. One is sent at a
time, so that those of a partition stay in order. A target that is away or busy (no answer, 408, 429,
5xx) gets the same again until --retry is over; then the next one follows. Redirects are not followed.
Persons' data goes to the target: give it an address of your own machine. What is printed has no body.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl listen --forward http://localhost:3000/hooks
  $ sluicectl listen --forward http://localhost:3000 --source codes --type scan.created --since 10m
  $ sluicectl listen --forward http://localhost:3000/hooks --raw --source flock-prod
  $ sluicectl listen --forward http://localhost:3000 --json | jq 'select(.delivered | not)'

EXIT STATUS
  0   It was ended by Ctrl-C, by a TERM signal, or by its reader
  1   A topic could not be read
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

/// How many records are read ahead of the one that is sent.
const AHEAD: usize = 16;

/// The options of `sluicectl listen`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Re-send events, or raw requests, to an address as they come",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    #[arg(
        long,
        help = "Where to, such as http://localhost:3000/hooks",
        value_name = "URL"
    )]
    forward: String,
    /// Of these sources alone; several with commas
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    source: Vec<String>,
    /// Events of these types alone, so not with --raw; several with commas
    #[arg(
        long,
        value_name = "TYPE",
        value_delimiter = ',',
        conflicts_with = "raw"
    )]
    r#type: Vec<String>,
    /// Raw requests as they came, judged or not; forgeries and repetitions too
    #[arg(long)]
    raw: bool,
    /// Begin here, not now: RFC 3339, or a duration before now (s, m, h, d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// For how long one is tried again; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    retry: Duration,
    /// How long an answer may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    timeout: Duration,
    /// Print the columns of events and the bodies of requests too: persons' data
    #[arg(long)]
    show_bodies: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "must be a duration such as 500ms, 30s or 5m".to_owned())
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let long = parse_duration(text)?;
    let is_over_zero = (!long.is_zero()).then_some(long);
    is_over_zero.ok_or_else(|| "must be over zero".to_owned())
}

/// Re-sends what comes until it is ended; whether all topics could be read.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let target = Target::new(&options.forward, options.timeout, options.retry)?;
    let settings = Arc::new(records::settings(file)?);
    if let Some(warning) = target.warning() {
        eprintln!("warning: {warning}");
    }
    let mut filter = follow::filter(options.since)?;
    filter.sources.clone_from(&options.source);
    filter.types.clone_from(&options.r#type);
    filter.warn(&settings);
    let topics = if options.raw {
        vec![settings.topics.names.raw()]
    } else {
        settings.event_topics().into_iter().collect()
    };
    let following = Following::new(&settings, filter, topics, options.since.is_none());
    let stop = following.stop();
    let (sender, receiver) = mpsc::channel(AHEAD);
    let work = tokio::task::spawn_blocking(move || {
        following.run(&mut |record, read| sender.blocking_send((record, read)).is_ok())
    });
    let mut sent = Sent::default();
    tokio::select! {
        () = forward(receiver, &target, options, &mut sent) => {}
        () = ended() => {}
    }
    // Who reads finds the other end of the channel gone.
    stop.set();
    let done = work.await;
    let Sent { delivered, failed } = sent;
    let shown = target.shown();
    eprintln!("re-sent {delivered} to {shown}, {failed} not");
    done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
}

/// How many were taken by the target, and how many were not.
#[derive(Debug, Default)]
struct Sent {
    delivered: u64,
    failed: u64,
}

/// Sends one after the other until there are no more or nobody reads the output.
async fn forward(
    mut records: mpsc::Receiver<(Record, Read)>,
    target: &Target,
    options: &Options,
    sent: &mut Sent,
) {
    while let Some((record, read)) = records.recv().await {
        let shown = options.show_bodies.then(|| content(&record, &read));
        let delivery = match outgoing(record, &read) {
            Ok(request) => target.deliver(&request).await,
            Err(why) => Delivery::none(why),
        };
        if delivery.delivered {
            sent.delivered += 1;
        } else {
            sent.failed += 1;
        }
        let line = if options.json {
            object(&read, &delivery, shown).to_string()
        } else {
            let more = shown.map(|content| output::plain(&content.to_string()));
            let more = more.map_or_else(String::new, |content| format!("  {content}"));
            let state = if delivery.delivered { "ok  " } else { "FAIL" };
            format!("{state}  {}  {}{more}", delivery.words(), read.view.line())
        };
        if !output::line(&line) {
            return;
        }
    }
}

/// What a record says of itself and what became of it.
fn object(
    read: &Read,
    delivery: &Delivery,
    content: Option<serde_json::Value>,
) -> serde_json::Value {
    let mut object = serde_json::json!(read.view);
    let more = serde_json::json!(delivery);
    if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
    if let Some(content) = content {
        object["content"] = content;
    }
    object
}
