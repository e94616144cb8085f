//! Whether the last stable offsets of the topics that we write to move: a transaction that nobody ends holds every
//! `read_committed` reader of its partition back, and if its name is gone, for good.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::settle::sweep;
use super::{Exit, Worker};
use crate::audit::undecided;
use crate::kafka::{Kafka, Place, Reader, Unanswered, View};
use crate::transact::Ended;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What stands still for this long is no transaction under way: it may be ours all the same, of a process
/// that had our name for a while. So it is swept, once in a while and without waiting for what comes of it.
const SWEEP_AFTER: Duration = Duration::from_secs(30);

/// What stands still for this long is reported: twice as long as a transaction may take.
const ERROR_AFTER: Duration = Duration::from_secs(60);

/// How often it is reported again.
const REPORT_EVERY: Duration = Duration::from_secs(600);

/// What is behind its partition's end.
#[derive(Debug, Clone, Copy)]
struct Held {
    at: i64,
    since: Instant,
    reported: Option<Instant>,
}

/// The partitions whose last stable offset is behind their end.
#[derive(Debug, Default)]
pub struct Stability {
    held: BTreeMap<Place, Held>,
    /// Since when an offset of the group is not given.
    offsets_since: Option<Instant>,
    looked: Option<Instant>,
    /// Another producer had the name.
    fenced: Option<String>,
}

impl<K: Kafka> Worker<'_, K> {
    /// Looks, if it is time to. No transaction may be open.
    pub(super) fn watch_stability(&mut self) -> Result<(), Exit> {
        let now = self.kafka.now();
        let looked = self.stability.looked;
        if looked.is_some_and(|looked| now < looked + LOOK_EVERY) {
            return Ok(());
        }
        self.stability.looked = Some(now);
        let looked = self.with_reader(|worker, reader| {
            let offsets = reader.stable_offsets(&worker.raw_partitions());
            worker.look_at_stability(reader, offsets.is_err())
        });
        match looked {
            Ok(()) => {
                let fenced = self.stability.fenced.take();
                fenced.map_or(Ok(()), |why| self.fenced(&why))
            }
            Err(Unanswered(why)) => {
                tracing::debug!(why, "looking at last stable offsets");
                Ok(())
            }
        }
    }

    /// Sweeps what has stood still for long, where there is nothing of ours that this might destroy.
    fn sweep_what_stands(&mut self, reader: &K::Reader, offsets_stand: bool) {
        let now = self.kafka.now();
        let since = &mut self.stability.offsets_since;
        *since = offsets_stand.then(|| since.unwrap_or(now));
        let stands = |since: Instant| now >= since + SWEEP_AFTER;
        let held = self.stability.held.iter();
        let places: Vec<Place> = held
            .filter(|(_, held)| stands(held.since))
            .map(|(place, _)| place.clone())
            .collect();
        let nothing = places.is_empty() && !since.is_some_and(stands);
        if nothing || self.settling.is_some() || !self.unconfirmed.is_empty() {
            return;
        }
        let Some(mut producer) = self.producer.take() else {
            return;
        };
        let places: Vec<&Place> = places.iter().collect();
        tracing::info!(?places, "sweeping what stands still");
        match sweep(self.kafka, &mut producer, reader, &places) {
            Err(Ended::Broken { why, fenced, .. }) => {
                self.stability.fenced = fenced.then_some(why);
            }
            _ => self.producer = Some(producer),
        }
    }

    fn look_at_stability(
        &mut self,
        reader: &K::Reader,
        offsets_stand: bool,
    ) -> Result<(), Unanswered> {
        let places = reader.outputs()?.places;
        // What was stable first: what was written since is no sign of anything.
        let stable = reader.ends(&places, View::Stable)?;
        let ends = reader.ends(&places, View::All)?;
        let now = self.kafka.now();
        let mut topics: BTreeMap<&str, Duration> = BTreeMap::new();
        let mut held = BTreeMap::new();
        for place in &places {
            let longest = topics.entry(&place.topic).or_default();
            let (Some(&at), Some(&end)) = (stable.get(place), ends.get(place)) else {
                // Without an answer it is as it was.
                held.extend(self.stability.held.remove_entry(place));
                continue;
            };
            if at >= end {
                continue;
            }
            let before = self.stability.held.get(place);
            let before = before.filter(|held| held.at == at);
            let mut one = before.copied().unwrap_or(Held {
                at,
                since: now,
                reported: None,
            });
            let still = now - one.since;
            *longest = still.max(*longest);
            let again = one
                .reported
                .is_none_or(|reported| now >= reported + REPORT_EVERY);
            if self.number == 0 && still >= ERROR_AFTER && again {
                one.reported = Some(now);
                let Unanswered(what) = undecided(place, Some(at), end);
                tracing::error!(
                    seconds = still.as_secs(),
                    what,
                    "readers of committed records wait"
                );
            }
            held.insert(place.clone(), one);
        }
        // One worker of a process reports for all.
        for (topic, still) in topics.into_iter().filter(|_| self.number == 0) {
            self.shared.metrics.held_back(topic, still);
        }
        self.stability.held = held;
        self.sweep_what_stands(reader, offsets_stand);
        Ok(())
    }
}
