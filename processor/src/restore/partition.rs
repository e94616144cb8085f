//! One partition's way from the committed offset to a whole memory.

use std::time::Duration;

use sluice_schemas::dedup_log::{DedupRecord, EntryRef};
use sluice_schemas::service::settings::Settings;

use super::{AGAIN, Halt, Outcome, Position, Wanted, begin_at, check_log, check_partitions};
use crate::consume::Assignments;
use crate::kafka::{Kafka, Read, Reader, Source};
use crate::memory::{CLOCK_SLACK_SECONDS, Memory};

/// How often a position out of range is looked at again before a person is called: a broker that has
/// just become leader may know less than the one before.
const LOOKS: u32 = 20;

/// How long an open transaction is waited for before other partitions have their turn.
const STABLE_WAIT: Duration = Duration::from_secs(2);

/// How far before its end the log is read for its last record, at first, in offsets: some records and
/// their markers.
const LAST_REACH: i64 = 64;

/// One partition on its way.
pub struct Partition<'a, K: Kafka> {
    pub kafka: &'a K,
    pub reader: &'a K::Reader,
    pub settings: &'a Settings,
    pub assignments: &'a Assignments,
    pub wanted: Wanted,
}

impl<K: Kafka> Partition<'_, K> {
    fn held(&self) -> bool {
        let Wanted {
            partition, epoch, ..
        } = self.wanted;
        self.assignments.holds(partition, epoch)
    }

    /// One attempt.
    pub fn restore(&self) -> Result<Outcome, Halt> {
        let Wanted { partition, .. } = self.wanted;
        let committed = self.reader.committed(partition)?;
        match self.restore_at(committed) {
            // A process that stood still in between has asked in another time: what it then finds
            // is somebody's newer work, and no person's concern.
            Err(Halt::Person(_)) if self.reader.committed(partition)? != committed => Err(
                Halt::Later("the committed offset moved meanwhile".to_owned()),
            ),
            outcome => outcome,
        }
    }

    /// The order matters: the offset first, then the log's end as it is now, then the wait until all of
    /// that is decided. A transaction that the offset is part of is then read whole.
    fn restore_at(&self, committed: Option<i64>) -> Result<Outcome, Halt> {
        let Wanted { partition, .. } = self.wanted;
        let reader = self.reader;
        let partitions = reader.partitions()?;
        let (log_low, log_end) = reader.log_bounds(partition)?;
        self.wait_stable(log_end)?;

        let last = self.last_record(partition, (log_low, log_end))?;
        // What was decided when the partition began to wait holds for as long as nobody committed.
        let first = self.wanted.first;
        let first = first.filter(|first| committed.is_none_or(|committed| committed == first.from));
        let (from, decided) = match first {
            Some(first) => (first.from, false),
            None => self.begin(committed, last.as_ref().map(|last| last.to))?,
        };
        if committed != Some(from) {
            tracing::info!(
                partition,
                ?committed,
                from,
                decided,
                "the position is set anew"
            );
        }
        // Also a memory that will turn out empty is held against the log's last word, however old.
        let decided_before = first.is_some();
        check_log(last.as_ref(), from, decided || decided_before, partitions)
            .map_err(Halt::Person)?;
        if log_end == log_low {
            return self.without_log(committed, from, decided, partitions);
        }
        let first_ms = match first {
            Some(first) => first.appended_ms,
            None => match self.first_append_time(from)? {
                Some(first_ms) => first_ms,
                None => return Ok(Outcome::Waiting { from, decided }),
            },
        };
        let memory = self.read_log(first_ms, log_end, from)?;
        Ok(Outcome::Ready {
            from,
            decided,
            memory,
        })
    }

    /// [`begin_at`], with a second look at a position out of range. The second value: a person decided.
    fn begin(&self, committed: Option<i64>, log_to: Option<i64>) -> Result<(i64, bool), Halt> {
        for look in 1.. {
            if !self.held() {
                break;
            }
            let position = Position {
                committed,
                raw: self
                    .reader
                    .stable_bounds(Source::Raw, self.wanted.partition)?,
                log_to,
            };
            if let Ok(from) = begin_at(position, None) {
                return Ok((from, false));
            }
            if look == LOOKS {
                return begin_at(position, self.settings.processor.begin)
                    .map(|from| (from, true))
                    .map_err(Halt::Person);
            }
            self.kafka.sleep(AGAIN);
        }
        Err(Halt::EpochEnded)
    }

    /// There is nothing to remember. Either nothing was judged here yet, or what was is lost, or raw
    /// has grown and this partition is new: the other partitions' logs tell that.
    fn without_log(
        &self,
        committed: Option<i64>,
        from: i64,
        decided: bool,
        partitions: u32,
    ) -> Result<Outcome, Halt> {
        let Wanted { partition, .. } = self.wanted;
        if committed.is_some() {
            tracing::warn!(
                partition,
                from,
                "there is an offset, but the dedup-log is empty: repetitions of what came before are not known"
            );
        } else {
            for other in (0..partitions.cast_signed()).filter(|other| *other != partition) {
                let bounds = self.reader.log_bounds(other)?;
                let last = self.last_record(other, bounds)?;
                if let Some(last) = last {
                    check_partitions(&last, partitions).map_err(Halt::Person)?;
                    break;
                }
            }
        }
        Ok(Outcome::Ready {
            from,
            decided,
            memory: Box::new(Memory::new(self.window())),
        })
    }

    fn window(&self) -> u32 {
        u32::try_from(self.settings.longest_window().as_secs()).unwrap_or(u32::MAX)
    }

    /// Reads as far back as the first record to be judged may ask.
    fn read_log(&self, first_ms: i64, log_end: i64, from: i64) -> Result<Box<Memory>, Halt> {
        let Wanted { partition, .. } = self.wanted;
        let started = self.kafka.now();
        let reach = i64::from(self.window()) + i64::from(CLOCK_SLACK_SECONDS);
        let since = first_ms.saturating_sub(reach.saturating_mul(1000)).max(0);
        let start = self.reader.log_since(partition, since)?.unwrap_or(log_end);
        let mut memory = Box::new(Memory::new(self.window()));
        let last = self.read(partition, start, log_end, |entry| memory.load(entry))?;
        if let Some(last) = last.as_ref().filter(|last| last.to < from) {
            tracing::warn!(
                partition,
                from,
                log_to = last.to,
                "the dedup-log ends before the committed offset: repetitions of what came between are not known"
            );
        }
        tracing::info!(
            partition,
            from,
            identities = memory.len(),
            seconds = (self.kafka.now() - started).as_secs_f64(),
            "restored"
        );
        Ok(memory)
    }

    /// Waits a little until every transaction below `end` is decided.
    fn wait_stable(&self, end: i64) -> Result<(), Halt> {
        let until = self.kafka.now() + STABLE_WAIT;
        while self.held() {
            let (_, stable) = self
                .reader
                .stable_bounds(Source::DedupLog, self.wanted.partition)?;
            if stable >= end {
                return Ok(());
            }
            if self.kafka.now() > until {
                return Err(Halt::Later(format!(
                    "a transaction is open: the dedup-log is stable up to {stable} of {end}"
                )));
            }
            self.kafka.sleep(AGAIN);
        }
        Err(Halt::EpochEnded)
    }

    /// When the first raw record at or after an offset was appended; `None` where there is none yet.
    fn first_append_time(&self, from: i64) -> Result<Option<i64>, Halt> {
        self.reader
            .start(Source::Raw, self.wanted.partition, from)?;
        let found = loop {
            match self.reader.read()? {
                Read::Record { appended_ms, .. } => break Some(appended_ms),
                Read::End => break None,
                Read::News => {}
            }
        };
        self.reader.stop()?;
        Ok(found)
    }

    /// A log's last record, without its entries; `None` where there is none.
    fn last_record(
        &self,
        partition: i32,
        (low, end): (i64, i64),
    ) -> Result<Option<DedupRecord>, Halt> {
        if low >= end {
            return Ok(None);
        }
        let mut reach = LAST_REACH;
        loop {
            let start = end.saturating_sub(reach).max(low);
            let last = self.read(partition, start, end, |_| {})?;
            if last.is_some() || start == low {
                return Ok(last);
            }
            // Nothing but markers and aborted records there.
            reach = reach.saturating_mul(16);
        }
    }

    /// Reads log records from `start` until the end of the partition is reported at or past `end`: gives
    /// each entry, and returns the last record without them.
    ///
    /// The report does not tell its offset, and a leader that has just changed may know less than the
    /// one before. So an end counts when all below `end` is decided, as asked after it, and when a
    /// read that began after that answer reports it again.
    fn read(
        &self,
        partition: i32,
        start: i64,
        end: i64,
        mut each: impl FnMut(EntryRef<'_>),
    ) -> Result<Option<DedupRecord>, Halt> {
        let mut last = None;
        let mut next = start;
        let mut decided = false;
        self.reader.start(Source::DedupLog, partition, next)?;
        loop {
            if !self.held() {
                return Err(Halt::EpochEnded);
            }
            match self.reader.read()? {
                Read::Record { offset, value, .. } => {
                    next = offset + 1;
                    let record = DedupRecord::decode_each(&value, &mut each);
                    last = Some(record.map_err(|error| {
                        Halt::Person(format!("the dedup-log at offset {offset}: {error}"))
                    })?);
                }
                Read::End if decided => {
                    self.reader.stop()?;
                    return Ok(last);
                }
                Read::End => {
                    let (_, stable) = self.reader.stable_bounds(Source::DedupLog, partition)?;
                    decided = stable >= end;
                    self.reader.start(Source::DedupLog, partition, next)?;
                }
                Read::News => {}
            }
        }
    }
}
