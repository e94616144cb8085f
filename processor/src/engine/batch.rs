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
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            records: 5_000,
            bytes: 8 << 20,
            time: Duration::from_millis(50),
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

    /// Drops the records of partitions for which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(i32, &PartitionBatch) -> bool) {
        self.parts.retain(|partition, part| keep(*partition, part));
        let records = self.parts.values().flat_map(|part| &part.records);
        self.records = records.clone().count();
        self.bytes = records.map(Record::size).sum();
    }
}
