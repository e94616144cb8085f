//! A raw record that is judged otherwise than the topics say: in what, and how it is shown.

use serde::Serialize;
use serde_json::{Map, Value};
use sluice_processor::pipeline::outgoing::Outgoing;
use sluice_schemas::event::{CONTENT_TYPE, CONTENT_TYPE_SINGLE_OBJECT, WebhookEvent, decode_known};
use sluice_schemas::fate::{DETAIL, DUPLICATE_OF, Fate};
use sluice_schemas::raw::RawRequest;
use sluice_schemas::reason::Reason;
use sluice_schemas::record::Record;
use uuid::Uuid;

use super::table::{Known, digest, number};
use crate::output::plain;
use crate::records::mask;
use crate::records::view::Place;
use crate::records::window::shown;

/// A difference.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// `difference`.
    pub kind: &'static str,
    /// The raw record.
    pub raw: Place,
    /// Ingest's id of the request.
    pub request_id: Option<String>,
    /// The source's name.
    pub source: Option<String>,
    /// The provider's name.
    pub provider: Option<String>,
    /// When ingest received it.
    pub received_at: Option<String>,
    /// It may come from what raw has no more.
    pub uncertain: bool,
    /// What the topics say; `None` where no fate of the record is there.
    pub topics: Option<Side>,
    /// What it is judged now.
    pub judged: Side,
    /// In what they differ: `fate`, `reason`, `topic`, `duplicate_of`, `columns`.
    pub differs: Vec<&'static str>,
    /// Columns of the event that differ.
    pub columns: Vec<Column>,
    /// What may explain it.
    pub hint: Option<&'static str>,
    /// The judged event, until it is compared by column.
    #[serde(skip)]
    pub value: Option<Vec<u8>>,
}

/// One of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Where it ends.
    pub fate: &'static str,
    /// Why, unless it is an event.
    pub reason: Option<String>,
    /// The same in one sentence; of what is judged now alone.
    pub detail: Option<String>,
    /// The topic.
    pub topic: String,
    /// Partition; of what is there alone.
    pub partition: Option<i32>,
    /// Offset; of what is there alone.
    pub offset: Option<i64>,
    /// The event that it repeats.
    pub duplicate_of: Option<String>,
}

/// A column with two values; masked where it may be about a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// In the topics.
    pub topics: Value,
    /// As judged.
    pub judged: Value,
}

/// Where a difference was found.
pub struct Found<'a> {
    /// The raw record's place.
    pub place: (i32, i64),
    /// What ingest says of it.
    pub request: Option<&'a RawRequest>,
    /// What the topics say of it.
    pub known: Option<Known<'a>>,
    /// It may come from what raw has no more.
    pub uncertain: bool,
    /// An earlier record, refused then, would be the event now.
    pub overtaken: bool,
}

/// In what a judged record differs from what is known of it.
pub fn differs(known: &Known<'_>, out: &Outgoing<'_>) -> Vec<&'static str> {
    let fate = out.label.fate;
    if known.fate != fate {
        return vec!["fate"];
    }
    let mut differs = Vec::new();
    if fate == Fate::Event {
        if known.topic != out.topic {
            differs.push("topic");
        }
        if known.digest != digest(Some(CONTENT_TYPE_SINGLE_OBJECT), &out.value) {
            differs.push("columns");
        }
        return differs;
    }
    if known.reason != out.label.reason.map_or("", Reason::name) {
        differs.push("reason");
    }
    if fate == Fate::Duplicate && known.id != repeats(out) {
        differs.push("duplicate_of");
    }
    differs
}

/// The event that a judged record repeats, as a number; 0 where it repeats none.
pub fn repeats(out: &Outgoing<'_>) -> u128 {
    number(&header(out, DUPLICATE_OF).unwrap_or_default())
}

fn header(out: &Outgoing<'_>, name: &str) -> Option<String> {
    // Headers of the raw record stand before those of its fate.
    let found = out.headers.iter().rev().find(|(found, _)| *found == name)?;
    Some(String::from_utf8_lossy(found.1.as_deref()?).into_owned())
}

