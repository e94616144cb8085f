//! Which fate each request of our own loads must have, and whether it has that one.
//!
//! Of copies of one request the first on its partition is the event and the others repeat it, so what is
//! known beforehand is a class. Bodies of our loads are one delivery's alone, so a duplicate must have the
//! bytes of its event; at a real provider they may differ.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_schemas::audit::{Digest, Invariant, Place, Seen, Verdict};
use sluice_schemas::fate::Fate;
use sluice_schemas::reason::Reason;

use crate::load::ledger::Told;

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// An event, or a duplicate of one with the same bytes.
    Authentic,
    /// Rejected: it is signed with what is not the secret.
    Forged,
    /// A dead letter, or rejected where a provider's signature is of what is read of the body.
    Unreadable,
}

/// How old a signature may be at every provider, less some seconds for clocks: a copy that was sent again later
/// than that may be rejected for its age.
const YOUNG: Duration = Duration::from_secs(240);

/// What is known of the bodies that were sent.
#[derive(Debug, Default)]
pub struct Sent(HashMap<Digest, (Expected, u64)>);

impl Sent {
    /// As a ledger has it.
    pub fn of(told: &Told) -> Self {
        let mut sent = Self::default();
        for attempt in &told.attempts {
            sent.add(attempt.digest, attempt.expected, attempt.at);
        }
        sent
    }

    /// A body was sent at a time, microseconds since 1970.
    pub fn add(&mut self, digest: Digest, expected: Expected, at: u64) {
        let first = self.0.entry(digest).or_insert((expected, at));
        first.1 = first.1.min(at);
    }
}

/// Each raw record whose body was sent has the fate that it must have, and each duplicate the bytes of its
/// event.
pub fn check_expected(seen: &Seen<'_>, sent: &Sent, verdict: &mut Verdict) {
    for (place, raw) in &seen.raw {
        let (Some(&(expected, first)), Some((fate, reason))) =
            (sent.0.get(&raw.digest), seen.fates.get(place))
        else {
            // Both are faults that others report.
            continue;
        };
        let received = raw
            .request
            .as_ref()
            .map_or(0, |request| request.received_at);
        let age = u64::try_from(received).unwrap_or(0).saturating_sub(first);
        let is_old = Duration::from_micros(age) > YOUNG && reason == Reason::TimestampStale.name();
        let as_expected = match expected {
            Expected::Authentic => matches!(fate, Fate::Event | Fate::Duplicate) || is_old,
            Expected::Forged => {
                *fate == Fate::Rejected && reason == Reason::SignatureMismatch.name()
            }
            Expected::Unreadable => matches!(fate, Fate::Rejected | Fate::DeadLetter),
        };
        if !as_expected {
            let (partition, offset) = place;
            let sentence =
                format!("raw {partition}/{offset} is {expected:?} and ended as {fate} {reason}");
            verdict.fault(Invariant::I3, sentence);
        }
    }
    let mut events: HashMap<&str, Place> = HashMap::new();
    for event in &seen.events {
        // Of two with one id, which is a fault of its own, the first.
        events.entry(&event.id).or_insert(event.place);
    }
    for (place, id) in &seen.repeats {
        let digest = |place: &Place| seen.raw.get(place).map(|raw| raw.digest);
        let event = events.get(id.as_str()).and_then(digest);
        let ours = digest(place).filter(|digest| sent.0.contains_key(digest));
        if let (Some(event), Some(ours)) = (event, ours)
            && event != ours
        {
            let (partition, offset) = place;
            let sentence = format!("raw {partition}/{offset} repeats {id}, which has other bytes");
            verdict.fault(Invariant::I3, sentence);
        }
    }
}
