//! Which fate each raw record must have: each partition is judged once more, alone and in order, by rules
//! that are written down here a second time and share no memory with the engine.
//!
//! The pipeline says what a record would be if nothing had come before it; whether it repeats an event is
//! decided here, over a plain list of the events so far. Who signed a webhook is known from its maker.

use std::collections::BTreeMap;

use sluice_schemas::dedup_log::{Entry, SequenceEntry};
use sluice_schemas::fate::{DUPLICATE_OF, REASON};
use sluice_schemas::identity::{Fingerprint, event_id, fingerprint};
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::reason::Reason;

use super::brokers::World;
use super::state::Stored;
use super::webhooks::{Site, header};
use crate::dedup::index::{BatchOverlay, DedupIndex};
use crate::pipeline::notes::Notes;
use crate::pipeline::outgoing::{FateTopics, outgoing};
use crate::pipeline::verify::{source, verify};
use crate::pipeline::{Rules, judge};
use crate::record::Record;

/// What became of a record, or must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub topic: String,
    /// The reason, but for events.
    pub reason: Option<String>,
    /// The event that a duplicate repeats.
    pub of: Option<String>,
}

impl Ended {
    /// As a record on a fate topic says.
    pub fn read(topic: &str, record: &Stored) -> Self {
        let text = |name| header(record, name).map(str::to_owned);
        Self {
            topic: topic.to_owned(),
            reason: text(REASON),
            of: text(DUPLICATE_OF),
        }
    }

    /// Whether its source was not known.
    pub fn is_unknown_source(&self) -> bool {
        self.reason.as_deref() == Some(Reason::UnknownSource.name())
    }
}

/// The events of one partition, in the order of their raw offsets.
#[derive(Default)]
struct Events(Vec<Entry>);

impl Events {
    /// The event that a delivery repeats: one of its identity within the window, or, for a sequence, the last
    /// event of its entity where that has its MAC.
    fn repeated(&self, entry: &Entry, window: i64) -> Option<Fingerprint> {
        let within =
            |event: &&Entry| i64::from(entry.appended) - i64::from(event.appended) < window;
        let same = |event: &&Entry| event.identity == entry.identity;
        if let Some(event) = self.0.iter().filter(same).find(within) {
            return Some(event.identity);
        }
        let sequence = entry.sequence.as_ref()?;
        let of_entity = |event: &&Entry| {
            let other = event.sequence.as_ref();
            other.is_some_and(|other| other.entity == sequence.entity)
        };
        let last = self.0.iter().rev().find(of_entity)?;
        let is_same = last.sequence.as_ref()?.mac == sequence.mac;
        (is_same && within(&last)).then_some(last.identity)
    }
}

/// The fates that all records of raw must have, by partition and offset. Those that are known to have been
/// judged before their source was added are dead letters.
pub fn fates(
    world: &World,
    site: &Site,
    is_before_its_source: impl Fn((i32, i64)) -> bool,
) -> Result<BTreeMap<(i32, i64), Ended>, String> {
    let (active, before) = (&site.all, &site.before);
    let names = &active.settings.topics.names;
    let topics = FateTopics::new(names);
    let [rules, rules_before] = [active, before].map(|rules| Rules {
        settings: &rules.settings,
        credentials: rules.credentials.snapshot(),
        router: &rules.router,
    });
    let mut fates = BTreeMap::new();
    for ((topic, partition), log) in &world.logs {
        if *topic != names.raw() {
            continue;
        }
        let mut events = Events::default();
        for stored in &log.records {
            let record = Record {
                partition: *partition,
                offset: stored.offset,
                appended_ms: stored.appended_ms,
                key: stored.key.clone(),
                value: stored.value.clone(),
                headers: stored.headers.clone(),
            };
            let at = (*partition, stored.offset);
            let is_before = is_before_its_source(at);
            let rules = if is_before { &rules_before } else { &rules };
            let ended = one(&record, rules, &topics, &mut events)?;
            // What the maker of the webhook knows: a forgery is no event and repeats none.
            let is_rejected = ended.topic == names.rejected();
            if is_rejected != site.is_forged(stored) && !is_before {
                return Err(format!("raw {at:?} is judged {ended:?} by itself"));
            }
            fates.insert(at, ended);
        }
    }
    Ok(fates)
}

/// Judges one record after those before it.
fn one(
    record: &Record,
    rules: &Rules<'_>,
    topics: &FateTopics,
    events: &mut Events,
) -> Result<Ended, String> {
    if let Some((entry, window)) = identified(record, rules)?
        && let Some(original) = events.repeated(&entry, window)
    {
        return Ok(Ended {
            topic: rules.settings.topics.names.duplicates(),
            reason: Some(Reason::Duplicate.name().to_owned()),
            of: Some(event_id(&original).to_string()),
        });
    }
    // Nothing has come before it, as far as the pipeline knows.
    let (index, overlay) = (DedupIndex::new(1), BatchOverlay::default());
    let disposition = judge(record, rules, &index, &overlay, &mut Notes::default());
    let out = outgoing(
        disposition.map_err(|error| error.to_string())?,
        record,
        topics,
    );
    events.0.extend(out.entry);
    let of_header = |name: &str| {
        let found = out.headers.iter().find(|(found, _)| *found == name)?;
        String::from_utf8(found.1.as_deref()?.to_vec()).ok()
    };
    Ok(Ended {
        topic: out.topic.to_owned(),
        reason: of_header(REASON),
        of: of_header(DUPLICATE_OF),
    })
}

/// The identity of an authentic delivery, and its source's window in seconds.
fn identified(record: &Record, rules: &Rules<'_>) -> Result<Option<(Entry, i64)>, String> {
    let request = record.header(REQUEST).ok_or("a record without a request")?;
    let request = RawRequest::decode(request).map_err(|error| error.to_string())?;
    let Ok(source) = source(rules.settings, &request) else {
        return Ok(None);
    };
    let credentials = rules.credentials.get(&source.name);
    let credentials = credentials.cloned().unwrap_or_default();
    let Ok(verified) = verify(source, &credentials, &request, &record.value) else {
        return Ok(None);
    };
    let identity = verified.authentic.payload.identity();
    let seconds = record.appended_ms.div_euclid(1000);
    let entry = Entry {
        identity: fingerprint(&source.name, identity.parts.iter().map(Vec::as_slice)),
        appended: u32::try_from(seconds).map_err(|error| error.to_string())?,
        sequence: identity.sequence.as_ref().map(|sequence| SequenceEntry {
            entity: fingerprint(&source.name, [sequence.entity.as_slice()]),
            mac: fingerprint(&source.name, [sequence.mac.as_slice()]),
        }),
    };
    let window = i64::try_from(source.dedup_window.as_secs()).map_err(|error| error.to_string())?;
    Ok(Some((entry, window)))
}
