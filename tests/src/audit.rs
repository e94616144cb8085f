//! The audit: what went in is what came out, each once. Pure: it looks at records that were read.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use sluice_schemas::fate::{DUPLICATE_OF, Fate, RAW_OFFSET, RAW_PARTITION, RAW_TOPIC, REASON};
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::topic::TopicNames;

use crate::topics::Record;

/// A request that ingest answered with 200.
#[derive(Debug, Clone)]
pub struct Acked {
    /// The id in the answer.
    pub id: String,
    /// The body that was sent.
    pub body: bytes::Bytes,
}

/// What the audit found. It holds when `faults` is empty.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// Requests answered with 200.
    pub acked: usize,
    /// Records of the raw topic.
    pub raw: usize,
    /// Records by the topic of their event.
    pub events: BTreeMap<String, usize>,
    /// Records of the duplicates' topic.
    pub duplicates: usize,
    /// Records of the rejected topic, by reason.
    pub rejected: BTreeMap<String, usize>,
    /// Records of the dead letters' topic, by reason.
    pub dead_letters: BTreeMap<String, usize>,
    /// How many faults were found.
    pub fault_count: usize,
    /// The first of them, each a sentence.
    pub faults: Vec<String>,
}

/// More faults than a person reads; the count tells the rest.
const TOLD: usize = 20;

impl Verdict {
    /// Whether all holds.
    pub fn holds(&self) -> bool {
        self.fault_count == 0
    }

    /// Records with a fate.
    pub fn fates(&self) -> usize {
        self.events.values().sum::<usize>()
            + self.duplicates
            + self.rejected.values().sum::<usize>()
            + self.dead_letters.values().sum::<usize>()
    }

    fn fault(&mut self, sentence: String) {
        self.fault_count += 1;
        if self.faults.len() < TOLD {
            self.faults.push(sentence);
        }
    }
}

/// A raw record's place.
type Place = (i64, i64);

/// What one record of a fate topic says.
struct Ended {
    fate: Fate,
    place: Place,
}

/// Audits all records that were read `read_committed`, raw and fates, against what was acknowledged.
pub fn audit(names: &TopicNames, records: &[Record], acked: &[Acked]) -> Verdict {
    let mut verdict = Verdict {
        acked: acked.len(),
        ..Verdict::default()
    };
    let raw: HashMap<Place, &Record> = records
        .iter()
        .filter(|record| record.topic == names.raw())
        .map(|record| ((i64::from(record.partition), record.offset), record))
        .collect();
    verdict.raw = raw.len();
    check_acked(&raw, acked, &mut verdict);

    let mut fates: HashMap<Place, Fate> = HashMap::with_capacity(raw.len());
    let mut ids: HashSet<String> = HashSet::new();
    let mut repeats: Vec<(Place, String)> = Vec::new();
    for record in records {
        let Some(ended) = ended(names, record, &mut ids, &mut repeats, &mut verdict) else {
            continue;
        };
        let (partition, offset) = ended.place;
        match raw.get(&ended.place) {
            None => verdict.fault(format!(
                "{} {}/{} comes from raw {partition}/{offset}, which is not there",
                record.topic, record.partition, record.offset
            )),
            Some(source) => check_copy(source, record, ended.fate, &mut verdict),
        }
        if let Some(other) = fates.insert(ended.place, ended.fate) {
            verdict.fault(format!(
                "raw {partition}/{offset} ended twice: {other} and {}",
                ended.fate
            ));
        }
    }
    for (partition, offset) in raw.keys().filter(|place| !fates.contains_key(place)) {
        verdict.fault(format!("raw {partition}/{offset} has no fate"));
    }
    for ((partition, offset), id) in repeats {
        if !ids.contains(&id) {
            verdict.fault(format!(
                "raw {partition}/{offset} repeats event {id}, which is not there"
            ));
        }
    }
    verdict
}

