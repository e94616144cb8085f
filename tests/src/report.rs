//! What became of each request, by its id: what the playground prints.

use std::collections::BTreeMap;

use sluice_schemas::audit::fate_of;
use sluice_schemas::event::WebhookEvent;
use sluice_schemas::fate::{DETAIL, DUPLICATE_OF, Fate, REASON};
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::topic::TopicNames;

use crate::load::mix::cases::Expected;

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its fate.
    pub fate: Fate,
    /// The full name of the topic it stands on.
    pub topic: String,
    /// The reason, as the header has it; empty for events.
    pub reason: String,
    /// The header's sentence; on duplicates, which event it repeats; empty for events.
    pub detail: String,
    /// The source's name.
    pub source: String,
    /// The event, where it became one.
    pub event: Option<Box<WebhookEvent>>,
}

/// The id of the request in a record of a fate topic, and what became of it; `None` for raw, the
/// dedup-log, and what cannot be read.
pub fn outcome(names: &TopicNames, record: &Record) -> Option<(String, Outcome)> {
    if record.topic == names.raw() || record.topic == names.dedup_log() {
        return None;
    }
    let fate = fate_of(names, &record.topic);
    let topic = record.topic.clone();
    if fate == Fate::Event {
        let event = record.event().ok()?;
        let outcome = Outcome {
            fate,
            topic,
            reason: String::new(),
            detail: String::new(),
            source: event.source.clone(),
            event: Some(Box::new(event.clone())),
        };
        return Some((event.request_id, outcome));
    }
    let request = RawRequest::decode(record.header(REQUEST)?).ok()?;
    let detail = match record.text(DUPLICATE_OF) {
        Some(id) => format!("repeats event {id}"),
        None => record.text(DETAIL).unwrap_or_default().to_owned(),
    };
    let outcome = Outcome {
        fate,
        topic,
        reason: record.text(REASON).unwrap_or_default().to_owned(),
        detail,
        source: request.source,
        event: None,
    };
    Some((request.id.to_string(), outcome))
}

impl Outcome {
    /// Whether this is what must have become of it.
    pub fn is(&self, expected: &Expected) -> bool {
        match expected {
            Expected::Event { topic } => self.fate == Fate::Event && self.topic == *topic,
            Expected::Ended(fate, reason) => self.fate == *fate && self.reason == reason.name(),
            Expected::Refused(_) => false,
        }
    }

    /// The main fields of an event, or why it became none.
    pub fn summary(&self) -> String {
        let Some(event) = &self.event else {
            return self.detail.clone();
        };
        let mut told = Vec::new();
        let columns = [
            ("", &event.subject),
            ("in ", &event.scope_id),
            ("of ", &event.person_email),
            ("by ", &event.referrer_id),
            ("", &event.title),
            ("delivery ", &event.delivery_id),
        ];
        for (label, value) in columns {
            if let Some(value) = value {
                told.push(format!("{label}{value}"));
            }
        }
        if let Some(position) = event.position {
            told.push(format!("position {position}"));
        }
        told.push(match &event.signature_scheme {
            Some(scheme) => format!("{} ({scheme})", event.authenticity),
            None => event.authenticity.clone(),
        });
        told.join(", ")
    }
}

/// The sums of a report, as `--json` prints them.
#[derive(Debug, Default, serde::Serialize)]
pub struct Sums {
    /// Requests that were answered with 200.
    pub sent: usize,
    /// Events by topic.
    pub events: BTreeMap<String, usize>,
    /// Duplicates.
    pub duplicates: usize,
    /// Rejected by reason.
    pub rejected: BTreeMap<String, usize>,
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<String, usize>,
    /// Whether every request has the fate it must have, once, and nothing else is there.
    pub balanced: bool,
}

impl Sums {
    /// Adds an outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        let count = match outcome.fate {
            Fate::Event => self.events.entry(outcome.topic.clone()).or_default(),
            Fate::Duplicate => &mut self.duplicates,
            Fate::Rejected => self.rejected.entry(outcome.reason.clone()).or_default(),
            Fate::DeadLetter => self.dead_letters.entry(outcome.reason.clone()).or_default(),
        };
        *count += 1;
    }

    /// How many have a fate.
    pub fn ended(&self) -> usize {
        self.events.values().sum::<usize>()
            + self.duplicates
            + self.rejected.values().sum::<usize>()
            + self.dead_letters.values().sum::<usize>()
    }
}
