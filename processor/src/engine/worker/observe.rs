//! What the metrics say of a worker's partitions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Worker;
use super::state::Shown;
use crate::kafka::Kafka;

/// How often the metrics are brought up to date.
const INTERVAL: Duration = Duration::from_secs(1);

impl<K: Kafka> Worker<'_, K> {
    /// Brings the metrics up to date, if it is time to.
    pub(super) fn observe(&mut self) {
        // Not by the engine's clock: nothing but metrics hangs on it.
        let now = Instant::now();
        if self.shown.at.is_some_and(|at| now < at + INTERVAL) {
            return;
        }
        self.shown.at = Some(now);
        let metrics = &self.shared.metrics;
        let mut states = [0; 5];
        let mut partitions = BTreeSet::new();
        for seen in self.partitions.survey() {
            states[seen.state] += 1;
            metrics.index(seen.partition, Some((seen.keys, seen.bytes)));
            // A partition that is restored again, or is stopped, keeps the one that it had.
            match seen.next {
                Some(next) => self.shared.positions.set(seen.partition, next),
                // It may have stopped at its first record.
                None if seen.seen > 0 => self.shared.positions.at_least(seen.partition, seen.seen),
                None => {}
            }
            partitions.insert(seen.partition);
        }
        for &partition in self.shown.partitions.difference(&partitions) {
            metrics.index(partition, None);
            self.shared.positions.remove(partition);
        }
        metrics.partitions(self.shown.states, states);
        let rebalances = self.assignments.rebalances();
        metrics.rebalanced(rebalances - self.shown.rebalances);
        self.shown = Shown {
            at: Some(now),
            states,
            partitions,
            rebalances,
        };
        self.watch_memory();
    }

    /// Takes its part out of the metrics: another worker may come in this one's place.
    pub(super) fn no_longer_observed(&mut self) {
        for part in ["memory", "producer", "settling", "transaction"] {
            self.report(part, None);
        }
        let shown = std::mem::take(&mut self.shown);
        for &partition in &shown.partitions {
            self.shared.metrics.index(partition, None);
            self.shared.positions.remove(partition);
        }
        self.shared
            .metrics
            .partitions(shown.states, Default::default());
    }
}