/// What a record of a fate topic says of itself; `None` for raw, dedup-log and what is unreadable.
fn ended(
    names: &TopicNames,
    record: &Record,
    ids: &mut HashSet<String>,
    repeats: &mut Vec<(Place, String)>,
    verdict: &mut Verdict,
) -> Option<Ended> {
    let topic = record.topic.as_str();
    if topic == names.raw() || topic == names.dedup_log() {
        return None;
    }
    let at = format!("{topic} {}/{}", record.partition, record.offset);
    let fate = fate_of(names, topic);
    if fate == Fate::Event {
        let event = match record.event() {
            Ok(event) => event,
            Err(error) => {
                verdict.fault(format!("{at} is no event: {error}"));
                return None;
            }
        };
        *verdict.events.entry(topic.to_owned()).or_default() += 1;
        let place = (i64::from(event.raw_partition), event.raw_offset);
        if !ids.insert(event.id.clone()) {
            verdict.fault(format!("{at} has the id of another event: {}", event.id));
        }
        return Some(Ended { fate, place });
    }
    let (Some(partition), Some(offset)) = (record.number(RAW_PARTITION), record.number(RAW_OFFSET))
    else {
        verdict.fault(format!("{at} does not say which raw record it comes from"));
        return None;
    };
    if record.text(RAW_TOPIC) != Some(names.raw().as_str()) {
        verdict.fault(format!("{at} does not name the raw topic"));
    }
    let place = (partition, offset);
    let reason = record.text(REASON).unwrap_or("none").to_owned();
    match fate {
        Fate::Duplicate => {
            verdict.duplicates += 1;
            match record.text(DUPLICATE_OF) {
                Some(id) => repeats.push((place, id.to_owned())),
                None => verdict.fault(format!("{at} does not say what it repeats")),
            }
        }
        Fate::Rejected => *verdict.rejected.entry(reason).or_default() += 1,
        Fate::DeadLetter => *verdict.dead_letters.entry(reason).or_default() += 1,
        Fate::Event => {}
    }
    Some(Ended { fate, place })
}

/// The fate that a topic stands for.
pub fn fate_of(names: &TopicNames, topic: &str) -> Fate {
    if topic == names.duplicates() {
        Fate::Duplicate
    } else if topic == names.rejected() {
        Fate::Rejected
    } else if topic == names.dead_letter() {
        Fate::DeadLetter
    } else {
        Fate::Event
    }
}

fn check_acked(raw: &HashMap<Place, &Record>, acked: &[Acked], verdict: &mut Verdict) {
    let mut by_id: HashMap<String, &Record> = HashMap::with_capacity(raw.len());
    for ((partition, offset), record) in raw {
        let request = record.header(REQUEST).map(RawRequest::decode);
        let Some(Ok(request)) = request else {
            verdict.fault(format!("raw {partition}/{offset} has no request"));
            continue;
        };
        if by_id.insert(request.id.to_string(), record).is_some() {
            verdict.fault(format!("request {} is on raw twice", request.id));
        }
    }
    for request in acked {
        match by_id.get(&request.id) {
            None => verdict.fault(format!("request {} was answered, and is lost", request.id)),
            Some(record) if record.value != request.body => {
                verdict.fault(format!("request {} has another body on raw", request.id));
            }
            Some(_) => {}
        }
    }
}

/// The bytes of the raw record must stand unchanged in whatever it became.
fn check_copy(raw: &Record, record: &Record, fate: Fate, verdict: &mut Verdict) {
    let at = || format!("{} {}/{}", record.topic, record.partition, record.offset);
    if record.key != raw.key {
        verdict.fault(format!("{} has another key than its raw record", at()));
    }
    if fate == Fate::Event {
        let same = record
            .event()
            .is_ok_and(|event| event.data.as_bytes() == raw.value);
        if !same {
            verdict.fault(format!("{} has other data than its raw record", at()));
        }
        return;
    }
    if record.value != raw.value {
        verdict.fault(format!("{} has another value than its raw record", at()));
    }
    if raw
        .headers
        .iter()
        .any(|header| !record.headers.contains(header))
    {
        verdict.fault(format!("{} lacks a header of its raw record", at()));
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
