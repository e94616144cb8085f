//! What is to be sent. Comes in: the records of the topic of a fate. Goes out: those that would be judged
//! otherwise now, each with the id of its event, and numbers of all others.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sluice_processor::pipeline::{Disposition, Rules, UnsupportedVersion};
use sluice_schemas::identity::event_id;
use sluice_schemas::reason::Reason;
use sluice_schemas::record::Record;
use uuid::Uuid;

use super::again;
use super::candidate::{Candidate, Place, Sought};
use super::events::Known;
use super::selection::Selection;
use super::tally::{Outcome, Row, Tally};
use crate::judging::{alone, judged};
use crate::records::view::{Read, Unread, read};

/// Clocks of ingest and brokers may differ by this much: events have the time of one, fates that of the
/// other.
const CLOCKS: Duration = Duration::from_secs(600);

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// By place.
    pub candidates: BTreeMap<Place, Candidate>,
    /// What becomes of all that was selected.
    pub tally: Tally,
    /// How often a request was redriven, by the copies on this topic.
    redriven: HashMap<Uuid, u64>,
}

/// What a record would be now.
enum Now {
    Event(Sought),
    Refused(Reason),
}

impl Plan {
    /// Takes the next record of the topic.
    pub fn take(&mut self, record: Record, selection: &Selection, rules: &Rules<'_>) {
        let found = read(&rules.settings.topics.names, &record);
        let count = again::count(&record);
        if let (Some(request), Some(count @ 1..)) = (&found.request, count) {
            let most = self.redriven.entry(request.id).or_default();
            *most = count.max(*most);
        }
        let filter = &selection.filter;
        if let Some(unread) = &found.view.unread {
            if filter.window.has(found.view.millis) {
                self.tally.unjudged(match unread {
                    Unread::Newer => Outcome::Newer,
                    Unread::Malformed(_) => Outcome::Unreadable,
                });
            }
        } else if filter.takes(&found) {
            self.judge(record, &found, count, selection.all, rules);
        }
    }

    fn judge(
        &mut self,
        record: Record,
        found: &Read,
        count: Option<u64>,
        all: bool,
        rules: &Rules<'_>,
    ) {
        let Some((request, reason)) = found.request.as_ref().zip(found.view.reason.as_deref())
        else {
            return self.tally.unjudged(Outcome::Unreadable);
        };
        if !Reason::ALL.iter().any(|known| known.name() == reason) {
            return self.tally.unjudged(Outcome::Newer);
        }
        let place = (record.partition, record.offset);
        let is_within = again::next(&record).is_some();
        let earliest = record.timestamp.min(request.received_at.div_euclid(1000));
        let Ok(now) = now(record, earliest, rules) else {
            return self.tally.unjudged(Outcome::Newer);
        };
        let (now, event) = match now {
            Now::Event(sought) => (None, Some(sought)),
            Now::Refused(reason) => (Some(reason), None),
        };
        let is_same = now.is_some_and(|now| now.name() == reason);
        let row = self.tally.row(Row {
            source: request.source.clone(),
            reason: reason.to_owned(),
            now,
        });
        if is_same && !all {
            self.tally.count(row, Outcome::SameVerdict);
        } else if let Some(count) = count.filter(|_| is_within) {
            let candidate = Candidate {
                row,
                request: request.id,
                count,
                event,
            };
            self.candidates.insert(place, candidate);
        } else {
            self.tally.count(row, Outcome::PastLimit);
        }
    }

    /// Leaves out what has a later copy on this topic: that one is judged in its place.
    pub fn leave_out_copies(&mut self) {
        let Self {
            candidates,
            tally,
            redriven,
        } = self;
        candidates.retain(|_, candidate| {
            let most = redriven.get(&candidate.request).copied();
            let is_last = most.is_none_or(|most| most <= candidate.count);
            if !is_last {
                tally.count(candidate.row, Outcome::RedrivenBefore);
            }
            is_last
        });
    }

    /// Leaves out what is an event and, unless it is forced, what may be one; counts what is to be sent.
    pub fn leave_out_events(&mut self, known: &Known, force: bool) {
        let tally = &mut self.tally;
        self.candidates.retain(|_, candidate| {
            let outcome = match &candidate.event {
                Some(sought) if known.has(sought) => Outcome::AlreadyEvent,
                Some(sought) if !force && !known.reaches(sought) => Outcome::NeedsForce,
                _ => Outcome::Send,
            };
            tally.count(candidate.row, outcome);
            outcome == Outcome::Send
        });
    }
}

/// What a record would be under these rules. Its event, or that of another attempt of the provider's, was
/// received no earlier than the provider's horizon before it.
fn now(record: Record, earliest: i64, rules: &Rules<'_>) -> Result<Now, UnsupportedVersion> {
    let record = judged(again::as_it_was(record));
    Ok(match alone(&record, rules)? {
        Disposition::Event(routed) => {
            let source = routed.source();
            let back = source.verifier.retry_horizon().saturating_add(CLOCKS);
            let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
            Now::Event(Sought {
                id: event_id(&routed.identity()),
                provider: source.provider.spec().name,
                from: earliest.saturating_sub(back).max(0),
            })
        }
        // Judged alone, nothing repeats anything.
        Disposition::Duplicate { .. } => Now::Refused(Reason::Duplicate),
        Disposition::Refused { refusal, .. } => Now::Refused(refusal.reason),
    })
}
