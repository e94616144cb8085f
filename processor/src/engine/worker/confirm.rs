//! Whether what was committed is visible: a commit that was answered is decided, and brokers may have lost
//! its markers since.
//!
//! It is looked at now and then, between two transactions, and costs three questions to the brokers
//! however many records there were. What was seen is written down with the next transaction of the
//! partition (`sluice_schemas::dedup_log::SEEN`): an audit begins there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Worker;
use super::unconfirmed::{Commits, Judged};
use crate::engine::partitions::JudgedTo;
use crate::kafka::{BrokerUnavailable, Kafka, Place, Reader, View};

/// How often is looked while something is not confirmed.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// The same while an answer is waited for.
const CONFIRM_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A commit that is not visible after this long counts as torn. An open transaction of another worker, whose
/// process stands still or is gone, may keep it from being read as well, for as long as its time-out; then
/// the sweep does no harm, and waits.
const VISIBLE_WITHIN: Duration = Duration::from_secs(20);

/// How long the question for offsets may take.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(1);

/// After so many answers in a row that were none, the client is replaced.
const FAILURES: u32 = 20;

/// How long the places of the outputs are known: partitions are added seldom.
const OUTPUTS_FOR: Duration = Duration::from_secs(60);

impl<K: Kafka> Worker<'_, K> {
    /// The client that asks what is visible.
    pub(super) fn with_reader<T>(
        &mut self,
        ask: impl FnOnce(&mut Self, &K::Reader) -> Result<T, BrokerUnavailable>,
    ) -> Result<T, BrokerUnavailable> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.kafka.reader()?,
        };
        let answer = ask(self, &reader);
        self.reader_failures = if answer.is_ok() {
            0
        } else {
            self.reader_failures + 1
        };
        if self.reader_failures < FAILURES {
            self.reader = Some(reader);
        } else {
            self.reader_failures = 0;
        }
        answer
    }

    /// The positions of the partitions whose commits were seen and not proved, if it is time to have that
    /// proved, or `now` in any case: a process that was fenced meanwhile is refused, and audits. What is
    /// restored or somebody else's by now is audited there.
    pub(super) fn checkpoint(&self, now: bool) -> BTreeMap<i32, JudgedTo> {
        if !self.unconfirmed.is_due(self.kafka.now(), now) {
            return BTreeMap::new();
        }
        let key_partitions = self.shared.settings.topics.key_partitions.unsigned_abs();
        let ends = self.unconfirmed.ends().into_iter();
        ends.filter(|&(partition, (epoch, at))| {
            self.partitions.is_judged_from(partition, epoch, at)
        })
        .map(|(partition, (_, at))| (partition, JudgedTo { at, key_partitions }))
        .collect()
    }

    /// Looks whether what was committed is visible, if it is time to. No transaction may be open.
    pub(super) fn confirm(&mut self) {
        let now = self.kafka.now();
        let due = self.unconfirmed.look_at.is_none_or(|at| now >= at);
        if self.unconfirmed.is_empty() || !due {
            return;
        }
        if let Err(BrokerUnavailable(why)) = self.with_reader(Self::look) {
            tracing::debug!(error = why, "commits could not be confirmed: asking again");
        }
        let asked = self.unconfirmed.asked.as_ref();
        let wait = if asked.is_some() {
            CONFIRM_RETRY_DELAY
        } else {
            CONFIRM_INTERVAL
        };
        let first = asked.map_or(self.unconfirmed.fresh.first, |(commits, _)| commits.first);
        self.unconfirmed.look_at = Some(self.kafka.now() + wait);
        if first.is_some_and(|first| now > first + VISIBLE_WITHIN) {
            self.unsettle("a commit that was answered is not visible");
        }
    }

    fn look(&mut self, reader: &K::Reader) -> Result<(), BrokerUnavailable> {
        if self.unconfirmed.asked.is_none() {
            let places = self.written(reader)?;
            let targets = reader.ends(&places, View::All)?;
            if targets.len() < places.len() {
                return Err(BrokerUnavailable(
                    "a partition does not say where it ends".into(),
                ));
            }
            let fresh = std::mem::take(&mut self.unconfirmed.fresh);
            self.unconfirmed.asked = Some((fresh, targets));
        }
        let Some((commits, targets)) = &mut self.unconfirmed.asked else {
            return Ok(());
        };
        let places: Vec<Place> = targets.keys().cloned().collect();
        let stable = reader.ends(&places, View::Stable)?;
        targets.retain(|place, target| stable.get(place) < Some(target));
        if !targets.is_empty() {
            return Ok(());
        }
        let partitions: Vec<i32> = commits.parts.keys().copied().collect();
        let offsets = reader.stable_offsets(&partitions, OFFSETS_TIMEOUT)?;
        // Without an offset the log says where to go on.
        let behind = |(partition, judged): (&i32, &Judged)| {
            let offset = offsets.get(partition);
            offset.is_some_and(|offset| *offset < judged.to)
        };
        if commits.parts.iter().any(behind) {
            return Ok(());
        }
        for (&partition, judged) in &commits.parts {
            self.partitions.saw(partition, judged.epoch, judged.to);
        }
        let visible = self.unconfirmed.asked.take();
        // What judged nothing has nothing to prove.
        let visible = visible.map(|(commits, _)| commits);
        let visible = visible.filter(Commits::has_judged);
        self.unconfirmed.seen.extend(visible);
        Ok(())
    }

    /// The partitions of the topics that the fresh commits wrote to.
    fn written(&mut self, reader: &K::Reader) -> Result<Vec<Place>, BrokerUnavailable> {
        let now = self.kafka.now();
        let topics = &self.unconfirmed.fresh.topics;
        let knows = |places: &[Place]| {
            let knows = |topic: &String| places.iter().any(|place| *place.topic == **topic);
            topics.iter().all(knows)
        };
        let cached = self.unconfirmed.outputs.take();
        let cached = cached.filter(|(at, places)| now < *at + OUTPUTS_FOR && knows(places));
        let (at, places) = if let Some(cached) = cached {
            cached
        } else {
            let outputs = reader.outputs()?;
            let mut places = outputs.places;
            places.extend(outputs.leaderless);
            if !knows(&places) {
                return Err(BrokerUnavailable(
                    "a topic is not known to the brokers".into(),
                ));
            }
            (now, places)
        };
        let is_written = |place: &&Place| {
            topics.contains(&*place.topic)
                || *place.topic == *self.dedup_log
                    && self.unconfirmed.fresh.parts.contains_key(&place.partition)
        };
        let written = places.iter().filter(is_written).cloned().collect();
        self.unconfirmed.outputs = Some((at, places));
        Ok(written)
    }
}
