//! The audit of the topics from outside: what went in is what came out, each once.
//!
//! Comes in: all records of raw and of the fates, as a `read_committed` reader has them, and what senders
//! know to be acknowledged. Goes out: a [`Verdict`] on the invariants [`Invariant::I1`] to
//! [`Invariant::I4`], and what was seen, for those who judge more of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use crate::event::WebhookEvent;
use crate::fate::{DUPLICATE_OF, Fate, RAW_OFFSET, RAW_PARTITION, RAW_TOPIC, REASON};
use crate::raw::{REQUEST, RawRequest};
use crate::record::Record;
use crate::topic::TopicNames;

mod verdict;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;

pub use verdict::{Invariant, Place, Verdict};

/// A request that ingest answered with 200.
#[derive(Debug, Clone)]
pub struct Acked {
    /// The id in the answer.
    pub id: String,
    /// SHA-256 of the body that was sent.
    pub digest: Digest,
}

/// SHA-256 of a body.
pub type Digest = [u8; 32];

/// SHA-256 of a body.
pub fn digest(body: &[u8]) -> Digest {
    Sha256::digest(body).into()
}

/// What one record of a fate topic says.
struct Ended {
    fate: Fate,
    place: Place,
    event: Option<WebhookEvent>,
    /// Empty for an event.
    reason: String,
}

/// What the audit learned of the records, for those who look further.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    /// Raw records by their place, in order.
    pub raw: BTreeMap<Place, RawSeen<'a>>,
    /// Events in the order in which they were read: by topic and partition, by offset.
    pub events: Vec<EventSeen<'a>>,
    /// The fate of each raw record, and the reason of one that is no event.
    pub fates: HashMap<Place, (Fate, String)>,
    /// Duplicates, and the id of the event that each repeats.
    pub repeats: Vec<(Place, String)>,
}

/// A raw record.
#[derive(Debug)]
pub struct RawSeen<'a> {
    /// The record.
    pub record: &'a Record,
    /// SHA-256 of its body.
    pub digest: Digest,
    /// What ingest says of it; `None` where that cannot be read, which is a fault of its own.
    pub request: Option<RawRequest>,
}

/// An event.
#[derive(Debug)]
pub struct EventSeen<'a> {
    /// The record.
    pub record: &'a Record,
    /// The raw record that it comes from, as it says.
    pub place: Place,
    /// Its id.
    pub id: String,
}

/// Audits all records that were read `read_committed`, raw and fates, against what was acknowledged.
pub fn audit(names: &TopicNames, records: &[Record], acked: &[Acked]) -> Verdict {
    audit_seen(names, records, acked).0
}

/// The same, with what was learned.
pub fn audit_seen<'a>(
    names: &TopicNames,
    records: &'a [Record],
    acked: &[Acked],
) -> (Verdict, Seen<'a>) {
    let acked = acked
        .iter()
        .map(|request| (request.id.as_str(), request.digest));
    let (mut verdict, seen) = look(names, records, acked);
    let mut ids = HashSet::new();
    let requests = seen.raw.values().filter_map(|raw| raw.request.as_ref());
    for request in requests {
        // Where no broker fails, nothing explains it.
        if !ids.insert(request.id) {
            let sentence = format!("request {} is on raw twice", request.id);
            verdict.fault(Invariant::I4, sentence);
        }
    }
    (verdict, seen)
}

/// The same, against the ids and bodies' digests of what was acknowledged; with what was learned.
pub fn look<'a, 'i>(
    names: &TopicNames,
    records: &'a [Record],
    acked: impl Iterator<Item = (&'i str, Digest)>,
) -> (Verdict, Seen<'a>) {
    let mut verdict = Verdict::default();
    let mut seen = Seen {
        raw: raw_records(names, records, &mut verdict),
        ..Seen::default()
    };
    verdict.raw = seen.raw.len();
    check_acked(&seen.raw, acked, &mut verdict);

    let mut ids: HashSet<String> = HashSet::new();
    for record in records {
        let Some(ended) = ended(names, record, &mut seen.repeats, &mut verdict) else {
            continue;
        };
        let (partition, offset) = ended.place;
        match seen.raw.get(&ended.place) {
            None => verdict.fault(
                Invariant::I4,
                format!(
                    "{} {}/{} comes from raw {partition}/{offset}, which is not there",
                    record.topic, record.partition, record.offset
                ),
            ),
            Some(source) => check_copy(source.record, record, &ended, &mut verdict),
        }
        let fate = (ended.fate, ended.reason);
        if let Some((other, _)) = seen.fates.insert(ended.place, fate) {
            verdict.doubled += 1;
            verdict.fault(
                Invariant::I2,
                format!(
                    "raw {partition}/{offset} ended twice: {other} and {}",
                    ended.fate
                ),
            );
        }
        if let Some(event) = ended.event {
            let (place, id) = (ended.place, event.id.clone());
            seen.events.push(EventSeen { record, place, id });
            if let Some(id) = ids.replace(event.id) {
                verdict.doubled += 1;
                let at = format!("{} {}/{}", record.topic, record.partition, record.offset);
                let sentence = format!("{at} has the id of another event: {id}");
                verdict.fault(Invariant::I3, sentence);
            }
        }
    }
    let fates = &seen.fates;
    for place in seen.raw.keys().filter(|place| !fates.contains_key(place)) {
        let (partition, offset) = place;
        verdict.lost += 1;
        verdict.fateless.push(*place);
        verdict.fault(
            Invariant::I2,
            format!("raw {partition}/{offset} has no fate"),
        );
    }
    check_repeats(&seen.repeats, &ids, &mut verdict);
    (verdict, seen)
}

/// Each duplicate names an event that exists.
fn check_repeats(repeats: &[(Place, String)], ids: &HashSet<String>, verdict: &mut Verdict) {
    for ((partition, offset), id) in repeats {
        if !ids.contains(id) {
            let sentence =
                format!("raw {partition}/{offset} repeats event {id}, which is not there");
            verdict.fault(Invariant::I3, sentence);
        }
    }
}

fn raw_records<'a>(
    names: &TopicNames,
    records: &'a [Record],
    verdict: &mut Verdict,
) -> BTreeMap<Place, RawSeen<'a>> {
    let (mut raw, topic) = (BTreeMap::new(), names.raw());
    for record in records.iter().filter(|record| record.topic == topic) {
        let place = (i64::from(record.partition), record.offset);
        let request = record.header(REQUEST).map(RawRequest::decode);
        let request = request.and_then(Result::ok);
        if request.is_none() {
            let (partition, offset) = place;
            let sentence = format!("raw {partition}/{offset} has no request");
            verdict.fault(Invariant::I4, sentence);
        }
        let digest = digest(&record.value);
        raw.insert(
            place,
            RawSeen {
                record,
                digest,
                request,
            },
        );
    }
    raw
}

