//! Following topics: from now or from a time on, each record as it comes, until the command is ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;

use super::filter::Filter;
use super::reader::{Range, Topics};
use super::view::{Read, read};
use super::window::{Moment, Window, now};
use super::{Notes, mask};
use crate::failure::Failure;
use crate::output::counted;

/// Which records are followed.
pub struct Following {
    settings: Arc<Settings>,
    filter: Filter,
    topics: Vec<String>,
    from_now: bool,
    stop: Arc<AtomicBool>,
}

/// Ends a [`Following`].
#[derive(Debug, Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What follows ends with the record that it has.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All records from a time on; without one, from now on.
pub fn filter(since: Option<Moment>) -> Result<Filter, Failure> {
    Ok(Filter::all(match since {
        Some(since) => Window::new(since, None, now())?,
        // What stands behind the ends is new, whatever its time.
        None => Window {
            since: 0,
            until: None,
        },
    }))
}

impl Following {
    /// Those of these topics that the filter takes; from now on, or from the beginning of its window.
    pub fn new(
        settings: &Arc<Settings>,
        filter: Filter,
        topics: Vec<String>,
        from_now: bool,
    ) -> Self {
        Self {
            settings: Arc::clone(settings),
            filter,
            topics,
            from_now,
            stop: Arc::default(),
        }
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.stop))
    }

    /// Gives each record as it comes, until it is stopped or `each` has enough; whether all could be read.
    /// Blocks.
    pub fn run(&self, each: &mut dyn FnMut(Record, Read) -> bool) -> Result<bool, Failure> {
        let topics = Topics::new(&self.settings)?;
        let since = (!self.from_now).then_some(self.filter.window.since);
        let opened = topics.open(&self.topics, since)?;
        let mut notes = Notes {
            lacking: opened.lacking,
            ..Notes::default()
        };
        let ranges = opened.ranges.into_iter().map(|range| self.begin(range));
        let ranges: Vec<Range> = ranges.collect();
        let whole = notes.report();
        if ranges.is_empty() {
            return Ok(whole);
        }
        let count = self.topics.len() - notes.lacking.len();
        let count = counted(u64::try_from(count).unwrap_or(u64::MAX), "topic");
        eprintln!("reading {count}, until Ctrl-C");
        notes.lacking.clear();
        topics.follow(&ranges, &self.stop, &mut |record| {
            let read = read(&self.settings.topics.names, &record);
            notes.unread(read.view.unread.as_ref());
            !self.filter.takes(&read) || each(record, read)
        })?;
        Ok(notes.report() && whole)
    }

    fn begin(&self, range: Range) -> Range {
        if self.from_now {
            Range {
                from: range.end,
                ..range
            }
        } else {
            range
        }
    }
}

/// The event, or the body of what is none.
pub fn content(record: &Record, read: &Read) -> serde_json::Value {
    match &read.event {
        Some(event) => mask::event(event, true),
        None => mask::body(&record.value, true),
    }
}

/// Waits for Ctrl-C or for the signal by which a container is ended.
pub async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let term = signal(SignalKind::terminate());
    let terminated = async {
        match term {
            Ok(mut term) => drop(term.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
