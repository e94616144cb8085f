//! Records that were read and are not committed yet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::record::Record;

/// The bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most records. Larger batches cost memory and give little more: at 5,000 a commit is some
    /// percent of the batch's time.
    pub records: usize,
    /// The most bytes, so that a few large bodies fill a batch as many small ones do.
    pub bytes: usize,
    /// The longest that it is collected, so that a slow trickle does not wait for company.
    pub time: Duration,
    /// The least time from the start of one transaction to that of the next, unless the batch is full: each
    /// costs the brokers the same, however few records it has.
    pub pace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            records: 5_000,
            bytes: 8 << 20,
            time: Duration::from_millis(50),
            // At most 56 transactions a second. A record that comes alone waits for none.
            pace: Duration::from_millis(18),
        }
    }
}

/// What is expected of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The epoch of its assignment.
    pub epoch: u64,
    /// The lowest offset that is still to be judged.
    pub from: i64,
    /// The offset after the last record that was polled, or where the client was sought to.
    pub position: i64,
}

/// The records of one partition in a batch, in the order of their offsets.
#[derive(Debug)]
pub struct PartitionBatch {
    /// The epoch in which they were read.
    pub epoch: u64,
    /// Where reading began: the last commit's end, or what the restore set.
    pub base_offset: i64,
    /// The client's position before the first of them: the same, or records are missing.
    pub previous_position: i64,
    /// The records; never empty.
    pub records: Vec<Record>,
}

/// How many records a transaction takes of each partition, the first ones; never none.
pub type Taken = BTreeMap<i32, usize>;

/// What a transaction takes of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// By partition.
    pub taken: Taken,
    /// It is a partition in trouble, which is tried alone.
    pub alone: Option<i32>,
}

impl Selection {
    /// How many records it takes.
    pub fn records(&self) -> usize {
        self.taken.values().sum()
    }
}

/// Records that were read and are not committed yet.
#[derive(Debug, Default)]
pub struct Batch {
    /// By partition.
    pub parts: BTreeMap<i32, PartitionBatch>,
    records: usize,
    bytes: usize,
}

impl Batch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether a bound is reached.
    pub fn is_full(&self, bounds: &Bounds) -> bool {
        self.records >= bounds.records || self.bytes >= bounds.bytes
    }

    /// Takes a record; the first of a partition says where reading began.
    pub fn push(&mut self, record: Record, expected: Expected) {
        self.records += 1;
        self.bytes += record.size();
        let part = self
            .parts
            .entry(record.partition)
            .or_insert_with(|| PartitionBatch {
                epoch: expected.epoch,
                base_offset: expected.from,
                previous_position: expected.position,
                records: Vec::new(),
            });
        part.records.push(record);
    }

    /// Drops what is judged: by partition, the records below an offset, with which the next ones begin.
    pub fn advance(&mut self, judged: impl IntoIterator<Item = (i32, i64)>) {
        for (partition, to) in judged {
            if let Some(part) = self.parts.get_mut(&partition) {
                let count = part.records.partition_point(|record| record.offset < to);
                part.records.drain(..count);
                part.base_offset = to;
                part.previous_position = to;
            }
        }
        self.retain(|_, part| !part.records.is_empty());
    }

    /// Drops the records of partitions for which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(i32, &PartitionBatch) -> bool) {
        self.parts.retain(|partition, part| keep(*partition, part));
        let records = self.parts.values().flat_map(|part| &part.records);
        self.records = records.clone().count();
        self.bytes = records.map(Record::size).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_judged_in_part_goes_on_where_that_ends() {
        let expected = Expected {
            epoch: 1,
            from: 5,
            position: 5,
        };
        let mut batch = Batch::default();
        // Offset 6 is a marker's.
        for (partition, offset) in [(0, 5), (0, 7), (0, 8), (1, 5)] {
            let record = Record {
                partition,
                offset,
                appended_ms: 0,
                key: None,
                value: vec![0; 10],
                headers: Vec::new(),
            };
            batch.push(record, expected);
        }
        batch.advance([(0, 6), (1, 6)]);
        let part = &batch.parts[&0];
        assert_eq!((part.base_offset, part.previous_position), (6, 6));
        let offsets: Vec<i64> = part.records.iter().map(|record| record.offset).collect();
        assert_eq!((offsets, batch.len(), batch.bytes), (vec![7, 8], 2, 20));
        assert!(!batch.parts.contains_key(&1));
    }
}
