//! The account of an audit: each raw record of a range with its fates, in little memory.
//!
//! Comes in, in this order: the raw records, the records of the fates' topics, and what
//! [`Questions`](super::questions::Questions) reads again. Goes out: the numbers, and what is open.

use std::collections::{BTreeMap, BTreeSet};

use sluice_schemas::fate::Fate;
use sluice_schemas::raw::{REQUEST, RawError, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::topic::TopicNames;

use super::deleted::Deleted;
use super::fated::{self, Fated, RawPlace};
use super::report::{LISTED, Partition};
use super::states::{State, States};

/// A partition of raw, with what is known of its offsets.
#[derive(Debug)]
struct Part {
    /// Behind the last offset that must have a fate.
    judged: i64,
    /// Behind the last that is looked at.
    to: i64,
    states: States,
}

/// What was seen.
#[derive(Debug)]
pub struct Ledger {
    names: TopicNames,
    parts: BTreeMap<i32, Part>,
    /// What may be deleted from the topics of fates.
    pub deleted: Deleted,
    /// Raw records that must have a fate.
    pub raw: u64,
    /// Raw records that are not judged yet.
    pub in_flight: u64,
    /// The append time of the oldest of them.
    pub in_flight_since: Option<i64>,
    /// The first and the last append time of those that must have a fate.
    pub appended: Option<(i64, i64)>,
    /// The first append time and the first time of receipt of all.
    first: Option<(i64, i64)>,
    /// Raw records that have a fate, by it.
    pub ended: BTreeMap<Fate, u64>,
    /// The first raw records that have several.
    pub twice: BTreeSet<RawPlace>,
    /// How many have.
    pub twice_total: u64,
    /// Fates of no raw record of the range.
    pub outside: u64,
    /// Records that no release writes.
    pub unreadable: u64,
    /// Records that a newer one wrote.
    pub newer: u64,
    /// The ids of events; sorted by [`Ledger::sort`].
    events: Vec<u128>,
    /// The ids of events that duplicates repeat.
    originals: Vec<u128>,
    /// Those that were not seen, once all fates are read.
    lacking: BTreeSet<u128>,
}

impl Ledger {
    /// Of these partitions of raw.
    pub fn new(names: &TopicNames, partitions: &[Partition], deleted: Deleted) -> Self {
        let part = |one: &Partition| {
            let judged = one.committed.unwrap_or(one.from).min(one.to);
            let states = States::new(one.from, one.to);
            (
                one.number,
                Part {
                    judged,
                    to: one.to,
                    states,
                },
            )
        };
        Self {
            names: names.clone(),
            parts: partitions.iter().map(part).collect(),
            deleted,
            raw: 0,
            in_flight: 0,
            in_flight_since: None,
            appended: None,
            first: None,
            ended: BTreeMap::new(),
            twice: BTreeSet::new(),
            twice_total: 0,
            outside: 0,
            unreadable: 0,
            newer: 0,
            events: Vec::new(),
            originals: Vec::new(),
            lacking: BTreeSet::new(),
        }
    }

    /// Takes a raw record.
    pub fn raw(&mut self, record: &Record) {
        let Some(part) = self.parts.get_mut(&record.partition) else {
            return;
        };
        let known = part.states.get(record.offset) != State::Absent;
        if record.offset >= part.to || known {
            return;
        }
        part.states.set(record.offset, State::Open);
        let appended = record.timestamp;
        let received = match record.header(REQUEST).map(RawRequest::decode) {
            Some(Ok(request)) => request.received_at.div_euclid(1000),
            Some(Err(RawError::Newer(_))) => {
                self.newer += 1;
                appended
            }
            // It is judged all the same, and becomes no event.
            Some(Err(RawError::Malformed(_))) | None => appended,
        };
        let (before, earliest) = self.first.unwrap_or((i64::MAX, i64::MAX));
        self.first = Some((before.min(appended), earliest.min(received)));
        if record.offset < part.judged {
            self.raw += 1;
            let (first, last) = self.appended.unwrap_or((appended, appended));
            self.appended = Some((first.min(appended), last.max(appended)));
        } else {
            self.in_flight += 1;
            let since = self.in_flight_since.unwrap_or(appended);
            self.in_flight_since = Some(since.min(appended));
        }
    }

    /// The first append time and the first time of receipt of the raw records, if there are any.
    pub fn first(&self) -> Option<(i64, i64)> {
        self.first
    }

    /// Takes a record of a fate's topic.
    pub fn fate(&mut self, record: &Record) {
        let Some(fated) = fated::read(&self.names, record) else {
            self.unreadable += 1;
            return;
        };
        self.deleted.note(record, fated.raw);
        self.end(&fated);
    }

    fn end(&mut self, fated: &Fated) {
        let (partition, offset) = fated.raw;
        let part = self.parts.get_mut(&partition);
        let state = part
            .as_ref()
            .map_or(State::Absent, |part| part.states.get(offset));
        if let (Fate::Event, Some(id)) = (fated.fate, fated.event) {
            self.events.push(id);
        }
        let Some(part) = part.filter(|_| state != State::Absent) else {
            self.outside += 1;
            return;
        };
        match state {
            State::Absent | State::Twice => {}
            State::Open => {
                part.states.set(offset, State::Ended);
                if offset < part.judged {
                    *self.ended.entry(fated.fate).or_default() += 1;
                }
                if let (Fate::Duplicate, Some(id)) = (fated.fate, fated.event) {
                    self.originals.push(id);
                }
            }
            State::Ended => {
                part.states.set(offset, State::Twice);
                self.twice_total += 1;
                if self.twice.len() < LISTED {
                    self.twice.insert(fated.raw);
                }
            }
        }
    }

    /// Takes a record that stands before those that were read: it may be the original of a duplicate, or show
    /// what is not deleted.
    pub fn older(&mut self, record: &Record) {
        let Some(fated) = fated::read(&self.names, record) else {
            return;
        };
        self.deleted.note(record, fated.raw);
        if let (Fate::Event, Some(id)) = (fated.fate, fated.event) {
            self.lacking.remove(&id);
        }
    }

    /// Once all fates are read: looks which originals were not seen. The ids of events that were seen more
    /// than once.
    pub fn sort(&mut self) -> BTreeSet<u128> {
        let mut events = std::mem::take(&mut self.events);
        events.sort_unstable();
        let originals = std::mem::take(&mut self.originals).into_iter();
        self.lacking = originals
            .filter(|id| events.binary_search(id).is_err())
            .collect();
        let pairs = events.iter().zip(events.iter().skip(1));
        pairs
            .filter(|(one, next)| one == next)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether a duplicate's original was not seen.
    pub fn lacks_original(&self, id: u128) -> bool {
        self.lacking.contains(&id)
    }

    /// Whether any duplicate's original was not seen.
    pub fn lacks_originals(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// Whether a raw record must have a fate, and has none.
    pub fn is_open(&self, (partition, offset): RawPlace) -> bool {
        let part = self.parts.get(&partition);
        part.is_some_and(|part| offset < part.judged && part.states.get(offset) == State::Open)
    }

    /// Whether a raw record is in the range that was read.
    pub fn is_there(&self, (partition, offset): RawPlace) -> bool {
        let part = self.parts.get(&partition);
        part.is_some_and(|part| part.states.get(offset) != State::Absent)
    }

    /// By partition, the first and the last offset of those that must have a fate and have none.
    pub fn open(&self) -> BTreeMap<i32, (i64, i64)> {
        let parts = self.parts.iter();
        let open =
            |(partition, part): (&i32, &Part)| Some((*partition, part.states.open(part.judged)?));
        parts.filter_map(open).collect()
    }

    /// How many have none.
    pub fn open_total(&self) -> u64 {
        self.raw.saturating_sub(self.ended.values().sum())
    }
}
