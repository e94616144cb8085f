//! What records say of one id, put together by the raw record that they come from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::{counted, plain};
use crate::records::filter::has_id;
use crate::records::view::{Place, Read, View};

/// What became of a raw record.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// Ingest's id of the request.
    pub request_id: Option<String>,
    /// The raw record; `None` where its fate does not say it.
    pub raw: Option<Place>,
    /// The source's name.
    pub source: Option<String>,
    /// The provider's name.
    pub provider: Option<String>,
    /// When ingest received it.
    pub received_at: Option<String>,
    /// Where it ended; `None` where no fate was found.
    pub fate: Option<&'static str>,
    /// Why, unless it is an event.
    pub reason: Option<String>,
    /// The same in one sentence.
    pub detail: Option<String>,
    /// The topic of its fate, with the place there.
    pub topic: Option<String>,
    /// Partition.
    pub partition: Option<i32>,
    /// Offset.
    pub offset: Option<i64>,
    /// The event that it became, or that it repeats.
    pub event: Option<String>,
    /// The event's type.
    pub r#type: Option<String>,
    /// The provider's id of the delivery.
    pub delivery_id: Option<String>,
    /// What repeats the event.
    pub duplicates: Vec<Duplicate>,
    /// How often it was redriven.
    pub redrive_count: u64,
    /// The trace that ingest began.
    pub trace_id: Option<String>,
}

/// A repetition of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Ingest's id of the request.
    pub request_id: Option<String>,
    /// The raw record.
    pub raw: Option<Place>,
    /// When ingest received it.
    pub received_at: Option<String>,
}

/// What was found so far.
#[derive(Debug)]
pub struct Trail {
    id: String,
    /// By raw record. A fate that does not name one stands alone.
    found: BTreeMap<(Option<Place>, u64), View>,
    alone: u64,
    /// By the id of the event that is repeated.
    duplicates: BTreeMap<String, Vec<Duplicate>>,
}

impl Trail {
    /// Of one id.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            found: BTreeMap::new(),
            alone: 0,
            duplicates: BTreeMap::new(),
        }
    }

    /// Takes a record, if it is of the id or repeats an event that is.
    pub fn take(&mut self, read: Read) {
        let is_own = has_id(&read, &self.id);
        let is_duplicate = read.view.fate == Some("duplicate");
        let repeated = read.view.event.clone().filter(|_| is_duplicate);
        if let Some(event) = repeated
            && self.is_found(&event)
        {
            let View {
                request_id,
                raw,
                received_at,
                ..
            } = read.view.clone();
            let duplicate = Duplicate {
                request_id,
                raw,
                received_at,
            };
            let all = self.duplicates.entry(event).or_default();
            if !all.contains(&duplicate) {
                all.push(duplicate);
            }
            // It is asked for by its own id, or it belongs to the answer of its event.
            if !self.is_request(&read.view) {
                self.found.remove(&(read.view.raw, 0));
                return;
            }
        }
        if is_own || self.has_raw(&read.view) {
            self.keep(read.view);
        }
    }

    /// Whether this event is one of those that were found, or the one that is asked for.
    fn is_found(&self, event: &str) -> bool {
        let is_it =
            |view: &View| view.event.as_deref() == Some(event) && view.fate == Some("event");
        self.found.values().any(is_it)
    }

    fn is_request(&self, view: &View) -> bool {
        let id = view.request_id.as_deref();
        id.is_some_and(|id| id.eq_ignore_ascii_case(&self.id))
    }

    /// Whether it is the fate of a raw record that was found.
    fn has_raw(&self, view: &View) -> bool {
        view.raw.is_some() && self.found.contains_key(&(view.raw, 0))
    }

    /// The earliest receipt of what has no fate yet.
    pub fn unjudged(&self) -> Option<i64> {
        let views = self.found.values();
        let unjudged = views.filter(|view| view.fate.is_none());
        unjudged.filter_map(|view| view.received).min()
    }

    /// A fate takes the place of its raw record. One that is read twice is one.
    fn keep(&mut self, view: View) {
        if self.found.values().any(|other| *other == view) {
            return;
        }
        if view.raw.is_none() {
            self.alone += 1;
        }
        let key = (view.raw, view.raw.map_or(self.alone, |_| 0));
        match self.found.get(&key) {
            Some(other) if other.fate.is_some() && view.fate.is_some() => {
                // Two fates of one record must not be: both are shown.
                self.alone += 1;
                self.found.insert((view.raw, self.alone), view);
            }
            Some(other) if other.fate.is_some() => {}
            _ => {
                self.found.insert(key, view);
            }
        }
    }

    /// All that was found, in the order of raw.
    pub fn answers(&self) -> Vec<Answer> {
        self.found.values().map(|view| self.answer(view)).collect()
    }

    fn answer(&self, view: &View) -> Answer {
        let is_event = view.fate == Some("event");
        let event = view.event.as_ref().filter(|_| is_event);
        let duplicates = event.and_then(|event| self.duplicates.get(event));
        let has_fate = view.fate.is_some();
        let view = view.clone();
        Answer {
            request_id: view.request_id,
            raw: view.raw,
            source: view.source,
            provider: view.provider,
            received_at: view.received_at,
            fate: view.fate,
            reason: view.reason,
            detail: view.detail,
            topic: has_fate.then_some(view.topic),
            partition: has_fate.then_some(view.partition),
            offset: has_fate.then_some(view.offset),
            event: view.event,
            r#type: view.r#type,
            delivery_id: view.delivery_id,
            duplicates: duplicates.cloned().unwrap_or_default(),
            redrive_count: view.redrive_count,
            trace_id: view.trace_id,
        }
    }
}

