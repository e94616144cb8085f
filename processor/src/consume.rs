//! Collecting: the only place that polls, and so the only place where partitions come and go.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kafka::{Consumer, Kafka, Polled};

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
    /// How long company is waited for while a partition is restored, when there is something but no more at
    /// hand: a transaction costs the brokers and the worker some dozen requests, and the restore needs the
    /// processors more.
    pub linger: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            records: 5_000,
            bytes: 8 << 20,
            time: Duration::from_millis(50),
            linger: Duration::from_millis(100),
        }
    }
}

/// How long one poll waits for the first record when there is nothing else to do.
const IDLE_POLL: Duration = Duration::from_millis(100);

/// A raw record, out of the client's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Raw's partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When the broker appended it, milliseconds since 1970.
    pub appended_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// The body, byte for byte.
    pub value: Vec<u8>,
    /// Its Kafka headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The bytes that it holds.
    fn size(&self) -> usize {
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            name.len() + value.as_ref().map_or(0, Vec::len)
        };
        let headers: usize = self.headers.iter().map(header).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.len() + headers
    }

    /// The last value of a header, which is the one that counts in Kafka.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|(found, _)| found == name)
            .and_then(|(_, value)| value.as_deref())
    }
}

/// The partitions that a consumer owns now, each with the epoch of its assignment. A revoke or loss
/// ends the epoch, even if the partition comes straight back.
#[derive(Debug, Default)]
pub struct Assignments(Mutex<Owned>);

#[derive(Debug, Default)]
struct Owned {
    /// The group has answered once, be it with no partition at all.
    joined: bool,
    /// A rebalance failed half-way: what is owned is no longer known.
    failed: Option<String>,
    next: u64,
    epochs: BTreeMap<i32, u64>,
}

impl Assignments {
    fn lock(&self) -> MutexGuard<'_, Owned> {
        // The lock guards plain values: a panic elsewhere leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions and their epochs.
    pub fn now(&self) -> BTreeMap<i32, u64> {
        self.lock().epochs.clone()
    }

    /// Whether the group has given an assignment yet, which may be empty.
    pub fn joined(&self) -> bool {
        self.lock().joined
    }

    /// Why what is owned is no longer known, if so.
    pub fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Whether this epoch of a partition still lasts.
    pub fn holds(&self, partition: i32, epoch: u64) -> bool {
        self.lock().epochs.get(&partition) == Some(&epoch)
    }

    /// These are owned from now on, each in an epoch of its own.
    pub fn assign(&self, partitions: impl Iterator<Item = i32>) {
        let mut owned = self.lock();
        owned.joined = true;
        for partition in partitions {
            owned.next += 1;
            let epoch = owned.next;
            owned.epochs.insert(partition, epoch);
        }
    }

    /// These are owned no longer.
    pub fn revoke(&self, partitions: impl Iterator<Item = i32>) {
        let mut owned = self.lock();
        for partition in partitions {
            owned.epochs.remove(&partition);
        }
    }

    /// A rebalance failed half-way: nothing of these is judged, and the worker must end.
    pub fn fail(&self, partitions: impl Iterator<Item = i32>, why: &str) {
        self.revoke(partitions);
        self.lock().failed = Some(why.to_owned());
    }
}

/// The records of one partition in a batch, in the order of their offsets.
#[derive(Debug)]
pub struct Part {
    /// The epoch in which they were read.
    pub epoch: u64,
    /// Where reading began: the last commit's end, or what the restore set.
    pub from: i64,
    /// Where the client stood before the first of them: the same, or records are missing.
    pub follows: i64,
    /// The records; never empty.
    pub records: Vec<Record>,
}

/// Records that were read and are not committed yet.
#[derive(Debug, Default)]
pub struct Batch {
    /// By partition.
    pub parts: BTreeMap<i32, Part>,
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

    fn is_full(&self, bounds: &Bounds) -> bool {
        self.records >= bounds.records || self.bytes >= bounds.bytes
    }

    fn push(&mut self, record: Record, expected: Expected) {
        self.records += 1;
        self.bytes += record.size();
        let part = self.parts.entry(record.partition).or_insert_with(|| Part {
            epoch: expected.epoch,
            from: expected.from,
            follows: expected.stands,
            records: Vec::new(),
        });
        part.records.push(record);
    }

    /// Drops the records of partitions for which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(i32, &Part) -> bool) {
        self.parts.retain(|partition, part| keep(*partition, part));
        let records = self.parts.values().flat_map(|part| &part.records);
        self.records = records.clone().count();
        self.bytes = records.map(Record::size).sum();
    }
}

/// What a poll brought besides records.
#[derive(Debug, Default)]
pub struct Seen {
    /// Partitions with a record or an end-of-partition, as they came; whether it was a record.
    pub alive: Vec<(i32, bool)>,
    /// Partitions that the client reads from before where it was sought to, and where that was: the
    /// answer to where raw begins may come late and undo a seek.
    pub behind: BTreeMap<i32, i64>,
    /// The consumer is of no more use; the sentence says why.
    pub fatal: Option<String>,
}

/// Polls until the batch is full, nothing more is at hand nor comes in time, or its time is up. Polls once at least,
/// also with a full batch that is carried over from an abort: rebalances come no other way.
/// `expected` says for a partition the epoch and whether its records are wanted; others are dropped,
/// for they were read before a seek. `idle`: there is nothing to do with a batch now, so wait.
pub fn collect<K: Kafka>(
    kafka: &K,
    consumer: &K::Consumer,
    assignments: &Assignments,
    (batch, bounds): (&mut Batch, &Bounds),
    expected: &BTreeMap<i32, Expected>,
    idle: bool,
) -> Seen {
    let mut seen = Seen::default();
    let start = kafka.now();
    let deadline = start + bounds.time.max(bounds.linger);
    let mut wait = if idle || batch.is_empty() {
        IDLE_POLL
    } else {
        Duration::ZERO
    };
    loop {
        match consumer.poll(wait) {
            Polled::Nothing => {
                let left = (start + bounds.linger).saturating_duration_since(kafka.now());
                if idle || batch.is_empty() || left.is_zero() || !wait.is_zero() {
                    break;
                }
                wait = left;
                continue;
            }
            Polled::Record(record) => {
                seen.alive.push((record.partition, true));
                take(assignments, batch, expected, record, &mut seen);
            }
            Polled::End(partition) => seen.alive.push((partition, false)),
            Polled::Fatal(why) => {
                seen.fatal = Some(why);
                break;
            }
            Polled::News => {}
        }
        if batch.is_full(bounds) || kafka.now() >= deadline {
            break;
        }
        wait = Duration::ZERO;
    }
    seen
}

/// What is expected of a partition.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The epoch of its assignment.
    pub epoch: u64,
    /// The lowest offset that is still to be judged.
    pub from: i64,
    /// The offset after the last record that was polled, or where the client was sought to.
    pub stands: i64,
}

fn take(
    assignments: &Assignments,
    batch: &mut Batch,
    expected: &BTreeMap<i32, Expected>,
    record: Record,
    seen: &mut Seen,
) {
    let partition = record.partition;
    let Some(expected) = expected.get(&partition) else {
        return;
    };
    let next = batch
        .parts
        .get(&partition)
        .and_then(|part| part.records.last())
        .map_or(expected.from, |last| last.offset + 1);
    if !assignments.holds(partition, expected.epoch) {
        return;
    }
    if record.offset < next {
        seen.behind.insert(partition, next);
        return;
    }
    seen.behind.remove(&partition);
    batch.push(record, *expected);
}
