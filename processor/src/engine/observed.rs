//! What a batch leaves to metrics and spans when it is committed, the counts of fates apart.

use std::collections::BTreeMap;

use sluice_schemas::fate::Fate;
use sluice_schemas::trace::TraceContext;

use crate::pipeline::notes::Notes;
use crate::pipeline::outgoing::Label;
use crate::record::Record;
use crate::spans::{Decision, Pending, Spans};

/// What was seen of the records of a batch.
#[derive(Debug, Default)]
pub struct Observed {
    /// By source, what is known of its records.
    pub sources: BTreeMap<String, SourceSeen>,
    /// The spans of records that have one.
    pub spans: Vec<Pending>,
    /// Refused records that have none, for there were too many of their kind.
    pub limited: u64,
    /// The span of the attempt.
    pub batch: Option<TraceContext>,
}

/// What was seen of the records of a source.
#[derive(Debug, Default)]
pub struct SourceSeen {
    /// When ingest received the requests that have no span, microseconds since 1970.
    pub received_at: Vec<i64>,
    /// Events of a type without a topic of its own.
    pub unknown_types: u64,
    /// Events that no signature proves.
    pub unsigned: u64,
    /// The secrets that verified events, and when the last of those was received, microseconds since 1970.
    pub keys: BTreeMap<String, i64>,
}

impl Observed {
    /// A record was judged and its fate is written.
    pub fn record(&mut self, record: &Record, label: Label<'_>, notes: Notes, spans: &Spans) {
        let mut has_exemplar = false;
        if spans.is_on() {
            match spans.judged(record, label, &notes) {
                Decision::Span(span) => {
                    has_exemplar = span.sampled().is_some();
                    self.spans.push(*span);
                }
                Decision::Limited => self.limited += 1,
                Decision::Nothing => {}
            }
        }
        let Some(received_at) = notes.received_at else {
            return;
        };
        if !self.sources.contains_key(label.source) {
            let seen = SourceSeen::default();
            self.sources.insert(label.source.to_owned(), seen);
        }
        let Some(seen) = self.sources.get_mut(label.source) else {
            return;
        };
        // The observation of one that is sampled carries its trace.
        if !has_exemplar {
            seen.received_at.push(received_at);
        }
        seen.unknown_types += u64::from(notes.unknown_type);
        seen.unsigned += u64::from(label.fate == Fate::Event && notes.key_id.is_none());
        if let Some(key) = notes.key_id {
            match seen.keys.get_mut(&key) {
                Some(last) => *last = received_at.max(*last),
                None => {
                    seen.keys.insert(key, received_at);
                }
            }
        }
    }
}
