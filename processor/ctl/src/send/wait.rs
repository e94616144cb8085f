//! What became of each request, as the topics have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_schemas::audit::fate_of;
use sluice_schemas::fate::{DETAIL, Fate, REASON};
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_schemas::topic::TopicNames;
use uuid::Uuid;

use super::request::Request;
use crate::failure::Failure;
use crate::records::reader::{Range, Topics};

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its fate.
    pub fate: Fate,
    /// Why; empty for events.
    pub reason: String,
    /// One sentence; empty for events.
    pub detail: String,
    /// Full name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// The topics that such requests may end on.
pub fn topics(settings: &Settings, request: &Request) -> Vec<String> {
    let names = &settings.topics.names;
    let event = request.topic.clone();
    vec![
        event,
        names.duplicates(),
        names.rejected(),
        names.dead_letter(),
    ]
}

/// What comes to the topics from its making on.
pub struct Fates {
    topics: Topics,
    ranges: Vec<Range>,
    names: TopicNames,
}

impl Fates {
    /// Opens the topics at their ends. All of them must be there, for a fate may stand on any.
    pub fn new(topics: Topics, names: TopicNames, wanted: &[String]) -> Result<Self, Failure> {
        let opened = topics.open(wanted, None)?;
        if let Some(line) = opened.lacking.first() {
            return Err(Failure::Failed(line.clone()));
        }
        let ranges = opened.ranges.into_iter().map(|range| Range {
            from: range.end,
            ..range
        });
        Ok(Self {
            ranges: ranges.collect(),
            topics,
            names,
        })
    }

    /// Looks for the fates of these requests until all are found or the patience ends. Those that were found,
    /// and why the others could not be looked for.
    pub fn find(
        self,
        mut open: BTreeSet<Uuid>,
        patience: Duration,
    ) -> (BTreeMap<Uuid, Found>, Result<(), Failure>) {
        let Self {
            topics,
            ranges,
            names,
        } = self;
        let mut found = BTreeMap::new();
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        // It outlives the search where all are found earlier, and ends with the process.
        std::thread::spawn(move || {
            std::thread::sleep(patience);
            over.store(true, Ordering::Relaxed);
        });
        let followed = topics.follow(&ranges, &stop, &mut |record| {
            if let Some((id, fate)) = fate(&names, &record)
                && open.remove(&id)
            {
                found.insert(id, fate);
            }
            !open.is_empty()
        });
        (found, followed)
    }
}

/// Which request a record is of; `None` where that cannot be read.
fn fate(names: &TopicNames, record: &Record) -> Option<(Uuid, Found)> {
    let fate = fate_of(names, &record.topic);
    let id = match fate {
        Fate::Event => record.event().ok()?.request_id.parse().ok()?,
        Fate::Duplicate | Fate::Rejected | Fate::DeadLetter => {
            RawRequest::decode(record.header(REQUEST)?).ok()?.id
        }
    };
    let text = |name| record.text(name).unwrap_or_default().to_owned();
    let found = Found {
        fate,
        reason: text(REASON),
        detail: text(DETAIL),
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
    };
    Some((id, found))
}
