//! Which fate each request of our own loads must have, and whether it has that one.
//!
//! Of copies of one request the first on its partition is the event and the others repeat it, so what is
//! known beforehand is a class. Bodies of our loads are one delivery's alone, so a duplicate must have the
//! bytes of its event; at a real provider they may differ.

use std::collections::HashMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sluice_schemas::audit::{Digest, Invariant, Place, Seen, Verdict};
use sluice_schemas::fate::Fate;
use sluice_schemas::reason::Reason;

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// An event, or a duplicate of one with the same bytes.
    Authentic,
    /// Rejected: it is signed with what is not the secret.
    Forged,
    /// A dead letter, rejected where a provider's signature is of what is read of the body, or an event of no
    /// known type where it is JSON all the same.
    Unreadable,
}

/// How old a signature may be at every provider, less some seconds for clocks: a copy that was sent again
/// later than that may be rejected for its age.
const YOUNG: Duration = Duration::from_secs(240);

/// What is known of the bodies that were sent.
#[derive(Debug, Default)]
pub struct Sent(HashMap<Digest, (Expected, u64)>);

impl Sent {
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
            Expected::Unreadable => match fate {
                Fate::Rejected | Fate::DeadLetter => true,
                // Signed JSON of another shape is an event of no known type at some providers.
                Fate::Event => serde_json::from_slice::<IgnoredAny>(&raw.record.value).is_ok(),
                Fate::Duplicate => false,
            },
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

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::audit::testing::{NAMES, body, sound};
    use sluice_schemas::audit::{digest, look};
    use sluice_schemas::record::Record;

    fn faults(records: &[Record], sent: &Sent) -> Vec<String> {
        let (_, seen) = look(&NAMES, records, std::iter::empty());
        let mut verdict = Verdict::default();
        check_expected(&seen, sent, &mut verdict);
        verdict.faults
    }

    /// The bodies of the sound records, all sent as what they are but one.
    fn sent_but(other: Option<(i64, Expected)>) -> Sent {
        let mut sent = Sent::default();
        for n in [0, 2, 3] {
            let own = match n {
                2 => Expected::Forged,
                3 => Expected::Unreadable,
                _ => Expected::Authentic,
            };
            let other = other.filter(|(of, _)| *of == n).map(|(_, other)| other);
            sent.add(digest(body(n).as_bytes()), other.unwrap_or(own), u64::MAX);
        }
        sent
    }

    #[test]
    fn a_fate_that_a_request_must_not_have_is_found() {
        let (records, _) = sound();
        assert_eq!(faults(&records, &sent_but(None)), Vec::<String>::new());
        let one = |n, expected| faults(&records, &sent_but(Some((n, expected))));
        assert_eq!(
            one(2, Expected::Authentic),
            ["raw 0/2 is Authentic and ended as rejected signature_mismatch"]
        );
        assert_eq!(
            one(3, Expected::Forged),
            ["raw 0/3 is Forged and ended as dead_letter malformed_json"]
        );
        // The duplicate of it too.
        assert_eq!(one(0, Expected::Forged).len(), 2);
    }

    #[test]
    fn a_duplicate_of_an_event_with_other_bytes_is_found() {
        let (mut records, _) = sound();
        for record in &mut records {
            let is_second = record.offset == 1 && record.topic == "webhooks.raw";
            if is_second || record.topic == "webhooks.duplicates" {
                record.value = b"body 1".to_vec();
            }
        }
        let mut sent = sent_but(None);
        sent.add(digest(b"body 1"), Expected::Authentic, u64::MAX);
        assert_eq!(
            faults(&records, &sent),
            ["raw 0/1 repeats e0, which has other bytes"]
        );
    }
}
