//! Whether the last stable offsets of the topics that we write to move: a transaction that nobody ends holds
//! every `read_committed` reader of its partition back, and if its name is gone, for good.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::settle::sweep;
use super::state::Held;
use super::{Exit, Worker};
use crate::engine::audit::undecided;
use crate::engine::outcome::TxOutcome;
use crate::engine::restore::RestoreHalt;
use crate::engine::restore::log::Log;
use crate::kafka::{BrokerUnavailable, Kafka, LogTopic, Place, Reader, View};

/// How often is looked.
const STABILITY_INTERVAL: Duration = Duration::from_secs(15);

/// What stands still for this long is no transaction under way: it may be ours all the same, of a process
/// that had our name for a while. So it is swept, once in a while and without waiting for what comes of it.
const SWEEP_AFTER: Duration = Duration::from_secs(30);

/// How long one question for offsets may take.
const OFFSETS_TIMEOUT: Duration = Duration::from_millis(250);

/// How long all of them may take.
const OFFSETS: Duration = Duration::from_secs(1);

/// How long the end of a dedup-log may take to read.
const LOG: Duration = Duration::from_secs(1);

/// The longest that a further sweep waits.
const SWEEP_AT_MOST: Duration = Duration::from_secs(600);

/// What stands still for this long is reported: twice as long as a transaction may take.
const ERROR_AFTER: Duration = Duration::from_secs(60);

/// How often it is reported again.
const REPORT_EVERY: Duration = Duration::from_secs(600);

impl<K: Kafka> Worker<'_, K> {
    /// Looks, if it is time to. No transaction may be open.
    pub(super) fn watch_stability(&mut self) -> Result<(), Exit> {
        let now = self.kafka.now();
        let looked = self.stability.looked;
        if looked.is_some_and(|looked| now < looked + STABILITY_INTERVAL) {
            return Ok(());
        }
        self.stability.looked = Some(now);
        match self.with_reader(Self::look_at_stability) {
            Ok(()) => {
                if let Some(now) = self.stability.grown {
                    return Err(self.grown(now));
                }
                let fenced = self.stability.fenced.take();
                fenced.map_or(Ok(()), |why| self.fenced(&why))
            }
            Err(BrokerUnavailable(why)) => {
                tracing::debug!(
                    error = why,
                    "last stable offsets could not be read: asking again"
                );
                Ok(())
            }
        }
    }

    /// Ingest places keys by its settings. One of an earlier release counts the partitions that there are:
    /// from now on it has a retry of what was judged in another one.
    pub(super) fn grown(&self, now: u32) -> Exit {
        let before = self.shared.settings.topics.partitions;
        tracing::error!(
            before,
            now,
            "raw has another number of partitions, which may move keys: operator action required"
        );
        Exit::Restart(format!(
            "raw had {before} partitions and has {now}: see \"More partitions\" in docs/operating.md"
        ))
    }

    /// Looks at the end of one partition's dedup-log, in turn: whether nobody but this group writes it.
    fn look_at_log(&mut self, reader: &K::Reader) -> Result<(), BrokerUnavailable> {
        let reading = self.partitions.reading();
        self.stability.looks += 1;
        let Some(turn) = self.stability.looks.checked_rem(reading.len()) else {
            return Ok(());
        };
        let partition = reading[turn];
        // What is decided: what is not may stay so for as long as another process is away.
        let decided = reader.stable_bounds(LogTopic::DedupLog, partition)?;
        let until = self.kafka.now() + LOG;
        let log = Log {
            reader,
            held: || self.kafka.now() < until,
        };
        let overlap = match log.tail(partition, decided) {
            Ok(tail) => tail.overlap,
            Err(RestoreHalt::Later(why)) => return Err(BrokerUnavailable(why)),
            Err(_) => return Ok(()),
        };
        // What was there at the first look may be over: the operator has stopped the other group.
        let last = overlap.map_or(-1, |overlap| overlap.offset);
        let known = *self.stability.overlaps.entry(partition).or_insert(last);
        if let Some(overlap) = overlap.filter(|overlap| overlap.offset > known) {
            self.partitions
                .stop(&self.consumer, partition, &overlap.to_string());
        }
        Ok(())
    }

    /// Which of the group's offsets are not given, and since when: others' come and go, so each is asked by
    /// itself.
    fn look_at_offsets(&mut self, reader: &K::Reader) {
        let partitions = self.raw_partitions();
        if reader.stable_offsets(&partitions, OFFSETS_TIMEOUT).is_ok() {
            self.stability.offsets.clear();
            return;
        }
        let now = self.kafka.now();
        for partition in partitions {
            if reader.stable_offsets(&[partition], OFFSETS_TIMEOUT).is_ok() {
                self.stability.offsets.remove(&partition);
            } else {
                self.stability.offsets.entry(partition).or_insert(now);
            }
            if self.kafka.now() > now + OFFSETS {
                return;
            }
        }
    }

    /// Sweeps what has stood still for long, where there is nothing of ours that this might destroy.
    fn sweep_what_stands(&mut self, reader: &K::Reader) {
        let now = self.kafka.now();
        let after = self.stability.sweep_after.max(SWEEP_AFTER);
        let stands = |since: Instant| now >= since + after;
        let held = self.stability.held.iter();
        let offsets_stand = self.stability.offsets.values().copied().any(stands);
        let places: Vec<Place> = held
            .filter(|(_, held)| stands(held.since))
            .map(|(place, _)| place.clone())
            .collect();
        if self.stability.held.is_empty() && self.stability.offsets.is_empty() {
            self.stability.sweep_after = SWEEP_AFTER;
        }
        let nothing = places.is_empty() && !offsets_stand;
        if nothing || self.settling.is_some() || !self.unconfirmed.is_empty() {
            return;
        }
        let Some(mut producer) = self.producer.take() else {
            return;
        };
        let places: Vec<&Place> = places.iter().collect();
        tracing::info!(
            ?places,
            "sweeping partitions whose last stable offset does not move"
        );
        self.stability.sweep_after = (after * 2).min(SWEEP_AT_MOST);
        match sweep(self.kafka, &mut producer, reader, &places) {
            Err(TxOutcome::Broken { why, fenced, .. }) => {
                self.stability.fenced = fenced.then_some(why);
            }
            _ => self.producer = Some(producer),
        }
    }

    fn look_at_stability(&mut self, reader: &K::Reader) -> Result<(), BrokerUnavailable> {
        let partitions = reader.partitions()?;
        let expected = self.shared.settings.topics.partitions.unsigned_abs();
        self.stability.grown = (partitions != expected).then_some(partitions);
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
                let BrokerUnavailable(what) = undecided(place, Some(at), end);
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
        self.look_at_offsets(reader);
        self.sweep_what_stands(reader);
        if let Err(BrokerUnavailable(error)) = self.look_at_log(reader) {
            tracing::debug!(error, "the dedup-log could not be looked at: asking again");
        }
        Ok(())
    }
}
