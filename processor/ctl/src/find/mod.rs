//! `sluicectl find`: what became of a request, an event or a delivery.

use std::path::Path;

use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::help::layout;
use crate::output;
use crate::records::reader::{Opened, Range, Topics};
use crate::records::view::read;
use crate::records::window::{Moment, Window, moment, now, shown};
use crate::records::{self, Notes, fate_topics};

/// How far back is looked where nothing else says it, in milliseconds.
const DAY: i64 = 86_400_000;

/// How much earlier than the time in an id its request may have been received by another clock, in
/// milliseconds.
const CLOCKS: i64 = 60_000;

mod trail;

use trail::{Answer, Trail};

const LAYOUT: &str = layout!(
    "Reads raw and the topics of all fates, from --since to their ends as they are now, in no consumer group
and with nothing committed. One result for each raw record that the id is of: a request that was
redriven has several. No body is read out: ids, types, times, reasons and places alone.",
    "ARGUMENTS"
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl find 019ab1c2-6f7e-7d60-9d9f-6f3f6f0c2a11
  $ sluicectl find msg_2Lhn --since 7d
  $ sluicectl find 3f1c9a52-… --since 2026-01-31T08:00:00Z --json | jq .fate

EXIT STATUS
  0   It was found
  1   It was not; standard error says where was looked
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

/// The options of `sluicectl find`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Find what became of a request, event or delivery",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    /// The request's id that ingest answered, the event's id, or the provider's id of the delivery
    id: String,
    /// From here on: RFC 3339, or a duration before now (s, m, h, d); without it 24h before now, or the
    /// time in the id where that is earlier
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Looks for the id; whether it was found.
pub fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let id = options.id.trim();
    let window = match options.since {
        Some(since) => Window::new(since, None, now())?,
        None => Window {
            since: since(id, now()),
            until: None,
        },
    };
    if id.is_empty() {
        return Err(Failure::Usage("the id is empty".to_owned()));
    }
    let settings = records::settings(file)?;
    let topics = Topics::new(&settings)?;
    eprintln!("looking for {} {window}", output::plain(id));
    let (opened, trail, notes) = look(&settings, topics, id, window)?;
    let answers = trail.answers();
    for answer in &answers {
        print(answer, options.json);
    }
    notes.report();
    if answers.is_empty() {
        eprintln!("{}", nothing(id, window, &opened));
    }
    Ok(!answers.is_empty())
}

/// Reads raw first, so that each fate finds its request, and duplicates last, so that each finds its event.
fn look(
    settings: &Settings,
    topics: Topics,
    id: &str,
    window: Window,
) -> Result<(Opened, Trail, Notes), Failure> {
    let names = &settings.topics.names;
    let mut all = vec![names.raw()];
    all.extend(fate_topics(settings));
    let mut trail = Trail::new(id);
    let mut notes = Notes::default();
    let opened = records::read(topics, &all, window.since, &mut |record| {
        let read = read(names, &record);
        notes.unread(read.view.unread.as_ref());
        trail.take(read);
    })?;
    notes.lacking.clone_from(&opened.lacking);
    // An event has the time of its receipt: of a request that waited on a spool, or was redriven, it may
    // stand before the range in which raw has it.
    if let Some(received) = trail.unjudged().filter(|at| *at < window.since) {
        eprintln!("looking for its event from {} on", shown(received));
        let again = Topics::new(settings)?;
        records::read(again, &fate_topics(settings), received, &mut |record| {
            trail.take(read(names, &record));
        })?;
    }
    Ok((opened, trail, notes))
}

/// A day before now, or shortly before the time in an id where that is earlier.
fn since(id: &str, now: i64) -> i64 {
    let received = id.parse::<uuid::Uuid>().ok().as_ref().and_then(received);
    let day = now - DAY;
    received.map_or(day, |received| day.min(received - CLOCKS))
}

fn print(answer: &Answer, json: bool) {
    if json {
        output::line(&serde_json::json!(answer).to_string());
    } else {
        for line in answer.lines() {
            output::line(&line);
        }
    }
}

/// Where was looked, and what to do.
fn nothing(id: &str, window: Window, opened: &Opened) -> String {
    let id = output::plain(id);
    let mut parts = vec![format!("{id} was not found {window}")];
    // A request's id has the time of its receipt.
    let received = id.parse::<uuid::Uuid>().ok().as_ref().and_then(received);
    parts.push(match received {
        Some(received) if received < window.since => {
            let received = shown(received);
            format!("it is an id of {received}, before that range: --since {received}")
        }
        Some(received) => format!("it is an id of {}, within that range", shown(received)),
        None => "--since looks further back".to_owned(),
    });
    let is_cut = |range: &&Range| range.from == range.begin && range.begin > 0;
    let mut cut: Vec<&str> = opened
        .ranges
        .iter()
        .filter(is_cut)
        .map(|range| range.topic.as_str())
        .collect();
    cut.dedup();
    match (cut.is_empty(), opened.ranges.first()) {
        (false, _) => parts.push(format!(
            "retention has deleted what stood before the range on {}",
            cut.join(", ")
        )),
        (true, Some(raw)) => parts.push(format!(
            "from {} and the topics of fates nothing of that range is deleted",
            raw.topic
        )),
        (true, None) => {}
    }
    parts.join("; ")
}

/// The time in a UUID of version 7, milliseconds since 1970.
fn received(id: &uuid::Uuid) -> Option<i64> {
    let millis = id.as_u128() >> 80;
    (id.get_version_num() == 7).then(|| i64::try_from(millis).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(begin: i64, from: i64) -> Range {
        Range {
            topic: "webhooks.raw".to_owned(),
            partition: 0,
            begin,
            from,
            end: 100,
        }
    }

    #[test]
    fn an_older_id_is_looked_for_from_its_own_time() {
        let (now, id) = (1_800_000_000_000, "018bcfe5-6800-7000-8000-000000000001");
        assert_eq!(since(id, now), 1_700_000_000_000 - CLOCKS);
        // Of today, or without a time: a day.
        for id in [
            "01a3185c-5000-7000-8000-000000000001",
            "018bcfe5-6800-4000-8000-000000000001",
            "msg_1",
        ] {
            assert_eq!(since(id, now), now - DAY, "{id}");
        }
    }

    #[test]
    fn what_is_not_found_says_where_was_looked_and_what_to_do() {
        let window = Window {
            since: 1_800_000_000_000,
            until: None,
        };
        let with = |ranges: Vec<Range>, id: &str| {
            let opened = Opened {
                ranges,
                lacking: Vec::new(),
            };
            nothing(id, window, &opened)
        };
        let text = with(vec![range(0, 5)], "msg\u{1b}_1");
        assert_eq!(
            text,
            "msg\u{fffd}_1 was not found from 2027-01-15T08:00:00.000Z to now; --since looks further back; \
             from webhooks.raw and the topics of fates nothing of that range is deleted"
        );
        let text = with(vec![range(7, 7), range(8, 8)], "x");
        assert!(
            text.ends_with("has deleted what stood before the range on webhooks.raw"),
            "{text}"
        );
        // An id of version 7, of 2023.
        let text = with(vec![range(0, 5)], "018bcfe5-6800-7000-8000-000000000001");
        assert!(
            text.contains(
                "it is an id of 2023-11-14T22:13:20.000Z, before that range: --since 2023-"
            ),
            "{text}"
        );
    }
}
