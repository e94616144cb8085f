//! Collecting: the only place that polls, and so the only place where partitions come and go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::batch::{Batch, Bounds, Expected};
use crate::kafka::{Consumer, Kafka, Polled};
use crate::record::Record;

/// How long one poll waits for the first record when there is nothing else to do.
const IDLE_POLL: Duration = Duration::from_millis(100);

/// What the polls of a batch brought, other than records.
#[derive(Debug, Default)]
pub struct PollSummary {
    /// Partitions with a record or an end-of-partition, as they came; whether it was a record.
    pub progress: Vec<(i32, bool)>,
    /// Partitions of which the client delivers offsets below the position that it was sought to, with that
    /// position: the answer to where raw begins may come late and undo a seek.
    pub regressed: BTreeMap<i32, i64>,
    /// The consumer is of no more use; the sentence says why.
    pub fatal: Option<String>,
}

/// Polls until the batch is full, nothing more is at hand, or its time is up. Where nothing is at hand before
/// `begin`, the earliest that a transaction may begin, it waits for more until then. Polls at least once,
/// also with a full batch that an abort left: rebalances come no other way. `expected` says for a partition
/// the epoch and whether its records are wanted; others are dropped, for they were read before a seek. Those
/// of an epoch that ended meanwhile go with it, once the polls are over. `idle`: there is nothing to do with
/// a batch now, so wait.
pub fn collect<K: Kafka>(
    kafka: &K,
    consumer: &K::Consumer,
    (batch, bounds, begin): (&mut Batch, &Bounds, Option<Instant>),
    expected: &BTreeMap<i32, Expected>,
    idle: bool,
) -> PollSummary {
    let mut seen = PollSummary::default();
    let deadline = kafka.now() + bounds.time;
    let mut wait = if idle || batch.is_empty() {
        IDLE_POLL
    } else {
        Duration::ZERO
    };
    loop {
        match consumer.poll(wait) {
            Polled::Nothing => {
                let early = begin.map(|begin| begin.saturating_duration_since(kafka.now()));
                wait = early.unwrap_or_default();
                if batch.is_empty() || wait.is_zero() {
                    break;
                }
                continue;
            }
            Polled::Record(record) => {
                seen.progress.push((record.partition, true));
                take(batch, expected, record, &mut seen);
            }
            Polled::End(partition) => seen.progress.push((partition, false)),
            Polled::Fatal(why) => {
                seen.fatal = Some(why);
                break;
            }
            Polled::Transient => {}
        }
        if batch.is_full(bounds) || kafka.now() >= deadline {
            break;
        }
        wait = Duration::ZERO;
    }
    seen
}

fn take(
    batch: &mut Batch,
    expected: &BTreeMap<i32, Expected>,
    record: Record,
    seen: &mut PollSummary,
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
    if record.offset < next {
        seen.regressed.insert(partition, next);
        return;
    }
    seen.regressed.remove(&partition);
    batch.push(record, *expected);
}