impl Difference {
    /// A difference, with its columns still to be compared.
    pub fn new(found: &Found<'_>, out: &Outgoing<'_>, differs: Vec<&'static str>) -> Self {
        let request = found.request;
        let topics = found.known.as_ref().map(there);
        let judged = Side {
            fate: out.label.fate.name(),
            reason: out.label.reason.map(|reason| reason.name().to_owned()),
            detail: out.label.reason.and_then(|_| header(out, DETAIL)),
            topic: out.topic.to_owned(),
            partition: None,
            offset: None,
            duplicate_of: (out.label.fate == Fate::Duplicate)
                .then(|| header(out, DUPLICATE_OF))
                .flatten(),
        };
        let hint = if found.overtaken {
            Some(OVERTAKEN)
        } else {
            hint(
                found.known.as_ref().map(|known| known.fate),
                out.label.reason,
            )
        };
        Self {
            kind: "difference",
            raw: Place {
                partition: i64::from(found.place.0),
                offset: found.place.1,
            },
            request_id: request.map(|request| request.id.to_string()),
            source: request.map(|request| request.source.clone()),
            provider: request.map(|request| request.provider.clone()),
            received_at: request.map(|request| shown(request.received_at.div_euclid(1000))),
            uncertain: found.uncertain,
            topics,
            judged,
            value: differs.contains(&"columns").then(|| out.value.to_vec()),
            differs,
            columns: Vec::new(),
            hint,
        }
    }

    /// The place of the event in the topics, where columns are to be compared with it.
    pub fn wants(&self) -> Option<(String, i32, i64)> {
        let topics = self.topics.as_ref().filter(|_| self.value.is_some())?;
        Some((topics.topic.clone(), topics.partition?, topics.offset?))
    }

    /// Compares the columns with those of the event in the topics; whether it is a difference still: columns
    /// that a newer release added are not compared.
    pub fn compare(&mut self, record: Option<&Record>, show_bodies: bool) -> bool {
        let Some(value) = self.value.take() else {
            return true;
        };
        let judged = decode_known(Some(CONTENT_TYPE_SINGLE_OBJECT), &value);
        let there = record.map(|record| decode_known(record.text(CONTENT_TYPE), &record.value));
        if let (Ok((judged, _)), Some(Ok((there, _)))) = (judged, there) {
            self.columns = columns(&there, &judged, show_bodies);
            if self.columns.is_empty() {
                self.differs.retain(|what| *what != "columns");
            }
        }
        !self.differs.is_empty()
    }

    /// What it becomes, in a few words: from and to.
    pub fn change(&self) -> (String, String) {
        let missing = || "nothing".to_owned();
        let topics = self.topics.as_ref().map_or_else(missing, Side::words);
        (topics, self.judged.words())
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let (from, to) = self.change();
        let mut parts = vec![format!("raw {}", self.raw)];
        parts.push(
            self.source
                .clone()
                .unwrap_or_else(|| "(unknown source)".to_owned()),
        );
        parts.extend(self.request_id.as_ref().map(|id| format!("request {id}")));
        parts.push(if from == to {
            format!("{from}: {} differs", self.differs.join(", "))
        } else {
            format!("{from} -> {to}")
        });
        if self.uncertain {
            parts.push("(uncertain)".to_owned());
        }
        let mut lines = vec![plain(&parts.join("  "))];
        let mut add = |name: &str, text: Option<String>| {
            lines.extend(text.map(|text| plain(&format!("  {name:<10}{text}"))));
        };
        let topics = self.topics.as_ref();
        if self.differs.contains(&"topic") {
            let before = topics.map_or("", |side| side.topic.as_str());
            add("topic", Some(format!("{before} -> {}", self.judged.topic)));
        }
        if self.differs.contains(&"duplicate_of") {
            let of = |side: Option<&Side>| {
                side.and_then(|side| side.duplicate_of.clone())
                    .unwrap_or_default()
            };
            let text = format!("{} -> {}", of(topics), of(Some(&self.judged)));
            add("repeats", Some(text));
        }
        for column in &self.columns {
            add(
                &column.name,
                Some(format!("{} -> {}", column.topics, column.judged)),
            );
        }
        add("why", self.judged.detail.clone());
        add("hint", self.hint.map(str::to_owned));
        lines
    }
}

