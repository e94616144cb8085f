//! Reading a partition of the dedup-log, and what its end says.

use std::fmt;

use sluice_schemas::dedup_log::{DedupLogError, DedupRecord, SEEN, UNTIL};

use super::position::LogEnd;
use super::question::RestoreHalt;
use crate::kafka::{LogTopic, Read, Reader, View};

/// How far before its end the log is read for its last record, at first, in offsets: some records and
/// their markers.
const LAST_REACH: i64 = 64;

/// A partition's topic, its number, and the view of it.
type From = (LogTopic, i32, View);

/// Reads for as long as `held` says so.
pub struct Log<'a, R, H> {
    /// The client.
    pub reader: &'a R,
    /// Whether what is read is still of use.
    pub held: H,
}

/// A record that was read.
pub struct Stored {
    /// Its offset.
    pub offset: i64,
    /// When the broker appended it, milliseconds since 1970.
    pub appended_ms: i64,
    /// Its value.
    pub value: Vec<u8>,
    /// Its Kafka headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What the end of a log says.
pub struct Tail {
    /// Its last record in force.
    pub last: Option<LogEnd>,
    /// The raw offset up to which the log has a record of each offset since those that were seen to be
    /// visible: a torn transaction may leave a hole before the last record.
    pub logged: i64,
    /// The highest raw offset that a transaction since then was to account for, aborted ones too.
    pub attempted: i64,
    /// The last record that accounts for what one before it has accounted for: another group's.
    pub overlap: Option<Overlap>,
}

/// Two records of the log that both account for a raw offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The offset in the log of the later one.
    pub offset: i64,
    before: LogEnd,
    after: LogEnd,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, .. } = self;
        write!(
            f,
            "another consumer group writes under this prefix, and events are doubled: after the raw offsets \
             {} to {} the dedup-log accounts for {} to {}. Stop the processors of one group: processor.group, \
             topics.prefix",
            before.from, before.to, after.from, after.to
        )
    }
}

impl<R: Reader, H: Fn() -> bool> Log<'_, R, H> {
    /// What the end of a log says; the log's first and next offset are given.
    pub fn tail(&self, partition: i32, (low, end): (i64, i64)) -> Result<Tail, RestoreHalt> {
        let mut tail = Tail {
            last: None,
            logged: 0,
            attempted: 0,
            overlap: None,
        };
        if low >= end {
            return Ok(tail);
        }
        let mut reach = LAST_REACH;
        let mut at;
        loop {
            let start = end.saturating_sub(reach).max(low);
            let (mut records, mut offsets) = (Vec::new(), Vec::new());
            at = start;
            self.read_each(
                (LogTopic::DedupLog, partition, View::Stable),
                start,
                end,
                |record| {
                    records.push(read_end(&record).map_err(|error| unreadable(&record, &error))?);
                    offsets.push(record.offset);
                    at = record.offset;
                    Ok(())
                },
            )?;
            tail.last = records.last().copied();
            let whole = match (records.first(), tail.last) {
                (Some(first), Some(last)) => first.from <= last.seen,
                // Nothing but markers and aborted records there.
                _ => false,
            };
            if whole || start == low {
                tail.overlap = overlap(&records, &offsets);
                tail.logged = covered(&records);
                break;
            }
            reach = reach.saturating_mul(16);
        }
        // Whose transaction was torn may have left fates without a record in the log that is in force.
        self.read_each(
            (LogTopic::DedupLog, partition, View::All),
            at,
            end,
            |record| {
                // An aborted record may be a sweep's, which is none.
                if let Ok(attempt) = read_end(&record) {
                    tail.attempted = tail.attempted.max(attempt.to).max(attempt.until);
                }
                Ok(())
            },
        )?;
        Ok(tail)
    }

    /// When the first raw record at or after an offset was appended, milliseconds since 1970; `None` where
    /// there is none yet.
    pub fn first_append_time(&self, partition: i32, from: i64) -> Result<Option<i64>, RestoreHalt> {
        self.reader
            .start(LogTopic::Raw, partition, from, View::Stable)?;
        let found = loop {
            match self.reader.read()? {
                Read::Record { appended_ms, .. } => break Some(appended_ms),
                Read::End => break None,
                Read::Unreadable(why) => return Err(unreadable_batch(LogTopic::Raw, from, &why)),
                Read::Transient => {}
            }
        };
        self.reader.stop()?;
        Ok(found)
    }

    /// Gives the records of a partition from `start` until its end is reported at or past `end`.
    ///
    /// The report has no offset, and a leader that has just changed may know less than the
    /// one before. So an end counts when all below `end` is decided, as asked after it, and when a
    /// read that began after that answer reports it again.
    pub fn read_each(
        &self,
        (source, partition, view): From,
        start: i64,
        end: i64,
        mut each: impl FnMut(Stored) -> Result<(), RestoreHalt>,
    ) -> Result<(), RestoreHalt> {
        let mut next = start;
        let mut decided = false;
        self.reader.start(source, partition, next, view)?;
        loop {
            if !(self.held)() {
                return Err(RestoreHalt::EpochEnded);
            }
            match self.reader.read()? {
                Read::Record {
                    offset,
                    appended_ms,
                    value,
                    headers,
                } => {
                    next = offset + 1;
                    each(Stored {
                        offset,
                        appended_ms,
                        value,
                        headers,
                    })?;
                    if source == LogTopic::Raw && next >= end {
                        self.reader.stop()?;
                        return Ok(());
                    }
                }
                Read::End if decided => {
                    self.reader.stop()?;
                    return Ok(());
                }
                Read::End => {
                    let (_, stable) = self.reader.stable_bounds(source, partition)?;
                    decided = stable >= end;
                    self.reader.start(source, partition, next, view)?;
                }
                Read::Unreadable(why) => return Err(unreadable_batch(source, next, &why)),
                Read::Transient => {}
            }
        }
    }
}

