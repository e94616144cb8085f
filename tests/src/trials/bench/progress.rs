//! How far a group has come with a topic, asked of the brokers: a question to the measured process would cost
//! what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_tests::harness::metrics::cpu_time;

use super::measure::PARTITIONS;

/// How long all of the work may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often progress is looked at: the error of both ends of what is measured.
const LOOK: Duration = Duration::from_millis(10);

/// The offsets that a group commits.
pub struct Progress {
    client: BaseConsumer,
    partitions: TopicPartitionList,
}

/// Work of which start and end are not a part.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    pub records: u64,
    pub time: Duration,
    pub cpu: Duration,
}

/// What a process had done at a moment.
#[derive(Clone, Copy)]
struct Moment {
    done: u64,
    at: Instant,
    cpu: Duration,
}

impl Progress {
    /// A client that is no member of the group.
    pub fn new(bootstrap: &str, group: &str, topic: &str) -> Result<Self> {
        let client = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            // The brokers answer at once, with what is committed, though a transaction is open.
            .set("isolation.level", "read_uncommitted")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(topic, 0, PARTITIONS - 1);
        Ok(Self { client, partitions })
    }

    /// How many records are committed.
    fn committed(&self) -> Result<u64> {
        let list = self
            .client
            .committed_offsets(self.partitions.clone(), PATIENCE)?;
        let offsets = list.elements().into_iter().map(|element| {
            element.error()?;
            Ok(match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset)?,
                _ => 0,
            })
        });
        offsets.sum()
    }

    /// Waits until the process `id` has committed `records` more than `from`. What counts is from the first
    /// look at which a tenth was committed to the first at which nine tenths were: the start is over, and the
    /// client's queue is as full at the end as at the beginning.
    pub fn steady(
        &self,
        id: u32,
        (from, records): (u64, u64),
        mut must_run: impl FnMut() -> Result<()>,
    ) -> Result<Steady> {
        let deadline = Instant::now() + PATIENCE;
        let (mut first, mut last) = (None, None);
        loop {
            let done = self.committed()?.saturating_sub(from);
            let moment = Moment {
                done,
                at: Instant::now(),
                cpu: cpu_time(id)?,
            };
            if done * 10 >= records {
                first.get_or_insert(moment);
            }
            if done * 10 >= records * 9 {
                last.get_or_insert(moment);
            }
            if done >= records {
                break;
            }
            must_run()?;
            if moment.at > deadline {
                bail!("{done} of {records} records were committed in {PATIENCE:?}");
            }
            std::thread::sleep(LOOK);
        }
        first
            .zip(last)
            .and_then(|(first, last)| Steady::between(first, last))
            .context("all was committed at once: give more --records")
    }
}

impl Steady {
    fn between(first: Moment, last: Moment) -> Option<Self> {
        let records = last.done.checked_sub(first.done)?;
        (records > 0).then(|| Self {
            records,
            time: last.at - first.at,
            cpu: last.cpu.saturating_sub(first.cpu),
        })
    }
}
