//! Records that were redriven. Comes in: a judged record and what the topics say of it. Goes out: whether the
//! redrive explains that both differ.
//!
//! A redrive leaves a refused record where it stands and appends a copy of it to raw. Judged from the start,
//! the record would be the event itself, and its copy the repetition.

use std::collections::{BTreeMap, HashMap};

use sluice_processor::pipeline::outgoing::Outgoing;
use sluice_processor::record::Record as Raw;
use sluice_schemas::fate::{Fate, REDRIVE_COUNT};
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::settings::Settings;
use uuid::Uuid;

use super::difference::repeats;
use super::ranges::Plan;
use super::table::{Known, Texts};
use crate::failure::Failure;
use crate::records::reader::Topics;

/// What is known of redrives.
#[derive(Debug, Default)]
pub struct Redriven {
    /// Of each request that has copies on raw, how often it was redriven. Read where it is asked for first.
    copies: Option<HashMap<Uuid, u64>>,
    /// Events of records that the topics have as refused, by their ids: the topics that they would be on.
    risen: HashMap<u128, u16>,
    topics: Texts,
}

/// Why a difference is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A redrive explains all of it.
    Redriven,
    /// An earlier record, refused then, would be the event now.
    Overtaken,
    /// Neither.
    Other,
}

impl Redriven {
    /// Takes a judged record, those that are read ahead too.
    pub fn take(&mut self, known: Option<&Known<'_>>, out: &Outgoing<'_>) {
        if known.is_some_and(|known| is_refused(known.fate))
            && let Some(entry) = &out.entry
        {
            let id = sluice_schemas::identity::event_id(&entry.identity);
            let topic = self.topics.number(out.topic);
            self.risen.insert(id.as_u128(), topic);
        }
    }

    /// Why a record differs from what is known of it. `read` reads the copies on raw.
    pub fn why(
        &mut self,
        (record, request): (&Raw, Option<&RawRequest>),
        (known, out): (Option<&Known<'_>>, &Outgoing<'_>),
        read: impl FnOnce() -> Result<HashMap<Uuid, u64>, Failure>,
    ) -> Result<Why, Failure> {
        let Some((known, request)) = known.zip(request) else {
            return Ok(Why::Other);
        };
        let count = count(record.header(REDRIVE_COUNT));
        match (known.fate, out.label.fate) {
            (Fate::Rejected | Fate::DeadLetter, Fate::Event | Fate::Duplicate) => {
                let copies = match &mut self.copies {
                    Some(copies) => copies,
                    none => none.insert(read()?),
                };
                let is_redriven = copies.get(&request.id).is_some_and(|last| *last > count);
                Ok(if is_redriven {
                    Why::Redriven
                } else {
                    Why::Other
                })
            }
            (Fate::Event, Fate::Duplicate) if repeats(out) == known.id => {
                let of = self.risen.get(&known.id);
                Ok(match of.map(|topic| self.topics.text(*topic)) {
                    None => Why::Other,
                    // The event itself would stay where it is.
                    Some(topic) if topic == known.topic && count > 0 => Why::Redriven,
                    Some(_) => Why::Overtaken,
                })
            }
            _ => Ok(Why::Other),
        }
    }
}

const fn is_refused(fate: Fate) -> bool {
    matches!(fate, Fate::Rejected | Fate::DeadLetter)
}

