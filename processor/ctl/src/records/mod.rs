//! Reading topics for the commands that answer questions: from a time to the end as it is when a command
//! begins, `read_committed`, in no group; what a record says of itself; what of it is shown.

pub mod window;

pub mod reader;

pub mod view;

pub mod filter;

pub mod mask;

pub mod raw_file;

pub mod one;

pub mod follow;

use sluice_schemas::fate::Fate;
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::output::counted;
use reader::Topics;

/// The settings, or their faults.
pub fn settings(file: &std::path::Path) -> Result<Settings, Failure> {
    sluice_service::settings::load(file).map_err(|faults| Failure::config(&faults))
}

/// Every topic that a fate may stand on, the events' first.
pub fn fate_topics(settings: &Settings) -> Vec<String> {
    let names = &settings.topics.names;
    let mut topics: Vec<String> = settings.event_topics().into_iter().collect();
    topics.extend([names.rejected(), names.dead_letter(), names.duplicates()]);
    topics
}

/// The topic of what became no event.
pub fn topic_of(settings: &Settings, fate: Fate) -> String {
    let names = &settings.topics.names;
    match fate {
        Fate::Duplicate => names.duplicates(),
        Fate::Rejected => names.rejected(),
        Fate::DeadLetter | Fate::Event => names.dead_letter(),
    }
}

/// What is known of the way to the end of a command.
#[derive(Debug, Default)]
pub struct Notes {
    /// Topics that could not be read, a sentence each.
    pub lacking: Vec<String>,
    /// Records that a newer release wrote.
    pub newer: u64,
    /// Records that are not what any release writes.
    pub unreadable: u64,
}

impl Notes {
    /// Counts what a record could not be read for.
    pub fn unread(&mut self, unread: Option<&view::Unread>) {
        match unread {
            None => {}
            Some(view::Unread::Newer) => self.newer += 1,
            Some(view::Unread::Malformed(_)) => self.unreadable += 1,
        }
    }

    /// Writes all of it to standard error; whether nothing was left out.
    pub fn report(&self) -> bool {
        for line in &self.lacking {
            eprintln!("not read: {line}");
        }
        if self.newer > 0 {
            eprintln!(
                "{} of a newer release than this sluicectl, of which only a part is known: use the sluicectl \
                 of that release",
                counted(self.newer, "record")
            );
        }
        if self.unreadable > 0 {
            eprintln!(
                "{} that no release writes: who else writes to these topics?",
                counted(self.unreadable, "record")
            );
        }
        self.lacking.is_empty() && self.newer == 0
    }
}

/// Reads topics from a time to their ends, each record once; what could not be read.
pub fn read(
    topics: Topics,
    names: &[String],
    since: i64,
    each: &mut dyn FnMut(sluice_schemas::record::Record),
) -> Result<reader::Opened, Failure> {
    let opened = topics.open(names, Some(since))?;
    topics.read(&opened.ranges, each)?;
    Ok(opened)
}
