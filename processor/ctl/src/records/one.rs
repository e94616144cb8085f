//! One record by its place.

use sluice_schemas::record::Record;

use super::reader::{Range, Topics};
use crate::failure::Failure;

/// A partition and an offset from the command line.
pub fn place(partition: i64, offset: i64) -> Result<(i32, i64), Failure> {
    let partition = i32::try_from(partition).ok().filter(|one| *one >= 0);
    match partition.filter(|_| offset >= 0) {
        Some(partition) => Ok((partition, offset)),
        None => Err(Failure::Usage(
            "partition and offset must be numbers from 0 on".to_owned(),
        )),
    }
}

/// The record at a place of a topic; else why there is none.
pub fn record(topics: Topics, topic: &str, place: (i32, i64)) -> Result<Record, Failure> {
    let (partition, offset) = place;
    let opened = topics.open(&[topic.to_owned()], None)?;
    if let Some(line) = opened.lacking.first() {
        return Err(Failure::Failed(line.clone()));
    }
    let last = opened.ranges.len().saturating_sub(1);
    let mut ranges = opened.ranges.into_iter();
    let range = ranges.find(|range| range.partition == partition);
    let range = range.ok_or_else(|| {
        // The same status as of an offset that is not there: there is no such record.
        Failure::Failed(match last {
            0 => format!("{topic} has partition 0 alone, and no partition {partition}"),
            _ => format!("{topic} has the partitions 0 to {last}, and no partition {partition}"),
        })
    })?;
    if let Some(line) = outside(&range, offset) {
        return Err(Failure::Failed(line));
    }
    let wanted = Range {
        from: offset,
        end: offset + 1,
        ..range
    };
    let mut found = None;
    topics.read(&[wanted], &mut |record| found = Some(record))?;
    found.ok_or_else(|| {
        Failure::Failed(format!(
            "{topic}/{partition}/{offset} holds no record that a committed reader sees: a transaction's marker \
             stands there, or a record of one that was aborted"
        ))
    })
}

/// Why no record can be at an offset.
fn outside(range: &Range, offset: i64) -> Option<String> {
    let Range {
        topic,
        partition,
        begin,
        end,
        ..
    } = range;
    let place = format!("{topic}/{partition}");
    if offset >= *end {
        Some(format!(
            "{place} ends before offset {offset}: its next record gets {end}, or is of a transaction that is open"
        ))
    } else if offset < *begin {
        Some(format!(
            "{place} begins at offset {begin}: retention has deleted what was at {offset}"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_outside_of_a_partition_says_why() {
        let range = Range {
            topic: "t".to_owned(),
            partition: 1,
            begin: 5,
            from: 5,
            end: 9,
        };
        assert_eq!((outside(&range, 5), outside(&range, 8)), (None, None));
        let late = outside(&range, 9).expect("a reason");
        assert!(late.starts_with("t/1 ends before offset 9"), "{late}");
        let early = outside(&range, 4).expect("a reason");
        assert!(early.contains("retention has deleted"), "{early}");
        assert!(place(-1, 0).is_err() && place(0, -1).is_err() && place(i64::MAX, 0).is_err());
        assert_eq!(place(3, 4).expect("a place"), (3, 4));
    }
}
