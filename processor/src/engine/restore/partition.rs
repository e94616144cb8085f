//! One partition's way from the committed offset to a whole dedup index.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sluice_schemas::dedup_log::DedupRecord;
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::settings::Settings;

use super::growing::Growing;
use super::log::{Log, Tail, read_end, unreadable};
use super::position::{
    AuditRange, Position, begin_at, check_keys, check_raw, group_position, shortest_retention_ms,
};
use super::question::{First, Outcome, RETRY_DELAY, Repair, RestoreHalt, Wanted, undecided_offset};
use crate::dedup::index::{CLOCK_SLACK_SECONDS, DedupIndex};
use crate::dedup::memory::Memory;
use crate::engine::audit;
use crate::kafka::assignment::Assignments;
use crate::kafka::{BrokerUnavailable, Kafka, LogTopic, Place, Reader, View};

/// How often a position out of range is checked before operator action is required: a broker
/// that has just become leader may know less than the one before.
const POSITION_CHECKS: u32 = 20;

/// How long an open transaction is waited for before other partitions have their turn.
const STABLE_WAIT: Duration = Duration::from_secs(2);

/// One partition on its way.
pub struct Partition<'a, K: Kafka> {
    pub kafka: &'a K,
    pub reader: &'a K::Reader,
    pub settings: &'a Settings,
    pub memory: &'a Arc<Memory>,
    pub assignments: &'a Assignments,
    pub wanted: Wanted,
    /// How long an answer is waited for that an open transaction may keep.
    pub patience: Duration,
}

