//! The second look: what is open after all fates were read is found again, with its place and its request.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sluice_schemas::event::Named;
use sluice_schemas::fate::{DUPLICATE_OF, Fate};
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_schemas::timestamp::rfc3339;

use super::deleted::{Gone, Sought};
use super::fated::{self, RawPlace};
use super::ledger::Ledger;
use super::report::{Bounded, Finding, Report, Stand, find, place};

/// An event whose id was seen more than once.
#[derive(Debug)]
struct Seen {
    raw: RawPlace,
    named: Named,
    stand: Stand,
}

/// A raw record with several fates.
#[derive(Debug, Default)]
struct Several {
    records: Vec<Stand>,
    request: Option<String>,
    since: Option<i64>,
}

/// What is asked of the topics again, and what they answer.
pub struct Questions<'a> {
    settings: &'a Settings,
    ledger: &'a Ledger,
    /// Ids that several events have.
    ids: BTreeSet<u128>,
    events: BTreeMap<u128, Vec<Seen>>,
    several: BTreeMap<RawPlace, Several>,
    /// Append times of raw records whose event's id is there more than once.
    appended: HashMap<RawPlace, i64>,
    missing: Bounded,
    unexplained: Bounded,
    expired: u64,
    looked_at: u64,
    expired_originals: u64,
    missing_fates: u64,
}

impl<'a> Questions<'a> {
    /// About what is open in this account, and about these events.
    pub fn new(settings: &'a Settings, ledger: &'a Ledger, ids: BTreeSet<u128>) -> Self {
        Self {
            settings,
            ledger,
            ids,
            events: BTreeMap::new(),
            several: BTreeMap::new(),
            appended: HashMap::new(),
            missing: Bounded::default(),
            unexplained: Bounded::default(),
            expired: 0,
            looked_at: 0,
            expired_originals: 0,
            missing_fates: 0,
        }
    }

    /// Whether the topics of fates must be read again.
    pub fn needs_fates(&self) -> bool {
        !self.ids.is_empty() || !self.ledger.twice.is_empty() || self.ledger.lacks_originals()
    }

    /// Takes a record of a fate's topic again.
    pub fn fate(&mut self, record: &Record) {
        let Some(fated) = fated::read(&self.settings.topics.names, record) else {
            return;
        };
        let stand = || Stand {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            raw: Some(place(fated.raw)),
        };
        if self.ledger.twice.contains(&fated.raw) {
            let several = self.several.entry(fated.raw).or_default();
            let id = match &fated.named {
                Some(named) => Some(named.request_id.clone()),
                None => request(record).map(|request| request.id.to_string()),
            };
            several.request = several.request.take().or(id);
            let since = several.since.unwrap_or(record.timestamp);
            several.since = Some(since.min(record.timestamp));
            several.records.push(stand());
        }
        match (fated.fate, fated.event, fated.named) {
            (Fate::Event, Some(id), Some(named)) if self.ids.contains(&id) => {
                let seen = Seen {
                    raw: fated.raw,
                    named,
                    stand: Stand {
                        topic: record.topic.clone(),
                        partition: record.partition,
                        offset: record.offset,
                        raw: Some(place(fated.raw)),
                    },
                };
                self.appended.entry(fated.raw).or_insert(i64::MIN);
                self.events.entry(id).or_default().push(seen);
            }
            (Fate::Duplicate, Some(id), _)
                if self.ledger.is_there(fated.raw) && self.ledger.lacks_original(id) =>
            {
                self.original(record, fated.raw);
            }
            _ => {}
        }
    }

    /// A duplicate whose original was not found.
    fn original(&mut self, record: &Record, raw: RawPlace) {
        let request = request(record);
        let source = request.as_ref().map(|request| request.source.clone());
        let window = self.window(source.as_deref()).saturating_mul(1000);
        let earliest = record.timestamp.saturating_sub(window);
        let gone = self.ledger.deleted.gone(Sought {
            provider: request.as_ref().map(|request| request.provider.as_str()),
            raw: None,
            is_event: true,
            received: earliest,
            appended: record.timestamp,
        });
        let event = record.text(DUPLICATE_OF).map(str::to_owned);
        let finding = |deleted_from| Finding {
            kind: "original",
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            raw: Some(place(raw)),
            request_id: request.as_ref().map(|request| request.id.to_string()),
            source: source.clone(),
            appended_at: rfc3339(record.timestamp),
            look: find(event.as_deref().unwrap_or("ID"), earliest),
            event: event.clone(),
            deleted_from,
            ..Finding::default()
        };
        match gone {
            Some(Gone::Expired) => self.expired_originals += 1,
            Some(Gone::Early(topic)) => {
                self.expired_originals += 1;
                self.unexplained.add(|| finding(Some(topic)));
            }
            None => self.missing.add(|| finding(None)),
        }
    }

    /// The offsets of raw that must be read again, by partition: from the first to the last.
    pub fn raw_ranges(&self) -> BTreeMap<i32, (i64, i64)> {
        let mut ranges = self.ledger.open();
        for (partition, offset) in self
            .appended
            .keys()
            .filter(|raw| self.ledger.is_there(**raw))
        {
            let range = ranges.entry(*partition).or_insert((*offset, *offset));
            *range = (range.0.min(*offset), range.1.max(*offset));
        }
        ranges
    }