impl Answer {
    /// For people: a line for each thing that is known.
    pub fn lines(&self) -> Vec<String> {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "not known".to_owned());
        let fate = match (self.fate, &self.reason) {
            (None, _) => "none yet: the processor has not judged it, its fate is older than --since, or it is \
                          deleted (sluice_raw_lag_records says how far behind the processor is)"
                .to_owned(),
            (Some(fate), Some(reason)) if fate != reason => format!("{fate}: {reason}"),
            (Some(fate), _) => fate.to_owned(),
        };
        let mut lines = vec![format!("request     {}", known(&self.request_id))];
        let mut add = |name: &str, text: Option<String>| {
            lines.extend(text.map(|text| format!("  {name:<10}{text}")));
        };
        add("received", self.received_at.clone());
        let provider = self.provider.as_ref();
        let source = self.source.as_ref();
        add(
            "source",
            source.map(|source| match provider {
                Some(provider) => format!("{source} ({provider})"),
                None => source.clone(),
            }),
        );
        add("raw", self.raw.map(|place| place.to_string()));
        add("fate", Some(fate));
        add("why", self.detail.clone());
        let place = self.topic.as_ref().zip(self.partition.zip(self.offset));
        add(
            "topic",
            place.map(|(topic, (partition, offset))| format!("{topic}/{partition}/{offset}")),
        );
        let is_duplicate = self.fate == Some("duplicate");
        let name = if is_duplicate { "repeats" } else { "event" };
        add(name, self.event.clone());
        add("type", self.r#type.clone());
        add("delivery", self.delivery_id.clone());
        let redriven = (self.redrive_count > 0).then(|| counted(self.redrive_count, "time"));
        add("redriven", redriven);
        for duplicate in &self.duplicates {
            let raw = duplicate.raw.map(|raw| format!(", raw {raw}"));
            let text = format!(
                "request {}{}",
                known(&duplicate.request_id),
                raw.unwrap_or_default()
            );
            add("duplicate", Some(text));
        }
        add("trace", self.trace_id.clone());
        lines.iter().map(|line| plain(line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use sluice_schemas::audit::testing::{NAMES, id, sound};
    use sluice_schemas::raw::{REQUEST, RawRequest};
    use sluice_schemas::record::Record;

    use super::*;
    use crate::records::view::read;

    fn found(records: &[Record], id: &str) -> Vec<Answer> {
        let mut trail = Trail::new(id);
        // As the command reads them: raw, events, rejected, dead letters, duplicates.
        for n in [0, 1, 2, 3, 4, 6, 7, 5] {
            if let Some(record) = records.get(n) {
                trail.take(read(&NAMES, record));
            }
        }
        trail.answers()
    }

    fn only(id: &str) -> Answer {
        let (records, _) = sound();
        let mut answers = found(&records, id);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    #[test]
    fn an_event_is_found_by_its_id_with_what_repeats_it() {
        let answer = only("e0");
        assert_eq!(
            (answer.fate, answer.raw.map(|raw| raw.offset)),
            (Some("event"), Some(0))
        );
        assert_eq!(answer.duplicates.len(), 1);
        assert_eq!(answer.duplicates[0].request_id, Some(id(1).to_string()));
        let text = answer.lines().join("\n");
        assert!(text.contains("topic     events.flock.a/0/0"), "{text}");
        assert!(
            text.contains(&format!("duplicate request {}, raw 0/1", id(1))),
            "{text}"
        );
        let members = serde_json::json!(answer);
        for member in [
            "request_id",
            "raw",
            "fate",
            "reason",
            "topic",
            "event",
            "duplicates",
            "trace_id",
        ] {
            assert!(members.get(member).is_some(), "{member}");
        }
    }

    #[test]
    fn a_request_is_found_with_its_fate_whichever_that_is() {
        for (n, fate, reason) in [
            (1, "duplicate", "duplicate"),
            (2, "rejected", "signature_mismatch"),
            (3, "dead_letter", "malformed_json"),
        ] {
            let answer = only(&id(n).to_string());
            assert_eq!(
                (answer.fate, answer.reason.as_deref()),
                (Some(fate), Some(reason))
            );
            assert_eq!(answer.raw.map(|raw| raw.offset), Some(n));
        }
        assert_eq!(only(&id(1).to_string()).event.as_deref(), Some("e0"));
        // The event of these tests does not name its request, so that raw leads to it.
        assert_eq!(only(&id(0).to_string()).fate, Some("event"));
    }

    #[test]
    fn a_delivery_is_found_as_its_event_with_what_repeats_it() {
        let (mut records, _) = sound();
        // The same delivery twice, on raw and in its fates.
        for n in [0, 1, 5] {
            let header = records[n].headers.iter_mut().find(|one| one.0 == REQUEST);
            let value = &mut header.expect("a request").1;
            let mut request = RawRequest::decode(value).expect("a request");
            let id = ("webhook-id".to_owned(), b"msg_1".to_vec());
            request.headers.0.push(id);
            *value = request.encode();
        }
        let answers = found(&records, "msg_1");
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(
            (answers[0].fate, answers[0].duplicates.len()),
            (Some("event"), 1)
        );
    }

    #[test]
    fn a_request_without_a_fate_is_found_and_says_so() {
        let (mut records, _) = sound();
        records.truncate(4);
        let answers = found(&records, &id(2).to_string());
        assert_eq!((answers.len(), answers[0].fate), (1, None));
        assert_eq!(answers[0].topic, None);
        let text = answers[0].lines().join("\n");
        assert!(
            text.contains("none yet: the processor has not judged it"),
            "{text}"
        );
        // Read twice, it is one; and its fate may come with the second reading.
        let mut trail = Trail::new(&id(2).to_string());
        let mut take = |records: &[Record]| {
            for record in records.iter().chain(records) {
                trail.take(read(&NAMES, record));
            }
            (trail.answers().len(), trail.unjudged())
        };
        assert_eq!(take(&records), (1, Some(0)));
        assert_eq!(take(&sound().0), (1, None));
        assert!(found(&records, "nobody").is_empty());
    }
}