impl<K: Kafka> Partition<'_, K> {
    fn held(&self) -> bool {
        let Wanted {
            partition, epoch, ..
        } = self.wanted;
        self.assignments.holds(partition, epoch)
    }

    fn log(&self) -> Log<'_, K::Reader, impl Fn() -> bool> {
        Log {
            reader: self.reader,
            held: || self.held(),
        }
    }

    /// The group's offset, once no transaction is about to change it.
    fn committed(&self) -> Result<Option<i64>, BrokerUnavailable> {
        let Wanted { partition, .. } = self.wanted;
        let offsets = self.reader.stable_offsets(&[partition], self.patience)?;
        Ok(offsets.get(&partition).copied())
    }

    /// One attempt.
    pub fn restore(&self) -> Result<Outcome, RestoreHalt> {
        let committed = self.committed().map_err(undecided_offset)?;
        match self.restore_at(committed) {
            // A process that stood still in between has asked in another time: what it then finds
            // is another process's newer work, and needs no operator.
            Err(RestoreHalt::NeedsOperator(_)) if self.committed()? != committed => Err(
                RestoreHalt::Later("the committed offset moved meanwhile".to_owned()),
            ),
            outcome => outcome,
        }
    }

    /// The order matters: the offset first, then the log's end as it is now, then the wait until all of
    /// that is decided. A transaction that the offset is part of is then read whole.
    fn restore_at(&self, committed: Option<i64>) -> Result<Outcome, RestoreHalt> {
        let Wanted { partition, .. } = self.wanted;
        let reader = self.reader;
        let partitions = reader.partitions()?;
        let (log_low, log_end) = reader.watermarks(partition)?;
        self.wait_stable(log_end)?;

        let Tail {
            last,
            logged,
            attempted,
            ..
        } = self.log().tail(partition, (log_low, log_end))?;
        check_raw(partitions, &self.settings.topics).map_err(RestoreHalt::NeedsOperator)?;
        let key_partitions = self.settings.topics.key_partitions.unsigned_abs();
        let raw = reader.stable_bounds(LogTopic::Raw, partition)?;
        let position = group_position(committed, last.as_ref());
        // What was decided when the partition began to wait holds for as long as nobody committed.
        let first = self.wanted.first;
        let first = first.filter(|first| committed.is_none_or(|committed| committed == first.from));
        let to = if let Some(first) = first {
            first.from
        } else {
            let known = position.as_ref().map_or(committed, |position| *position);
            let (from, decided) = self.begin(known, last.as_ref().map(|last| last.to))?;
            if decided {
                tracing::info!(partition, from, "processor.begin decides where to begin");
                return Ok(Outcome::Reposition {
                    from,
                    key_partitions,
                });
            }
            from
        };
        // Also an index that will turn out empty is compared with the log's last record, however old.
        if let Some(last) = &last {
            check_keys(last, key_partitions).map_err(RestoreHalt::NeedsOperator)?;
        }
        position.map_err(RestoreHalt::NeedsOperator)?;
        if last.is_none() && committed.is_none() {
            self.check_neighbours(partitions, key_partitions)?;
        }

        let range = AuditRange {
            from: last.map_or(raw.0, |last| last.seen.max(raw.0)),
            logged: logged.max(raw.0),
            to,
            until: attempted
                .max(last.map_or(0, |last| last.until))
                .min(raw.1)
                .max(to),
            repairs: last.is_some_and(|last| last.until > to),
        };
        let repair = self.audit(&range)?;
        let positioned = match committed {
            Some(committed) => committed == to,
            None => self.wanted.repositioned,
        };
        if repair.is_none() && last.is_some() && !positioned {
            return Ok(Outcome::Reposition {
                from: to,
                key_partitions,
            });
        }
        let from = if repair.is_some() { range.from } else { to };
        let first = first.filter(|first| first.from == from);
        self.rebuild(from, first, (log_low, log_end), repair)
    }

    /// Rebuilds the index for judging from an offset on; the log's first and next offset are given.
    fn rebuild(
        &self,
        from: i64,
        first: Option<First>,
        (log_low, log_end): (i64, i64),
        repair: Option<Repair>,
    ) -> Result<Outcome, RestoreHalt> {
        let Wanted { partition, .. } = self.wanted;
        if log_end == log_low {
            // The consumer must not be the first that meets what cannot be read: it cannot say where that is.
            self.log().first_append_time(partition, from)?;
            return Ok(Outcome::Ready {
                from,
                index: Box::new(DedupIndex::counted(self.window(), self.memory)),
                repair,
            });
        }
        let first_ms = match first {
            Some(first) => first.appended_ms,
            None => match self.log().first_append_time(partition, from)? {
                Some(first_ms) => first_ms,
                None => return Ok(Outcome::Waiting { from }),
            },
        };
        let index = self.read_log(first_ms, log_end, from, repair.is_some())?;
        Ok(Outcome::Ready {
            from,
            index,
            repair,
        })
    }

    /// Whether all that the offset and the log account for has a visible fate, and nothing else has one; if
    /// not, what there is.
    fn audit(&self, range: &AuditRange) -> Result<Option<Repair>, RestoreHalt> {
        let Wanted { partition, .. } = self.wanted;
        let mut wanted = audit::Wanted {
            since_ms: i64::MAX,
            ..audit::Wanted::default()
        };
        let kept = shortest_retention_ms(self.settings);
        let wall_ms = self.kafka.wall_ms();
        let mut unlogged = false;
        let mut offsets = BTreeSet::new();
        self.raw_times(range.from, range.until, |offset, ms| {
            let accounted = offset < range.to && ms.saturating_add(kept) > wall_ms;
            if accounted {
                offsets.insert(offset);
                unlogged |= offset >= range.logged;
            }
            if accounted || offset >= range.to {
                wanted.since_ms = wanted.since_ms.min(ms);
            }
        })?;
        if range.until > range.to {
            wanted.until.insert(partition, range.until);
        }
        // No record, no fate.
        if wanted.since_ms == i64::MAX || (offsets.is_empty() && wanted.until.is_empty()) {
            return Ok(None);
        }
        wanted.offsets.insert(partition, offsets);
        let log = self.settings.topics.names.dedup_log();
        let mut found = audit::find(self.kafka, self.reader, &log, &wanted, &|| self.held())?;
        let missing = wanted.missing(&found);
        let missing = missing.get(&partition).map_or(0, BTreeSet::len);
        let existing = found.remove(&partition).unwrap_or_default();
        let beyond = existing.range(range.to..).count();
        if missing == 0 && beyond == 0 && !unlogged && !range.repairs {
            return Ok(None);
        }
        tracing::warn!(
            partition,
            from = range.from,
            to = range.to,
            until = range.until,
            missing,
            beyond,
            unlogged,
            "a transaction was torn by the brokers: records without a fate are written again"
        );
        Ok(Some(Repair {
            until: range.until,
            existing,
        }))
    }

    /// The records of raw in a range, each with the earliest timestamp that its fate can have.
    fn raw_times(
        &self,
        from: i64,
        until: i64,
        mut each: impl FnMut(i64, i64),
    ) -> Result<(), RestoreHalt> {
        if from >= until {
            return Ok(());
        }
        let place = (LogTopic::Raw, self.wanted.partition, View::Stable);
        self.log().read_each(place, from, until, |record| {
            if record.offset < until {
                let header = |(name, value): &(String, Option<Vec<u8>>)| {
                    (name == REQUEST).then(|| value.clone()).flatten()
                };
                let request = record.headers.iter().rev().find_map(header);
                let request = request.and_then(|text| RawRequest::decode(&text).ok());
                let received = request.map_or(i64::MAX, |request| request.received_at / 1000 - 1);
                each(record.offset, received.min(record.appended_ms));
            }
            Ok(())
        })
    }

    /// [`begin_at`], with a second look at a position out of range. The second value: the operator decided.
    fn begin(
        &self,
        committed: Option<i64>,
        log_to: Option<i64>,
    ) -> Result<(i64, bool), RestoreHalt> {
        for look in 1.. {
            if !self.held() {
                break;
            }
            let position = Position {
                committed,
                raw: self
                    .reader
                    .stable_bounds(LogTopic::Raw, self.wanted.partition)?,
                log_to,
            };
            if let Ok(from) = begin_at(position, None) {
                return Ok((from, false));
            }
            if look == POSITION_CHECKS {
                return begin_at(position, self.settings.processor.begin)
                    .map(|from| (from, true))
                    .map_err(RestoreHalt::NeedsOperator);
            }
            self.kafka.sleep(RETRY_DELAY);
        }
        Err(RestoreHalt::EpochEnded)
    }

    /// Nothing is known of this partition: raw may have grown, and it is new. The other partitions' logs
    /// say whether keys are still where they were.
    fn check_neighbours(&self, partitions: u32, key_partitions: u32) -> Result<(), RestoreHalt> {
        let Wanted { partition, .. } = self.wanted;
        for other in (0..partitions.cast_signed()).filter(|other| *other != partition) {
            let bounds = self.reader.watermarks(other)?;
            if let Some(last) = self.log().tail(other, bounds)?.last {
                return check_keys(&last, key_partitions).map_err(RestoreHalt::NeedsOperator);
            }
        }
        Ok(())
    }

    fn window(&self) -> u32 {
        u32::try_from(self.settings.longest_window().as_secs()).unwrap_or(u32::MAX)
    }

    /// Reads as far back as the first record to be judged may ask. In a repair, records are judged again
    /// that the log has entries of: those are left out.
    fn read_log(
        &self,
        first_ms: i64,
        log_end: i64,
        from: i64,
        repairs: bool,
    ) -> Result<Box<DedupIndex>, RestoreHalt> {
        let Wanted { partition, .. } = self.wanted;
        let started = self.kafka.now();
        let reach = i64::from(self.window()) + i64::from(CLOCK_SLACK_SECONDS);
        let since = first_ms.saturating_sub(reach.saturating_mul(1000)).max(0);
        let start = self
            .reader
            .offset_for_time(partition, since)?
            .unwrap_or(log_end);
        let judged_again = if repairs {
            self.last_reposition(start, log_end)?
        } else {
            i64::MAX
        };
        let mut index = Box::new(DedupIndex::counted(self.window(), self.memory));
        let mut growing = Growing::new(self.memory);
        let log = (LogTopic::DedupLog, partition, View::Stable);
        self.log().read_each(log, start, log_end, |record| {
            let committed =
                DedupRecord::decode(&record.value).map_err(|error| unreadable(&record, &error))?;
            let again = committed.to > from && record.offset > judged_again;
            if !again {
                for entry in &committed.entries {
                    index.insert(entry);
                    growing.learned(&mut index)?;
                }
            }
            Ok(())
        })?;
        index.count();
        tracing::info!(
            partition,
            from,
            identities = index.len(),
            seconds = (self.kafka.now() - started).as_secs_f64(),
            "restored"
        );
        Ok(index)
    }

    /// The offset in the log of the last record that set the position: before it, records may be of raw
    /// offsets that are judged again by the operator's decision. -1 where there is none.
    fn last_reposition(&self, start: i64, log_end: i64) -> Result<i64, RestoreHalt> {
        let mut last = -1;
        let log = (LogTopic::DedupLog, self.wanted.partition, View::Stable);
        self.log().read_each(log, start, log_end, |record| {
            let found = read_end(&record).map_err(|error| unreadable(&record, &error))?;
            if found.is_reposition() {
                last = record.offset;
            }
            Ok(())
        })?;
        Ok(last)
    }

    /// Waits a little until every transaction below `end` is decided.
    fn wait_stable(&self, end: i64) -> Result<(), RestoreHalt> {
        let until = self.kafka.now() + self.patience.min(STABLE_WAIT);
        while self.held() {
            let (_, stable) = self
                .reader
                .stable_bounds(LogTopic::DedupLog, self.wanted.partition)?;
            if stable >= end {
                return Ok(());
            }
            if self.kafka.now() > until {
                let place = Place {
                    topic: self.settings.topics.names.dedup_log().into(),
                    partition: self.wanted.partition,
                };
                return Err(audit::undecided(&place, Some(stable), end).into());
            }
            self.kafka.sleep(RETRY_DELAY);
        }
        Err(RestoreHalt::EpochEnded)
    }
}