impl Side {
    fn words(&self) -> String {
        match &self.reason {
            Some(reason) if reason != self.fate => format!("{} {reason}", self.fate),
            _ => self.fate.to_owned(),
        }
    }
}

fn there(known: &Known<'_>) -> Side {
    let of = Uuid::from_u128(known.id).to_string();
    Side {
        fate: known.fate.name(),
        reason: (!known.reason.is_empty()).then(|| known.reason.to_owned()),
        detail: None,
        topic: known.topic.to_owned(),
        partition: Some(known.partition),
        offset: Some(known.offset),
        duplicate_of: (known.fate == Fate::Duplicate).then_some(of),
    }
}

/// Of an event that an earlier record would be now.
const OVERTAKEN: &str = "an earlier record of the same event, refused then, would be the event now; this one \
                         stays the event in the topics";

/// What may explain a difference that no option brings about.
fn hint(known: Option<Fate>, judged: Option<Reason>) -> Option<&'static str> {
    match (known, judged) {
        (None, _) => Some("no fate of it is in the topics: `sluicectl audit` says what is lost"),
        (Some(Fate::Event | Fate::Duplicate), Some(Reason::SignatureMismatch)) => Some(
            "it was verified by a secret that is not configured any more, or not by this content: \
             sources.*.secrets",
        ),
        (Some(Fate::Rejected), None) => Some(
            "secrets or tolerance were others then: `sluicectl rejected redrive` lets it through, unless its \
             event came by another request meanwhile",
        ),
        (Some(Fate::DeadLetter), None) => Some(
            "options or the release were others then: `sluicectl dead-letters redrive` lets it through, \
             unless its event came by another request meanwhile",
        ),
        (Some(Fate::Rejected | Fate::DeadLetter), Some(Reason::Duplicate)) => {
            Some("it was refused then, and would repeat an event now: nothing is to be redriven")
        }
        _ => None,
    }
}

/// The columns that differ, in the order of their names.
fn columns(there: &WebhookEvent, judged: &WebhookEvent, show_bodies: bool) -> Vec<Column> {
    let all = |event: &WebhookEvent| match serde_json::to_value(event) {
        Ok(Value::Object(columns)) => columns,
        _ => Map::new(),
    };
    let (before, now) = (all(there), all(judged));
    let names = before
        .keys()
        .filter(|name| before.get(*name) != now.get(*name));
    let (before, now) = (
        mask::event(there, show_bodies),
        mask::event(judged, show_bodies),
    );
    names
        .map(|name| Column {
            name: name.clone(),
            topics: before[name].clone(),
            judged: now[name].clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_a_difference_is_said_where_something_does() {
        let mismatch = Some(Reason::SignatureMismatch);
        assert!(hint(Some(Fate::Event), mismatch).is_some_and(|text| text.contains("secret")));
        assert!(hint(None, None).is_some_and(|text| text.contains("audit")));
        for (fate, command) in [
            (Fate::Rejected, "rejected redrive"),
            (Fate::DeadLetter, "dead-letters redrive"),
        ] {
            assert!(hint(Some(fate), None).is_some_and(|text| text.contains(command)));
        }
        let environment = Some(Reason::EnvironmentNotAccepted);
        assert_eq!(hint(Some(Fate::Event), environment), None);
    }

    #[test]
    fn a_side_is_a_few_words() {
        let known = Known {
            fate: Fate::Duplicate,
            reason: "duplicate",
            topic: "webhooks.duplicates",
            partition: 0,
            offset: 1,
            id: 7,
            digest: 0,
        };
        assert_eq!(there(&known).words(), "duplicate");
        let dead = Known {
            fate: Fate::DeadLetter,
            reason: "not_utf8",
            ..known
        };
        assert_eq!(there(&dead).words(), "dead_letter not_utf8");
        assert_eq!(there(&dead).duplicate_of, None);
    }
}
