//! What is said of the dedup indexes.

use super::Metrics;
use crate::dedup::memory::Memory;

impl Metrics {
    /// What the dedup indexes of all workers take, and may take.
    pub fn memory(&self, memory: &Memory) {
        self.dedup_bytes.set(gauged(memory.held()));
        self.dedup_limit.set(gauged(memory.bound().unwrap_or(0)));
    }

    /// A worker judges nothing, for the indexes have no room.
    pub fn paused(&self) {
        self.dedup_pauses.inc();
    }

    /// How many identities the index of a partition holds and how many bytes it takes; `None` where it is no
    /// longer ours.
    pub fn index(&self, partition: i32, index: Option<(usize, usize)>) {
        let labels = [("partition", partition.to_string())];
        match index {
            None => {
                self.dedup_keys.remove(&labels);
                self.dedup_partition.remove(&labels);
            }
            Some((keys, bytes)) => {
                self.dedup_keys.get_or_create(&labels).set(gauged(keys));
                let gauge = self.dedup_partition.get_or_create(&labels);
                gauge.set(gauged(bytes));
            }
        }
    }
}

fn gauged(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
