//! What may be deleted from the topics of fates: by the first records that are left of each partition.
//!
//! A partition of a fate topic holds the fates of one raw partition in the order of raw. So a fate cannot be
//! among those that are deleted from a partition if an earlier one of the same raw partition is left there.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_schemas::audit::fate_of;
use sluice_schemas::fate::Fate;
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_schemas::topic::TopicNames;

/// Clocks differ, and records are deleted some time after their hour.
const SLACK_MS: i64 = 3_600_000;

/// A raw record whose fate was not found, or the event that a duplicate repeats.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// Its provider, where that is known.
    pub provider: Option<&'a str>,
    /// The raw record, where that is known.
    pub raw: Option<(i32, i64)>,
    /// It can only be an event.
    pub is_event: bool,
    /// When it was received, the earliest where that is not known; milliseconds since 1970.
    pub received: i64,
    /// When it was appended to raw.
    pub appended: i64,
}

/// Why a record may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// Retention may have deleted it.
    Expired,
    /// Records are deleted from this topic, and by the settings' retention it would still be there.
    Early(String),
}

/// How long a topic keeps its records.
#[derive(Debug, Clone, Copy)]
struct Kept {
    millis: i64,
    bytes: Option<u64>,
}

/// A partition whose first records are gone.
#[derive(Debug, Default)]
struct Front {
    /// The bytes of the records that were read, at least as many as the brokers hold of them.
    bytes: u64,
    /// By raw partition, the first fate that is left: its offset, and that of its raw record.
    first: BTreeMap<i32, (i64, i64)>,
}

/// What may be deleted.
#[derive(Debug)]
pub struct Deleted {
    names: TopicNames,
    now: i64,
    kept: BTreeMap<Fate, Kept>,
    /// By topic, by partition.
    fronts: BTreeMap<String, BTreeMap<i32, Front>>,
}

impl Deleted {
    /// Nothing yet, under the settings' retention.
    pub fn new(settings: &Settings, now: i64) -> Self {
        let topics = &settings.topics;
        let kept = |time: Duration, bytes| Kept {
            millis: i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            bytes,
        };
        let retention = &topics.retention;
        let kept = BTreeMap::from([
            (Fate::Event, kept(retention.events, None)),
            (
                Fate::Duplicate,
                kept(retention.duplicates, topics.duplicates_bytes),
            ),
            (
                Fate::Rejected,
                kept(retention.rejected, Some(topics.rejected_bytes)),
            ),
            (
                Fate::DeadLetter,
                kept(retention.dead_letter, topics.dead_letter_bytes),
            ),
        ]);
        Self {
            names: topics.names.clone(),
            now,
            kept,
            fronts: BTreeMap::new(),
        }
    }

    /// Whether records are gone from any partition.
    pub fn is_any(&self) -> bool {
        !self.fronts.is_empty()
    }

    /// The first records of this partition are gone.
    pub fn front(&mut self, topic: &str, partition: i32) {
        let partitions = self.fronts.entry(topic.to_owned()).or_default();
        partitions.entry(partition).or_default();
    }

    /// A fate that is there.
    pub fn note(&mut self, record: &Record, raw: (i32, i64)) {
        let partitions = self.fronts.get_mut(&record.topic);
        let Some(front) = partitions.and_then(|all| all.get_mut(&record.partition)) else {
            return;
        };
        front.bytes += bytes(record);
        let first = front.first.entry(raw.0).or_insert((record.offset, raw.1));
        if record.offset < first.0 {
            *first = (record.offset, raw.1);
        }
    }

    /// Whether what was not found may have been deleted.
    pub fn gone(&self, sought: Sought<'_>) -> Option<Gone> {
        let mut early = None;
        for (topic, partitions) in &self.fronts {
            let fate = fate_of(&self.names, topic);
            let foreign = sought
                .provider
                .is_some_and(|provider| !topic.starts_with(&self.names.event(provider, "")));
            if (fate == Fate::Event && foreign) || (fate != Fate::Event && sought.is_event) {
                continue;
            }
            for front in partitions
                .values()
                .filter(|front| front.may_have_had(sought.raw))
            {
                if self.is_explained(fate, front, sought) {
                    return Some(Gone::Expired);
                }
                early.get_or_insert_with(|| Gone::Early(topic.clone()));
            }
        }
        early
    }

    /// Whether the settings' retention may have deleted it by now.
    fn is_explained(&self, fate: Fate, front: &Front, sought: Sought<'_>) -> bool {
        let Some(kept) = self.kept.get(&fate) else {
            return false;
        };
        // An event has the time of its receipt.
        let time = match fate {
            Fate::Event => sought.received,
            _ => sought.appended,
        };
        let is_old = time
            < self
                .now
                .saturating_sub(kept.millis)
                .saturating_add(SLACK_MS);
        // Kafka deletes by size what stands before that many bytes, and not before there are so many.
        is_old || kept.bytes.is_some_and(|most| front.bytes >= most / 2)
    }
}

impl Front {
    /// Whether the fate of this raw record may have stood before what is left.
    fn may_have_had(&self, raw: Option<(i32, i64)>) -> bool {
        raw.is_none_or(|(partition, offset)| {
            let first = self.first.get(&partition);
            first.is_none_or(|(_, left)| offset < *left)
        })
    }
}

/// At most what it takes at the brokers.
fn bytes(record: &Record) -> u64 {
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + value.len() + 10)
        .sum();
    let all = record.key.len() + record.value.len() + headers + 100;
    u64::try_from(all).unwrap_or(u64::MAX)
}