    /// Takes a raw record again.
    pub fn raw(&mut self, record: &Record) {
        let raw = (record.partition, record.offset);
        if let Some(appended) = self.appended.get_mut(&raw) {
            *appended = record.timestamp;
        }
        if !self.ledger.is_open(raw) {
            return;
        }
        self.looked_at += 1;
        let request = request(record);
        let received = request
            .as_ref()
            .map(|request| request.received_at.div_euclid(1000));
        let received = received.unwrap_or(record.timestamp);
        let gone = self.ledger.deleted.gone(Sought {
            provider: request.as_ref().map(|request| request.provider.as_str()),
            raw: Some(raw),
            is_event: false,
            received,
            appended: record.timestamp,
        });
        let finding = |deleted_from| Finding {
            kind: "fate",
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            raw: Some(place(raw)),
            request_id: request.as_ref().map(|request| request.id.to_string()),
            source: request.as_ref().map(|request| request.source.clone()),
            appended_at: rfc3339(record.timestamp),
            look: match &request {
                Some(request) => find(&request.id.to_string(), received.min(record.timestamp)),
                None => format!("sluicectl show --raw {} {}", raw.0, raw.1),
            },
            deleted_from,
            ..Finding::default()
        };
        match gone {
            Some(Gone::Expired) => self.expired += 1,
            Some(Gone::Early(topic)) => {
                self.expired += 1;
                self.unexplained.add(|| finding(Some(topic)));
            }
            None => {
                self.missing_fates += 1;
                self.missing.add(|| finding(None));
            }
        }
    }

    /// How long an event of a source suppresses its repetitions, in seconds.
    fn window(&self, source: Option<&str>) -> i64 {
        let source = source.and_then(|name| self.settings.sources.get(name));
        let window = source.map_or(self.settings.processor.dedup_window, |source| {
            source.dedup_window
        });
        i64::try_from(window.as_secs()).unwrap_or(i64::MAX)
    }

    /// Puts all of it into the report.
    pub fn finish(mut self, report: &mut Report) {
        let mut twice = Bounded {
            list: Vec::new(),
            total: self.ledger.twice_total,
        };
        for (raw, several) in std::mem::take(&mut self.several) {
            twice.list.push(several.finding(raw));
        }
        for seen in std::mem::take(&mut self.events).into_values() {
            if let Some(finding) = self.events_twice(seen) {
                twice.add(|| finding);
            }
        }
        // What raw's retention deleted between the first look and this one is not judged.
        let unseen = self.ledger.open_total().saturating_sub(self.looked_at);
        report.expired = self.expired + unseen;
        report.expired_originals = self.expired_originals;
        report.missing_fates = self.missing_fates;
        (report.missing, report.missing_total) = (self.missing.list, self.missing.total);
        (report.twice, report.twice_total) = (twice.list, twice.total);
        (report.unexplained, report.unexplained_total) =
            (self.unexplained.list, self.unexplained.total);
    }

    /// Events of one id, if two of them stand within the window of the deduplication.
    fn events_twice(&self, mut seen: Vec<Seen>) -> Option<Finding> {
        seen.sort_unstable_by_key(|one| (one.raw, one.stand.offset));
        // A raw record with two fates is another finding.
        seen.dedup_by_key(|one| one.raw);
        let (one, next) = seen.iter().zip(seen.iter().skip(1)).find(|(one, next)| {
            // Of a raw record that is not there any more: it was not appended before it was received.
            let at = |seen: &Seen| self.append_time(seen.raw).map(|at| at.div_euclid(1000));
            let first = at(one).unwrap_or(one.named.received_at.div_euclid(1000));
            let window = self.window(Some(&one.named.source));
            at(next).is_some_and(|next| next.saturating_sub(first).abs() < window)
        })?;
        let since = one.named.received_at.min(next.named.received_at);
        let stand = next.stand.clone();
        Some(Finding {
            kind: "event",
            topic: stand.topic,
            partition: stand.partition,
            offset: stand.offset,
            raw: Some(place(next.raw)),
            request_id: Some(next.named.request_id.clone()),
            source: Some(next.named.source.clone()),
            event: Some(next.named.id.clone()),
            appended_at: self.append_time(next.raw).and_then(rfc3339),
            look: find(&next.named.id, since),
            records: seen.iter().map(|one| one.stand.clone()).collect(),
            ..Finding::default()
        })
    }

    fn append_time(&self, raw: RawPlace) -> Option<i64> {
        self.appended
            .get(&raw)
            .copied()
            .filter(|at| *at != i64::MIN)
    }
}

impl Several {
    fn finding(mut self, raw: RawPlace) -> Finding {
        self.records.sort_unstable();
        let last = self.records.last().cloned();
        let (topic, partition, offset) = last.map_or_else(Default::default, |last| {
            (last.topic, last.partition, last.offset)
        });
        Finding {
            kind: "fate",
            topic,
            partition,
            offset,
            raw: Some(place(raw)),
            look: match &self.request {
                Some(id) => find(id, self.since.unwrap_or_default()),
                None => format!("sluicectl show --raw {} {}", raw.0, raw.1),
            },
            request_id: self.request,
            records: self.records,
            ..Finding::default()
        }
    }
}

fn request(record: &Record) -> Option<RawRequest> {
    record.header(REQUEST).map(RawRequest::decode)?.ok()
}
