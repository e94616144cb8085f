//! The audit: which raw records have a fate that a `read_committed` reader sees.
//!
//! A commit that was answered is decided, and not always visible: some brokers drop the markers of a
//! transaction and call it complete. What is left of it on a partition is decided by the next marker of the
//! same transactional id there, whatever the coordinator had decided. So neither an offset nor the
//! dedup-log proves that a raw record has its fate; only the fate does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use sluice_schemas::event;
use sluice_schemas::fate::{RAW_OFFSET, RAW_PARTITION};

use crate::kafka::{BrokerUnavailable, HeaderOf, Kafka, Place, Reader, View};

/// How long undecided transactions are waited for before others have their turn.
const STABLE_WAIT: Duration = Duration::from_secs(2);

/// How often they are asked for meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// After so many records is asked whether to go on.
const CHECK_EVERY: u32 = 1024;

/// Raw records whose fates are looked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// By raw partition, the offsets whose fate must be found.
    pub offsets: BTreeMap<i32, BTreeSet<i64>>,
    /// By raw partition, the offset below which fates that nobody asked for are looked for as well.
    pub until: BTreeMap<i32, i64>,
    /// No fate of any of them has an earlier timestamp, milliseconds since 1970.
    pub since_ms: i64,
}

/// Fates that were found, by raw partition and offset, and whether each is an event.
pub type Found = BTreeMap<i32, BTreeMap<i64, bool>>;

impl Wanted {
    /// What was wanted and not found.
    pub fn missing(&self, found: &Found) -> BTreeMap<i32, BTreeSet<i64>> {
        let none = BTreeMap::new();
        let missing = self.offsets.iter().map(|(partition, wanted)| {
            let found = found.get(partition).unwrap_or(&none);
            let wanted = wanted.iter().copied();
            let missing = wanted.filter(|offset| !found.contains_key(offset));
            (*partition, missing.collect())
        });
        missing
            .filter(|(_, missing): &(i32, BTreeSet<i64>)| !missing.is_empty())
            .collect()
    }
}

/// The raw record that a record of a fate's topic came from, and whether it is an event.
fn origin(value: &[u8], header: &HeaderOf<'_>) -> Option<(i32, i64, bool)> {
    let number = |name| std::str::from_utf8(header(name)?).ok()?.parse().ok();
    let partition = number(RAW_PARTITION).and_then(|found: i64| i32::try_from(found).ok());
    match (partition, number(RAW_OFFSET)) {
        (Some(partition), Some(offset)) => Some((partition, offset, false)),
        _ => event::origin(value).map(|(partition, offset)| (partition, offset, true)),
    }
}

/// Looks for the fates of raw records. What is not in the answer has no visible fate, and none that an
/// undecided transaction may yet make visible. Ends with an error once `go_on` says no.
pub fn find<K: Kafka>(
    kafka: &K,
    reader: &K::Reader,
    dedup_log: &str,
    wanted: &Wanted,
    go_on: &dyn Fn() -> bool,
) -> Result<Found, BrokerUnavailable> {
    if wanted.offsets.is_empty() && wanted.until.is_empty() {
        return Ok(Found::new());
    }
    let outputs = reader.outputs()?;
    let is_fate = |place: &Place| *place.topic != *dedup_log;
    let places: Vec<Place> = outputs.places.into_iter().filter(is_fate).collect();
    let mut scan = Scan {
        wanted,
        found: Found::new(),
        left: wanted.offsets.values().map(BTreeSet::len).sum(),
        read: 0,
        go_on,
    };
    // Nearly always all of it is there, and nothing has to be waited for.
    let mut next = scan.begin(reader, &places)?;
    if scan.is_over() {
        return Ok(scan.found);
    }
    if let Some(place) = outputs.leaderless.iter().find(|place| is_fate(place)) {
        return Err(BrokerUnavailable(format!(
            "{place} has no leader, so what it holds is not known"
        )));
    }
    // An end counts when all below it is decided, as asked before it was read, and once more: a leader
    // that has just changed may know less than the one before.
    for _ in 0..2 {
        wait_stable(kafka, reader, &places)?;
        let known: BTreeSet<Place> = next.keys().cloned().collect();
        for (place, offset) in reader.since(&places, wanted.since_ms)? {
            if !known.contains(&place) {
                next.insert(place, offset);
            }
        }
        next = scan.on(reader, &next)?;
    }
    Ok(scan.found)
}