/// How often a record was redriven; 0 where it was not, or where the header is no number.
fn count(header: Option<&[u8]>) -> u64 {
    let text = header.and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Reads raw from the first record that is compared to its end for copies that a redrive made: behind
/// `--until` and unjudged ones too.
pub fn copies(settings: &Settings, plan: &Plan) -> Result<HashMap<Uuid, u64>, Failure> {
    let topics = Topics::new(settings)?;
    let since: BTreeMap<i32, i64> = plan
        .parts
        .iter()
        .map(|part| (part.partition, part.since))
        .collect();
    let opened = topics.open(std::slice::from_ref(&plan.raw), Some(plan.ahead_ms))?;
    let mut ranges = opened.ranges;
    for range in &mut ranges {
        let from = since.get(&range.partition).copied();
        range.from = from.unwrap_or(range.from).min(range.end);
    }
    eprintln!("looking for redriven records");
    let mut copies = HashMap::new();
    topics.read(&ranges, &mut |record| {
        // The last header counts, as for the processor.
        let last = record
            .headers
            .iter()
            .rfind(|(name, _)| name == REDRIVE_COUNT);
        let count = count(last.map(|(_, value)| value.as_slice()));
        if count == 0 {
            return;
        }
        if let Some(Ok(request)) = record.header(REQUEST).map(RawRequest::decode) {
            let held: &mut u64 = copies.entry(request.id).or_default();
            *held = count.max(*held);
        }
    })?;
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;

    use sluice_processor::pipeline::outgoing::label;
    use sluice_schemas::dedup_log::Entry;
    use sluice_schemas::fate::DUPLICATE_OF;
    use sluice_schemas::identity::{Fingerprint, event_id};
    use sluice_schemas::raw::{Ack, Headers};
    use sluice_schemas::reason::Reason;

    use super::*;

    const IDENTITY: Fingerprint = [7; 16];

    const TOPIC: &str = "events.flock.lead.created";

    fn request(id: u128) -> RawRequest {
        RawRequest {
            id: Uuid::from_u128(id),
            source: "s".to_owned(),
            provider: "flock".to_owned(),
            received_at: 0,
            method: "POST".to_owned(),
            target: "/v1/hooks/s".to_owned(),
            peer: IpAddr::from([127, 0, 0, 1]),
            token: false,
            ack: Ack::Broker,
            headers: Headers(Vec::new()),
        }
    }

    fn raw(redrives: Option<&str>) -> Raw {
        let header = |count: &str| (REDRIVE_COUNT.to_owned(), Some(count.into()));
        Raw {
            partition: 0,
            offset: 0,
            appended_ms: 0,
            key: None,
            value: Vec::new(),
            headers: redrives.map(header).into_iter().collect(),
        }
    }

    /// Judged an event on a topic, or for a reason.
    fn out(topic: &'static str, reason: Option<Reason>) -> Outgoing<'static> {
        let id = event_id(&IDENTITY).to_string().into_bytes();
        let entry = Entry {
            identity: IDENTITY,
            appended: 0,
            sequence: None,
        };
        Outgoing {
            topic,
            key: None,
            value: Cow::Borrowed(&[]),
            headers: vec![(DUPLICATE_OF, Some(Cow::Owned(id)))],
            timestamp_ms: 0,
            label: label(None, reason),
            entry: reason.is_none().then_some(entry),
            unverified_signature: false,
        }
    }

    fn known(fate: Fate) -> Known<'static> {
        Known {
            fate,
            reason: "",
            topic: TOPIC,
            partition: 0,
            offset: 0,
            id: event_id(&IDENTITY).as_u128(),
            digest: 0,
        }
    }

    /// Why a record of the request 1 differs, where the request was redriven so often.
    fn why(
        redriven: &mut Redriven,
        record: &Raw,
        (known, out): (&Known<'_>, &Outgoing<'_>),
        copies: u64,
    ) -> Why {
        let read = || Ok(HashMap::from([(Uuid::from_u128(1), copies)]));
        let why = redriven.why((record, Some(&request(1))), (Some(known), out), read);
        why.expect("copies are read")
    }

    #[test]
    fn a_refused_record_is_explained_by_a_later_copy_of_it() {
        let event = out(TOPIC, None);
        let duplicate = out("webhooks.duplicates", Some(Reason::Duplicate));
        let refused = out("webhooks.rejected", Some(Reason::SignatureMismatch));
        let new = Redriven::default;
        for fate in [Fate::Rejected, Fate::DeadLetter] {
            let known = known(fate);
            for judged in [&event, &duplicate] {
                let first = raw(None);
                assert_eq!(why(&mut new(), &first, (&known, judged), 1), Why::Redriven);
                assert_eq!(why(&mut new(), &first, (&known, judged), 0), Why::Other);
                let copy = raw(Some("1"));
                assert_eq!(why(&mut new(), &copy, (&known, judged), 1), Why::Other);
                assert_eq!(why(&mut new(), &copy, (&known, judged), 2), Why::Redriven);
            }
            // Another refusal is not what a redrive brings about.
            assert_eq!(
                why(&mut new(), &raw(None), (&known, &refused), 1),
                Why::Other
            );
        }
        let another = HashMap::from([(Uuid::from_u128(2), 1)]);
        let sides = (Some(&known(Fate::Rejected)), &event);
        let request = request(1);
        let record = raw(None);
        let found = new().why((&record, Some(&request)), sides, || Ok(another));
        assert_eq!(found.expect("copies are read"), Why::Other);
    }

    #[test]
    fn a_copy_is_explained_where_a_refused_record_would_be_its_event() {
        let duplicate = out("webhooks.duplicates", Some(Reason::Duplicate));
        let mut redriven = Redriven::default();
        let (event, copy) = (known(Fate::Event), raw(Some("1")));
        let sides = (&event, &duplicate);
        assert_eq!(why(&mut redriven, &copy, sides, 1), Why::Other);
        // An event that was one then overtakes nothing.
        redriven.take(Some(&event), &out(TOPIC, None));
        assert_eq!(why(&mut redriven, &copy, sides, 1), Why::Other);
        redriven.take(Some(&known(Fate::Rejected)), &out(TOPIC, None));
        assert_eq!(why(&mut redriven, &copy, sides, 1), Why::Redriven);
        // The provider's own repetition, which became the event then.
        assert_eq!(why(&mut redriven, &raw(None), sides, 1), Why::Overtaken);
        redriven.take(
            Some(&known(Fate::Rejected)),
            &out("events.flock.other", None),
        );
        assert_eq!(why(&mut redriven, &copy, sides, 1), Why::Overtaken);
    }
}
