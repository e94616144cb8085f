//! What must hold once all is quiet: every raw record in exactly one place, with the fate that it must have,
//! no event twice, every duplicate of an event that is there, and each key's events in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use apache_avro::reader::datum::GenericDatumReader;
use sluice_schemas::event::{PARSED, WebhookEvent};
use sluice_schemas::fate::{DUPLICATE_OF, RAW_OFFSET, RAW_PARTITION};
use sluice_schemas::settings::Settings;

use super::brokers::World;
use super::oracle::{self, Ended};
use super::state::Stored;
use super::webhooks::{Site, header};

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
    /// Events that came again after their window.
    pub again: usize,
    /// Markers that the brokers dropped.
    pub torn: u64,
}

impl Sums {
    pub fn add(&mut self, other: Self) {
        self.raw += other.raw;
        self.events += other.events;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.again += other.again;
        self.torn += other.torn;
    }
}

fn event(record: &Stored) -> Result<WebhookEvent, String> {
    // The frame is two bytes and a fingerprint.
    let mut datum = record.value.get(10..).ok_or("too short for an event")?;
    READER
        .read_deser(&mut datum)
        .map_err(|error| error.to_string())
}

/// The partition of raw that an event comes from.
pub fn event_partition(record: &Stored) -> Result<i32, String> {
    event(record).map(|event| event.raw_partition)
}

fn place(record: &Stored) -> Option<(i32, i64)> {
    let number = |name| header(record, name)?.parse::<i64>().ok();
    let partition = i32::try_from(number(RAW_PARTITION)?).ok()?;
    Some((partition, number(RAW_OFFSET)?))
}

/// When a raw record was appended, whole seconds since 1970; the beginning for one that is not there.
fn appended(world: &World, raw: &str, (partition, offset): (i32, i64)) -> i64 {
    let log = world.logs.get(&(raw.to_owned(), partition));
    let mut records = log.iter().flat_map(|log| &log.records);
    let found = records.find(|record| record.offset == offset);
    found.map_or(0, |record| record.appended_ms.div_euclid(1000))
}

/// Checks all committed records against raw, and each fate against the one that it must be. `ends` is where
/// raw ended when a source was added.
pub fn check_fates(world: &World, site: &Site, ends: &BTreeMap<i32, i64>) -> Result<Sums, String> {
    let (sums, fates) = ended(world, &site.shared.settings)?;
    let may_be_unknown = |(partition, offset): (i32, i64)| {
        let unknown = fates[&(partition, offset)].is_unknown_source();
        unknown && ends.get(&partition).is_some_and(|end| offset < *end)
    };
    for (at, wanted) in oracle::fates(world, site, may_be_unknown)? {
        let ended = &fates[&at];
        if *ended != wanted {
            return Err(format!(
                "raw {at:?} ended as {ended:?} and not as {wanted:?}"
            ));
        }
    }
    Ok(sums)
}

/// Checks all committed records against raw.
pub fn check(world: &World, settings: &Settings) -> Result<Sums, String> {
    ended(world, settings).map(|(sums, _)| sums)
}

/// Where each record of raw ended.
type Fates = BTreeMap<(i32, i64), Ended>;

/// How often an event came again: once its window is over, what comes again is an event again.
fn apart(
    world: &World,
    raw: &str,
    id: &str,
    mut places: Vec<(i32, i64)>,
    window: i64,
) -> Result<usize, String> {
    places.sort_unstable();
    for pair in places.windows(2) {
        let [before, after] = [pair[0], pair[1]].map(|at| appended(world, raw, at));
        if after - before < window {
            return Err(format!("raw {:?} is event {id} again", pair[1]));
        }
    }
    Ok(places.len() - 1)
}

/// All sources have the window of `processor`.
fn ended(world: &World, settings: &Settings) -> Result<(Sums, Fates), String> {
    let names = &settings.topics.names;
    let window = i64::try_from(settings.processor.dedup_window.as_secs()).expect("some days");
    let raw = names.raw();
    let mut sums = Sums {
        torn: world.dropped,
        ..Sums::default()
    };
    let mut fates = Fates::new();
    let mut ids: BTreeMap<String, Vec<(i32, i64)>> = BTreeMap::new();
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
                ids.entry(event.id).or_default().push(at);
                let key = record.key.as_deref().unwrap_or_default();
                let last = last_of_key.insert((topic.as_str(), key), at.1);
                if last.is_some_and(|last| last > at.1) {
                    return Err(format!("raw {at:?} comes after {last:?} of its key"));
                }
                at
            };
            if let Some(other) = fates.insert(from, Ended::read(topic, record)) {
                let other = other.topic;
                return Err(format!("raw {from:?} ended twice: {other} and {topic}"));
            }
        }
    }
    if let Some((at, of)) = repeats.iter().find(|(_, of)| !ids.contains_key(of)) {
        return Err(format!("raw {at:?} repeats {of}, which is not there"));
    }
    for (id, places) in ids {
        sums.again += apart(world, &raw, &id, places, window)?;
    }
    let mut left: BTreeSet<_> = fates.keys().copied().collect();
    for ((topic, partition), log) in &world.logs {
        if *topic != raw {
            continue;
        }
        for record in &log.records {
            sums.raw += 1;
            if !left.remove(&(*partition, record.offset)) {
                return Err(format!("raw {partition}/{} has no fate", record.offset));
            }
        }
    }
    match left.first() {
        None => Ok((sums, fates)),
        Some(at) => Err(format!(
            "{} has {at:?}, which is not on raw",
            fates[at].topic
        )),
    }
}