struct Scan<'a> {
    wanted: &'a Wanted,
    found: Found,
    /// How many that must be found are not found yet.
    left: usize,
    /// How many records were read.
    read: u32,
    go_on: &'a dyn Fn() -> bool,
}

impl Scan<'_> {
    fn is_over(&self) -> bool {
        self.left == 0 && self.wanted.until.is_empty()
    }

    fn begin<R: Reader>(
        &mut self,
        reader: &R,
        places: &[Place],
    ) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        let from = reader.since(places, self.wanted.since_ms)?;
        self.on(reader, &from)
    }

    /// Reads on, topic by topic, until all is found or read; returns where a further scan begins.
    fn on<R: Reader>(
        &mut self,
        reader: &R,
        from: &BTreeMap<Place, i64>,
    ) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        let mut topics: BTreeMap<_, BTreeMap<i32, i64>> = BTreeMap::new();
        for (place, offset) in from {
            let topic = topics.entry(&place.topic).or_default();
            topic.insert(place.partition, *offset);
        }
        let mut next = BTreeMap::new();
        for (topic, partitions) in topics {
            let next_offsets = if self.is_over() {
                partitions
            } else {
                reader.scan(topic, &partitions, &mut |value, header| {
                    self.note(value, header)
                })?
            };
            if !(self.go_on)() {
                return Err(BrokerUnavailable(
                    "the fates are no longer looked for".into(),
                ));
            }
            for (partition, offset) in next_offsets {
                let topic = std::sync::Arc::clone(topic);
                next.insert(Place { topic, partition }, offset);
            }
        }
        Ok(next)
    }

    fn note(&mut self, value: &[u8], header: &HeaderOf<'_>) -> ControlFlow<()> {
        self.read = self.read.wrapping_add(1);
        if self.read.is_multiple_of(CHECK_EVERY) && !(self.go_on)() {
            return ControlFlow::Break(());
        }
        let Some((partition, offset, is_event)) = origin(value, header) else {
            return ControlFlow::Continue(());
        };
        let wanted = self.wanted.offsets.get(&partition);
        let must = wanted.is_some_and(|wanted| wanted.contains(&offset));
        let until = self.wanted.until.get(&partition);
        let may = until.is_some_and(|until| offset < *until);
        if must || may {
            let found = self.found.entry(partition).or_default();
            if found.insert(offset, is_event).is_none() {
                self.left -= usize::from(must);
            }
        }
        if self.is_over() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Waits a little until all that partitions hold now is decided.
pub fn wait_stable<K: Kafka>(
    kafka: &K,
    reader: &K::Reader,
    places: &[Place],
) -> Result<(), BrokerUnavailable> {
    let targets = reader.ends(places, View::All)?;
    if let Some(place) = places.iter().find(|place| !targets.contains_key(place)) {
        return Err(BrokerUnavailable(format!(
            "{place} does not say where it ends"
        )));
    }
    let until = kafka.now() + STABLE_WAIT;
    loop {
        let stable = reader.ends(places, View::Stable)?;
        let held = targets
            .iter()
            .find(|(place, target)| stable.get(place) < Some(target));
        let Some((place, target)) = held else {
            return Ok(());
        };
        if kafka.now() > until {
            let at = stable.get(place).copied();
            return Err(undecided(place, at, *target));
        }
        kafka.sleep(POLL_INTERVAL);
    }
}

/// What keeps a partition's last stable offset, and what an operator may do about it.
pub fn undecided(place: &Place, at: Option<i64>, end: i64) -> BrokerUnavailable {
    let Place { topic, partition } = place;
    let at = at.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
    BrokerUnavailable(format!(
        "{place} holds a transaction that is not decided: its last stable offset is {at} of {end}. \
         It ends by itself within its time-out, or when the worker of its transactional id runs again. \
         Where neither helps: kafka-transactions.sh --bootstrap-server HOST find-hanging --broker-id LEADER \
         --max-transaction-timeout 0, then abort --topic {topic} --partition {partition} --start-offset {at}"
    ))
}
