//! What the dedup indexes take, and ageing them where nothing is judged.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Partitions;
use super::slot::State;

/// How many partitions are named where there is no room: the largest.
const NAMED: usize = 8;

impl Partitions {
    /// The partitions that are judged, and from which offset on.
    pub fn judged(&self) -> BTreeMap<i32, i64> {
        let slots = self.slots.iter();
        let judged = slots.filter_map(|(&partition, slot)| match slot.state {
            State::Ready { to, .. } => Some((partition, to)),
            _ => None,
        });
        judged.collect()
    }

    /// Nothing that is judged from now on was appended before this time, brokers' clocks apart.
    pub fn age(&mut self, partition: i32, appended_ms: i64, swept: usize) {
        let slot = self.slots.get_mut(&partition);
        if let Some(State::Ready { index, .. }) = slot.map(|slot| &mut slot.state) {
            let seconds = u32::try_from(appended_ms.div_euclid(1000)).unwrap_or_default();
            index.age(seconds, swept);
        }
    }

    /// The append time of the newest event of all partitions, milliseconds since 1970.
    pub fn newest_ms(&self) -> i64 {
        let slots = self.slots.values();
        let newest = slots.filter_map(|slot| match &slot.state {
            State::Ready { index, .. } => Some(i64::from(index.newest()) * 1000),
            _ => None,
        });
        newest.max().unwrap_or_default()
    }

    /// The largest dedup indexes, for operators.
    pub fn sizes(&self) -> String {
        let mut sizes: Vec<_> = self.survey().filter(|seen| seen.bytes > 0).collect();
        sizes.sort_by_key(|seen| std::cmp::Reverse(seen.bytes));
        let more = sizes.len().saturating_sub(NAMED);
        let mut text = String::new();
        for seen in sizes.iter().take(NAMED) {
            let (partition, keys, bytes) = (seen.partition, seen.keys, seen.bytes);
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "{comma}partition {partition} {keys} keys {bytes} bytes"
            );
        }
        if more > 0 {
            let _ = write!(text, ", and {more} more");
        }
        if text.is_empty() {
            text.push_str("none of this worker");
        }
        text
    }
}
