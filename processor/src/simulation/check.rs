//! What must hold once all is quiet: every raw record in exactly one place, no event twice, every
//! duplicate of an event that is there, and each key's events in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use apache_avro::reader::datum::GenericDatumReader;
use sluice_schemas::event::{PARSED, WebhookEvent};
use sluice_schemas::fate::{DUPLICATE_OF, RAW_OFFSET, RAW_PARTITION};
use sluice_schemas::topic::TopicNames;

use super::brokers::World;
use super::state::Stored;
use super::webhooks::header;

static READER: LazyLock<GenericDatumReader<'static>> = LazyLock::new(|| {
    GenericDatumReader::builder(&PARSED)
        .build()
        .expect("our own schema resolves")
});

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sums {
    pub raw: usize,
    pub events: usize,
    pub duplicates: usize,
    pub refused: usize,
}

impl Sums {
    pub fn add(&mut self, other: Self) {
        self.raw += other.raw;
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
    }
}

fn event(record: &Stored) -> Result<WebhookEvent, String> {
    // The frame is two bytes and a fingerprint.
    let mut datum = record.value.get(10..).ok_or("too short for an event")?;
    READER
        .read_deser(&mut datum)
        .map_err(|error| error.to_string())
}

fn place(record: &Stored) -> Option<(i32, i64)> {
    let number = |name| header(record, name)?.parse::<i64>().ok();
    let partition = i32::try_from(number(RAW_PARTITION)?).ok()?;
    Some((partition, number(RAW_OFFSET)?))
}

/// Checks all committed records against raw.
pub fn check(world: &World, names: &TopicNames) -> Result<Sums, String> {
    let raw = names.raw();
    let mut sums = Sums::default();
    let mut fates: BTreeMap<(i32, i64), &str> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut repeats = Vec::new();
    let mut last_of_key: BTreeMap<(&str, &[u8]), i64> = BTreeMap::new();
    for ((topic, _), log) in &world.logs {
        if *topic == raw || *topic == names.dedup_log() {
            continue;
        }
        for record in log.all_committed() {
            let from = if *topic == names.duplicates() {
                sums.duplicates += 1;
                let place = place(record).ok_or("a duplicate without a place")?;
                let of = header(record, DUPLICATE_OF).ok_or("a duplicate of nothing")?;
                repeats.push((place, of.to_owned()));
                place
            } else if *topic == names.rejected() || *topic == names.dead_letter() {
                sums.refused += 1;
                place(record).ok_or("a refusal without a place")?
            } else {
                sums.events += 1;
                let event = event(record)?;
                let at = (event.raw_partition, event.raw_offset);
                if !ids.insert(event.id.clone()) {
                    return Err(format!("raw {at:?} is event {} again", event.id));
                }
                let key = record.key.as_deref().unwrap_or_default();
                let last = last_of_key.insert((topic.as_str(), key), at.1);
                if last.is_some_and(|last| last > at.1) {
                    return Err(format!("raw {at:?} comes after {last:?} of its key"));
                }
                at
            };
            if let Some(other) = fates.insert(from, topic) {
                return Err(format!("raw {from:?} ended twice: {other} and {topic}"));
            }
        }
    }
    for (at, of) in repeats {
        if !ids.contains(&of) {
            return Err(format!("raw {at:?} repeats {of}, which is not there"));
        }
    }
    for ((topic, partition), log) in &world.logs {
        if *topic != raw {
            continue;
        }
        for record in &log.records {
            sums.raw += 1;
            if fates.remove(&(*partition, record.offset)).is_none() {
                return Err(format!("raw {partition}/{} has no fate", record.offset));
            }
        }
    }
    match fates.first_key_value() {
        None => Ok(sums),
        Some((at, topic)) => Err(format!("{topic} has {at:?}, which is not on raw")),
    }
}