/// The last record that accounts for what one before it has accounted for: after an operator's decision on
/// the position and in a repair that is so, else two groups judge raw.
fn overlap(records: &[LogEnd], offsets: &[i64]) -> Option<Overlap> {
    let mut last: Option<LogEnd> = None;
    let mut found = None;
    for (&record, &offset) in records.iter().zip(offsets) {
        let ahead = last.filter(|last| record.from < last.to && !record.is_reposition());
        match ahead {
            Some(before) if record.until == 0 => {
                found = Some(Overlap {
                    offset,
                    before,
                    after: record,
                });
            }
            // The repair goes on until it is where the log was before.
            Some(last) if record.to < last.to => {}
            _ => last = Some(record),
        }
    }
    found
}

/// How far records account for each raw offset since those that the last of them vouches for.
fn covered(records: &[LogEnd]) -> i64 {
    let Some(last) = records.last() else {
        return 0;
    };
    records.iter().fold(last.seen, |covered, record| {
        if record.from <= covered {
            covered.max(record.to)
        } else {
            covered
        }
    })
}

/// A log record's head and marks.
pub fn read_end(record: &Stored) -> Result<LogEnd, DedupLogError> {
    let head = DedupRecord::decode_head(&record.value)?;
    let mark = |name: &str| {
        let header = record.headers.iter().rev().find(|(found, _)| found == name);
        let value = header.and_then(|(_, value)| value.as_deref());
        value.and_then(|value| std::str::from_utf8(value).ok()?.parse::<i64>().ok())
    };
    Ok(LogEnd {
        from: head.from,
        to: head.to,
        key_partitions: head.partitions,
        seen: mark(SEEN).unwrap_or(head.from),
        until: mark(UNTIL).unwrap_or(0),
    })
}

/// A batch of a topic cannot be read, and nothing before it is left to read.
fn unreadable_batch(source: LogTopic, next: i64, why: &str) -> RestoreHalt {
    let topic = match source {
        LogTopic::Raw => "raw",
        LogTopic::DedupLog => "the dedup-log",
    };
    RestoreHalt::NeedsOperator(format!(
        "{topic} cannot be read from offset {next} on: {why}"
    ))
}

/// The log holds what no release has written, or a newer one.
pub fn unreadable(record: &Stored, error: &DedupLogError) -> RestoreHalt {
    RestoreHalt::NeedsOperator(format!(
        "the dedup-log at offset {}: {error}",
        record.offset
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_in_the_log_is_seen_before_what_follows_it() {
        let record = |from, to, seen| LogEnd {
            from,
            to,
            key_partitions: 1,
            seen,
            until: 0,
        };
        assert_eq!(covered(&[]), 0);
        assert_eq!(covered(&[record(4, 7, 2)]), 2);
        assert_eq!(covered(&[record(0, 4, 0), record(4, 7, 4)]), 7);
        assert_eq!(covered(&[record(0, 4, 0), record(5, 7, 3)]), 4);
        // A repair goes over it once more.
        let repaired = [record(0, 4, 0), record(5, 7, 3), record(3, 5, 3)];
        assert_eq!(covered(&repaired), 5);
    }

    #[test]
    fn two_groups_are_seen_and_repairs_and_repositions_are_none() {
        let normal = |from, to| LogEnd {
            from,
            to,
            key_partitions: 1,
            seen: from,
            until: 0,
        };
        let repair = |from, to, until| LogEnd {
            until,
            ..normal(from, to)
        };
        let places = |records: &[LogEnd]| {
            let offsets: Vec<i64> = (10..).take(records.len()).collect();
            overlap(records, &offsets).map(|found| (found.offset, found.before.to, found.after.to))
        };
        let records = [
            normal(0, 4),
            normal(4, 8),
            repair(2, 5, 8),
            repair(5, 8, 8),
            normal(8, 9),
        ];
        assert_eq!(places(&records), None);
        // What was repaired in part is ahead as before.
        let records = [normal(0, 8), repair(2, 5, 8), normal(5, 9)];
        assert_eq!(places(&records), Some((12, 8, 9)));
        let rewound = [normal(0, 8), repair(3, 3, 3), normal(3, 5)];
        assert_eq!(places(&rewound), None);
        let doubled = [normal(0, 4), normal(4, 8), normal(4, 6)];
        assert_eq!(places(&doubled), Some((12, 8, 6)));
        // A note that all was seen judges nothing.
        assert_eq!(places(&[normal(0, 4), normal(4, 4), normal(4, 6)]), None);
    }
}
