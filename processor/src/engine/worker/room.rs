//! Where the dedup indexes of the process take all that they may (`processor.dedup_memory`): nothing is
//! judged, and raw keeps its records, until generations expire or the bound is raised.
//!
//! Which clock expires them: a record is compared with the events of the window before its own append time,
//! whenever it is judged. So a partition with a record to judge ages by that record's append time and by
//! nothing else: by a clock, a repetition that waits in raw would become an event. A partition of which all
//! is judged ages by the brokers' time, for what comes is appended after that.

use std::time::{Duration, Instant};

use super::Worker;
use crate::engine::batch::Batch;
use crate::kafka::{BrokerUnavailable, Consumer, Kafka, LogTopic, Read, Reader, View};

/// How often is looked while there is no room: one partition each time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// For so long a little room is not enough to go on.
const PAUSES_FOR: Duration = Duration::from_secs(60);

/// An end of raw counts when it is found twice, so far apart: a leader that has just changed may know less
/// than the one before.
const END_TWICE: Duration = Duration::from_secs(5);

/// How long the first record of a partition is waited for.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How many keys of a partition are swept in one look: some tens of milliseconds.
const SWEPT_A_LOOK: usize = 1 << 20;

impl<K: Kafka> Worker<'_, K> {
    /// Whether nothing may be judged now. `resumed`: partitions may be read that were paused.
    pub(super) fn lacks_room(&mut self, batch: &Batch, resumed: bool) -> bool {
        let (now, memory) = (self.kafka.now(), &self.shared.memory);
        // It goes on once there is some room to use, not for each byte that becomes free; but with any room
        // after a time: judging is what ages a partition whose records wait.
        let paused = |since| now < since + PAUSES_FOR;
        let full = memory.is_full() || self.room.since.is_some_and(paused) && !memory.has_room();
        if !full && !self.room.is_lacking() {
            return false;
        }
        match self.room.look_at {
            Some(at) if now < at && !resumed => return true,
            Some(_) if !full => {
                self.room.look_at = None;
                self.room.since = None;
                self.room.ended.clear();
                self.room.full_log.over();
                self.report("memory", None);
                tracing::info!("the dedup indexes have room again: consumption goes on");
                if let Err(error) = self.consumer.resume(&self.partitions.reading()) {
                    tracing::info!(%error, "partitions could not be resumed");
                }
                return false;
            }
            Some(_) => {}
            None => {
                self.room.since = Some(now);
                self.shared.metrics.paused();
            }
        }
        self.room.look_at = Some(now + LOOK_INTERVAL);
        self.partitions.excuse();
        if let Err(error) = self.consumer.pause(&self.partitions.reading()) {
            tracing::info!(%error, "partitions could not be paused");
        }
        self.say_full();
        self.make_room(batch);
        true
    }

    /// Says that the bound is near or reached. One worker of a process speaks for all where it is near.
    pub(super) fn watch_memory(&mut self) {
        let memory = &self.shared.memory;
        self.shared.metrics.memory(memory);
        if self.number != 0 {
            return;
        }
        if !memory.is_nearly_full() {
            self.room.near_log.over();
        } else if let Some(repeated) = self.room.near_log.came(Instant::now()) {
            tracing::error!(
                bytes = memory.held(),
                bound = memory.bound(),
                partitions = self.partitions.sizes(),
                repeated,
                "the dedup indexes take 90 % of processor.dedup_memory: at 100 % consumption pauses"
            );
        }
    }

    fn say_full(&mut self) {
        let memory = &self.shared.memory;
        let (bytes, bound) = (memory.held(), memory.bound().unwrap_or(u64::MAX));
        let partitions = self.partitions.sizes();
        if let Some(repeated) = self.room.full_log.came(Instant::now()) {
            tracing::error!(
                bytes,
                bound,
                partitions,
                repeated,
                "the dedup indexes take all of processor.dedup_memory: consumption pauses, and raw keeps \
                 its records; raise it, or start another processor"
            );
        }
        let why = format!(
            "consumption pauses: the dedup indexes take {bytes} bytes of {bound} \
             (processor.dedup_memory): {partitions}"
        );
        self.report("memory", Some(why));
    }

    /// Forgets what no record can ask for any more, and gives its room back.
    fn make_room(&mut self, batch: &Batch) {
        let judged = self.partitions.judged();
        let heads = batch.parts.iter().filter_map(|(partition, part)| {
            let appended = part.records.iter().map(|record| record.appended_ms);
            Some((
                *partition,
                part.records.first()?.appended_ms,
                appended.max()?,
            ))
        });
        let heads: Vec<(i32, i64, i64)> = heads.collect();
        for &(partition, head, newest) in &heads {
            self.knows(newest);
            self.partitions.age(partition, head, SWEPT_A_LOOK);
        }
        self.knows(self.partitions.newest_ms());
        let others = judged
            .iter()
            .filter(|(partition, _)| !batch.parts.contains_key(partition));
        let next = others
            .clone()
            .find(|(partition, _)| **partition > self.room.looked);
        let Some((&partition, &at)) = next.or_else(|| others.clone().next()) else {
            return;
        };
        self.room.looked = partition;
        let (now, time) = (self.kafka.now(), self.brokers_time());
        match self.head(partition, at) {
            Ok(Some(head)) => {
                self.room.ended.remove(&partition);
                self.knows(head);
                self.partitions.age(partition, head, SWEPT_A_LOOK);
            }
            Ok(None) => {
                let ended = self.room.ended.entry(partition).or_insert((at, now, time));
                if ended.0 != at {
                    *ended = (at, now, time);
                } else if now >= ended.1 + END_TWICE {
                    let (_, _, before) = std::mem::replace(ended, (at, now, time));
                    self.partitions.age(partition, before, SWEPT_A_LOOK);
                }
            }
            Err(BrokerUnavailable(why)) => {
                tracing::debug!(
                    error = why,
                    partition,
                    "raw could not be looked at: asking again"
                );
            }
        }
    }

    /// A record was appended at this time, or later.
    fn knows(&mut self, appended_ms: i64) {
        let now = self.kafka.now();
        if appended_ms > self.seen_time(now) {
            self.room.newest = Some((appended_ms, now));
        }
    }

    /// The newest append time and what has passed since then, by a clock that nobody sets.
    fn seen_time(&self, now: Instant) -> i64 {
        self.room.newest.map_or(i64::MIN, |(newest, at)| {
            let passed = i64::try_from((now - at).as_millis()).unwrap_or(i64::MAX);
            newest.saturating_add(passed)
        })
    }

    /// The brokers' time, or one before it. Of the two that are known the earlier: neither a broker's clock
    /// that is ahead nor our own makes anything forgotten too early.
    fn brokers_time(&self) -> i64 {
        self.seen_time(self.kafka.now()).min(self.kafka.wall_ms())
    }

    /// When the first record of raw from an offset on was appended; `None` where there is none.
    fn head(&mut self, partition: i32, at: i64) -> Result<Option<i64>, BrokerUnavailable> {
        let until = self.kafka.now() + HEAD_TIMEOUT;
        self.with_reader(|worker, reader| {
            reader.start(LogTopic::Raw, partition, at, View::Stable)?;
            let head = loop {
                match reader.read()? {
                    Read::Record { appended_ms, .. } => break Some(appended_ms),
                    Read::End => break None,
                    Read::Unreadable(why) => return Err(BrokerUnavailable(why)),
                    Read::Transient if worker.kafka.now() < until => {}
                    Read::Transient => return Err(BrokerUnavailable("no record came".to_owned())),
                }
            };
            reader.stop()?;
            Ok(head)
        })
    }
}
