//! The checker: decides from contracts alone whether the promises held.
//!
//! Comes in: all topics as a `read_committed` reader sees them, and the sender's ledger. Goes out: a
//! verdict on the invariants [`Invariant::I1`] to [`Invariant::I7`]. It knows nothing of the faults
//! that were injected, and nothing of how the services work. Pure, except that somebody else read.
//!
//! About a kilobyte is held for a record in addition to its bytes: 100,000 requests take some 500 MB.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use sluice_schemas::audit::{Digest, Invariant, Place, RawSeen, Seen, Verdict, look};
use sluice_schemas::fate::Fate;
use sluice_schemas::metric::ingest::INGEST_REQUESTS;
use sluice_schemas::metric::processor::FATES;
use sluice_schemas::providers::ALL;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::raw::{Ack, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::topic::TopicNames;

use crate::expected::{Sent, check_expected};
use crate::harness::metrics::Samples;
use crate::load::ledger::{Answer, Attempt, Told};

/// Checks I1 to I5.
pub fn check(names: &TopicNames, records: &[Record], told: &Told) -> Verdict {
    let (mut verdict, seen) = look(names, records, told.acked());
    check_sent(&seen, told, &mut verdict);
    let mut sent = Sent::default();
    for attempt in &told.attempts {
        sent.add(attempt.digest, attempt.expected, attempt.at);
    }
    check_expected(&seen, &sent, &mut verdict);
    check_sequences(&seen, &mut verdict);
    check_order(&seen, told, &mut verdict);
    verdict
}

/// I4: every body on raw was sent, and stands there under no more request ids than it was tried.
///
/// A request id may stand on raw more than once: the producer of ingest writes again what it did not
/// hear of in time. DESIGN reckons with that (a request id makes one event at most), and I3 shows it.
fn check_sent(seen: &Seen<'_>, told: &Told, verdict: &mut Verdict) {
    let mut tried: HashMap<Digest, usize> = HashMap::with_capacity(told.attempts.len());
    for attempt in &told.attempts {
        *tried.entry(attempt.digest).or_default() += 1;
    }
    let mut ids = HashSet::with_capacity(seen.raw.len());
    for ((partition, offset), raw) in &seen.raw {
        let again = raw
            .request
            .as_ref()
            .is_some_and(|request| !ids.insert(request.id));
        match tried.get_mut(&raw.digest) {
            Some(_) if again => {}
            None => verdict.fault(
                Invariant::I4,
                format!("raw {partition}/{offset} has a body that was never sent"),
            ),
            Some(0) => verdict.fault(
                Invariant::I4,
                format!(
                    "raw {partition}/{offset} has a body that is there more often than it was sent"
                ),
            ),
            Some(left) => *left -= 1,
        }
    }
}

/// I3 for providers by sequence, whose ids differ from request to request: the same delivery twice,
/// one after the other in its entity, must not be two events. (The ids of the others show it.)
fn check_sequences(seen: &Seen<'_>, verdict: &mut Verdict) {
    let mut places: Vec<Place> = seen.events.iter().map(|event| event.place).collect();
    places.sort_unstable();
    let mut last: HashMap<(&str, &[u8]), (Place, Digest)> = HashMap::new();
    let by_sequence: HashSet<&str> = (ALL.into_iter())
        .filter(|provider| verifier(*provider).by_sequence())
        .map(|provider| provider.spec().name)
        .collect();
    for place in places {
        let Some(raw) = seen.raw.get(&place) else {
            continue;
        };
        let of_sequence = |request: &&RawRequest| by_sequence.contains(request.provider.as_str());
        let Some(request) = raw.request.as_ref().filter(of_sequence) else {
            continue;
        };
        // The raw key is the entity's, so it stands for it.
        let entity = (request.source.as_str(), raw.record.key.as_slice());
        if let Some((before, digest)) = last.insert(entity, (place, raw.digest))
            && digest == raw.digest
            && before != place
        {
            verdict.doubled += 1;
            let sentence = format!(
                "raw {}/{} became an event, and repeats its entity's last, raw {}/{}",
                place.0, place.1, before.0, before.1
            );
            verdict.fault(Invariant::I3, sentence);
        }
    }
}

/// I5: the order of an entity's requests, on raw and from there on.
///
/// An entity's requests share their raw key. What may be relied on:
///
/// - Attempts that were **acknowledged one after the other** (the line of A's acknowledgement stands
///   before the line of B's intent) stand in this order on raw: between attempts that one process of
///   ingest acknowledged, and, as long as both say `ack: broker`, between any two.
/// - Nothing else is promised on raw. An attempt without a 200 may still arrive, at any time after it was
///   sent: before its own retry, between, or behind requests that were sent long after it. So attempts
///   without a 200 stand in no pair; their copies are judged by the other invariants alone. Two
///   requests on the way at once have no order either.
/// - Of a request that ingest wrote more than once, the first copy counts: it makes the event.
/// - From raw on, the order of **all** records of a key is kept: its events in one topic stand in the
///   order of their raw offsets, acknowledged or not.
fn check_order(seen: &Seen<'_>, told: &Told, verdict: &mut Verdict) {
    let mut acked: HashMap<&str, &Attempt> = HashMap::with_capacity(told.attempts.len());
    for attempt in &told.attempts {
        if let Answer::Acked { id, .. } = &attempt.answer {
            acked.insert(id, attempt);
        }
    }
    // The map of raw is ordered by partition and offset.
    let mut entities: HashMap<&[u8], Entity> = HashMap::new();
    for (&place, raw) in &seen.raw {
        let entity = entities
            .entry(raw.record.key.as_slice())
            .or_insert_with(|| Entity::new(place));
        if entity.partition != place.0 {
            let sentence = format!(
                "raw {}/{} has a key of partition {}",
                place.0, place.1, entity.partition
            );
            verdict.fault(Invariant::I5, sentence);
        }
        let Some(request) = &raw.request else {
            continue;
        };
        // Taken out, so that only its first copy is looked at.
        if let Some(attempt) = acked.remove(request.id.to_string().as_str()) {
            entity.follows(place, raw, attempt, verdict);
        }
    }
    check_events_order(seen, verdict);
}

/// What is known of an entity's acknowledged records so far, going through raw.
struct Entity {
    partition: i64,
    /// The latest intent of those that the brokers acknowledged, and its place.
    brokers: Option<(usize, Place)>,
    /// The latest intent of each process, and its place.
    processes: BTreeMap<u32, (usize, Place)>,
}

impl Entity {
    fn new(place: Place) -> Self {
        Self {
            partition: place.0,
            brokers: None,
            processes: BTreeMap::new(),
        }
    }

    /// A record must not stand behind one that was sent only after it had been acknowledged.
    fn follows(
        &mut self,
        place: Place,
        raw: &RawSeen<'_>,
        attempt: &Attempt,
        verdict: &mut Verdict,
    ) {
        let Answer::Acked { line, .. } = attempt.answer else {
            return;
        };
        let by_broker = raw
            .request
            .as_ref()
            .is_some_and(|request| request.ack == Ack::Broker);
        let before = [
            self.processes.get(&attempt.process).copied(),
            self.brokers.filter(|_| by_broker),
        ];
        let late = before.into_iter().flatten().find(|(sent, _)| *sent > line);
        if let Some((_, other)) = late {
            let sentence = format!(
                "raw {}/{} was acknowledged before raw {}/{} was sent, and stands behind it",
                place.0, place.1, other.0, other.1
            );
            verdict.fault(Invariant::I5, sentence);
        }
        let latest = |slot: Option<(usize, Place)>| {
            let this = (attempt.intent, place);
            Some(slot.map_or(this, |other| other.max(this)))
        };
        let own = latest(self.processes.get(&attempt.process).copied());
        self.processes.extend(own.map(|own| (attempt.process, own)));
        if by_broker {
            self.brokers = latest(self.brokers);
        }
    }
}

fn check_events_order(seen: &Seen<'_>, verdict: &mut Verdict) {
    // By topic and key: where its last event stands, and where that came from.
    let mut last: HashMap<(&str, &[u8]), (i32, i64, Place)> = HashMap::new();
    for event in &seen.events {
        let record = event.record;
        let key = (record.topic.as_str(), record.key.as_slice());
        let this = (record.partition, record.offset, event.place);
        let Some((partition, offset, place)) = last.insert(key, this) else {
            continue;
        };
        let at = format!("{} {}/{}", record.topic, record.partition, record.offset);
        if partition != record.partition {
            let sentence = format!("{at} has a key of partition {partition}");
            verdict.fault(Invariant::I5, sentence);
        } else if place > event.place && offset < record.offset {
            let (from, other) = (event.place, place);
            let sentence = format!(
                "{at} comes from raw {}/{}, and stands behind what comes from raw {}/{}",
                from.0, from.1, other.0, other.1
            );
            verdict.fault(Invariant::I5, sentence);
        }
    }
}

/// I6: the services' counts, all of them since their start, against the topics and the ledger. For runs
/// in which no service ended, for what a process counted ends with it.
pub fn compare_counts(services: &[Samples], told: &Told, verdict: &mut Verdict) {
    for fate in Fate::ALL {
        let found = match fate {
            Fate::Event => total(verdict.events.values()),
            Fate::Duplicate => verdict.duplicates,
            Fate::Rejected => total(verdict.rejected.values()),
            Fate::DeadLetter => total(verdict.dead_letters.values()),
        };
        compare(
            services,
            FATES.name,
            &[("fate", fate.name())],
            found,
            verdict,
        );
    }
    let reasons = [verdict.rejected.clone(), verdict.dead_letters.clone()];
    for (reason, found) in reasons.iter().flatten() {
        compare(services, FATES.name, &[("reason", reason)], *found, verdict);
    }
    let acked = told.acked().count();
    compare(
        services,
        INGEST_REQUESTS.name,
        &[("status", "200")],
        acked,
        verdict,
    );
    let refused = told.refused(503);
    compare(
        services,
        INGEST_REQUESTS.name,
        &[("status", "503")],
        refused,
        verdict,
    );
    // What was answered with 503 may stand on raw all the same.
    let requests = verdict.raw - verdict.rewritten;
    if !(acked..=acked + refused + told.unanswered()).contains(&requests) {
        let sentence = format!(
            "{acked} requests were answered with 200 and {refused} with 503, and raw has {}",
            verdict.raw
        );
        verdict.fault(Invariant::I6, sentence);
    }
}

fn total<'c>(counts: impl Iterator<Item = &'c usize>) -> usize {
    counts.sum()
}

fn compare(
    services: &[Samples],
    metric: &str,
    labels: &[(&str, &str)],
    found: usize,
    verdict: &mut Verdict,
) {
    let name = format!("{metric}_total");
    let counted: f64 = services
        .iter()
        .map(|samples| samples.sum(&name, labels))
        .sum();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts are far below 2 to the 52nd"
    )]
    let found = found as f64;
    if (counted - found).abs() > 0.5 {
        let sentence = format!("{name}{labels:?} says {counted}, and there are {found}");
        verdict.fault(Invariant::I6, sentence);
    }
}

/// I7: the time that all took to settle after the last heal. `what` is what was healed.
pub fn check_settled(what: &str, took: Duration, bound: Duration, verdict: &mut Verdict) {
    if took > bound {
        let sentence = format!("it took {took:.1?} to settle after {what}; {bound:?} is the bound");
        verdict.fault(Invariant::I7, sentence);
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