/// What a record of a fate topic says of itself; `None` for raw, dedup-log and what is unreadable.
fn ended(
    names: &TopicNames,
    record: &Record,
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
                verdict.fault(Invariant::I4, format!("{at} is no event: {error}"));
                return None;
            }
        };
        *verdict.events.entry(topic.to_owned()).or_default() += 1;
        let place = (i64::from(event.raw_partition), event.raw_offset);
        let event = Some(event);
        return Some(Ended {
            fate,
            place,
            event,
            reason: String::new(),
        });
    }
    let (Some(partition), Some(offset)) = (record.number(RAW_PARTITION), record.number(RAW_OFFSET))
    else {
        let sentence = format!("{at} does not say which raw record it comes from");
        verdict.fault(Invariant::I4, sentence);
        return None;
    };
    if record.text(RAW_TOPIC) != Some(names.raw().as_str()) {
        verdict.fault(Invariant::I4, format!("{at} does not name the raw topic"));
    }
    let place = (partition, offset);
    let reason = record.text(REASON).unwrap_or("none").to_owned();
    match fate {
        Fate::Duplicate => {
            verdict.duplicates += 1;
            if let Some(id) = record.text(DUPLICATE_OF) {
                repeats.push((place, id.to_owned()));
            } else {
                let sentence = format!("{at} does not say what it repeats");
                verdict.fault(Invariant::I3, sentence);
            }
        }
        Fate::Rejected => *verdict.rejected.entry(reason.clone()).or_default() += 1,
        Fate::DeadLetter => *verdict.dead_letters.entry(reason.clone()).or_default() += 1,
        Fate::Event => {}
    }
    Some(Ended {
        fate,
        place,
        event: None,
        reason,
    })
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

fn check_acked<'i>(
    raw: &BTreeMap<Place, RawSeen<'_>>,
    acked: impl Iterator<Item = (&'i str, Digest)>,
    verdict: &mut Verdict,
) {
    let mut by_id: HashMap<String, Digest> = HashMap::with_capacity(raw.len());
    for seen in raw.values() {
        let Some(request) = &seen.request else {
            continue;
        };
        if let Some(other) = by_id.insert(request.id.to_string(), seen.digest) {
            verdict.rewritten += 1;
            if other != seen.digest {
                let sentence = format!("request {} is on raw with two bodies", request.id);
                verdict.fault(Invariant::I4, sentence);
            }
        }
    }
    for (id, digest) in acked {
        verdict.acked += 1;
        match by_id.get(id) {
            None => {
                verdict.lost += 1;
                let sentence = format!("request {id} was answered, and is lost");
                verdict.fault(Invariant::I1, sentence);
            }
            Some(found) if *found != digest => {
                let sentence = format!("request {id} has another body on raw");
                verdict.fault(Invariant::I4, sentence);
            }
            Some(_) => {}
        }
    }
}

/// The bytes of the raw record must stand unchanged in whatever it became.
fn check_copy(raw: &Record, record: &Record, ended: &Ended, verdict: &mut Verdict) {
    let mut unequal = |what: &str| {
        let at = format!("{} {}/{}", record.topic, record.partition, record.offset);
        verdict.fault(Invariant::I4, format!("{at} {what} its raw record"));
    };
    if record.key != raw.key {
        unequal("has another key than");
    }
    if let Some(event) = &ended.event {
        if event.data.as_bytes() != raw.value {
            unequal("has other data than");
        }
        return;
    }
    if record.value != raw.value {
        unequal("has another value than");
    }
    let lacks = |header| !record.headers.contains(header);
    if raw.headers.iter().any(lacks) {
        unequal("lacks a header of");
    }
}
