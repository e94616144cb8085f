//! The brokers' clocks against ours, on the thread that measures the lag, by records of raw that come in
//! between two looks at where its partitions end: such a record was appended between them. The records need
//! not be of a partition of ours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sluice_service::admin::Readiness;
use sluice_service::kafka::clocks::Clocks;

use crate::kafka::BrokerUnavailable;
use crate::kafka::lag::RawLog;

/// Wrong by this much, our clock is further off than what is kept beyond a window for brokers' clocks, less
/// some.
const CLOCK_LIMIT: Duration = Duration::from_secs(600);

/// Compares, look by look.
pub struct ComparesClocks {
    clocks: Clocks,
    readiness: Readiness,
    /// When was looked last, and where partitions ended then.
    before: Option<(Instant, BTreeMap<i32, i64>)>,
}

impl ComparesClocks {
    /// Reports to these.
    pub const fn new(clocks: Clocks, readiness: Readiness) -> Self {
        Self {
            clocks,
            readiness,
            before: None,
        }
    }

    /// One look.
    pub fn turn(&mut self, log: &impl RawLog) {
        if let Err(BrokerUnavailable(error)) = self.compare(log) {
            tracing::debug!(error, "the brokers' clocks could not be looked at");
        }
        self.clocks.report(&self.readiness, CLOCK_LIMIT);
    }

    fn compare(&mut self, log: &impl RawLog) -> Result<(), BrokerUnavailable> {
        let leaders = log.leaders()?;
        self.clocks.led_by(
            leaders
                .iter()
                .map(|(partition, leader)| (*partition, *leader)),
        );
        let partitions: Vec<i32> = leaders.keys().copied().collect();
        let looked = Instant::now();
        let bounds = log.bounds(&partitions)?;
        let until = log.wall_ms();
        let ends = bounds
            .into_iter()
            .map(|(partition, (_, end))| (partition, end));
        let ends: BTreeMap<i32, i64> = ends.collect();
        let Some((since, before)) = self.before.replace((looked, ends.clone())) else {
            return Ok(());
        };
        // One partition of each leader that has a record which was not there before.
        let mut of_leader = BTreeMap::new();
        for (partition, end) in ends {
            if let (Some(leader), Some(&first)) = (leaders.get(&partition), before.get(&partition))
                && first < end
            {
                of_leader.insert(*leader, (partition, first));
            }
        }
        if of_leader.is_empty() {
            return Ok(());
        }
        // By the clock as it is now, should it have been set in between.
        let passed = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
        let since = log.wall_ms().saturating_sub(passed);
        let found = log.appended(&of_leader.values().copied().collect())?;
        for (leader, (partition, _)) in of_leader {
            if let Some(&appended) = found.get(&partition) {
                self.clocks.compared(leader, (since, appended, until));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Three partitions of raw in memory, each of a broker of its number.
    #[derive(Default)]
    struct Log {
        ends: RefCell<BTreeMap<i32, i64>>,
        /// By how much each broker's clock is ahead.
        ahead_ms: RefCell<BTreeMap<i32, i64>>,
        now_ms: Cell<i64>,
    }

    impl RawLog for Log {
        fn bounds(&self, asked: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, BrokerUnavailable> {
            let ends = self.ends.borrow();
            let known = ends
                .iter()
                .filter(|(partition, _)| asked.contains(partition));
            Ok(known
                .map(|(partition, end)| (*partition, (0, *end)))
                .collect())
        }

        fn appended(
            &self,
            at: &BTreeMap<i32, i64>,
        ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
            let ahead = self.ahead_ms.borrow();
            let time = |partition: &i32| self.now_ms.get() + ahead.get(partition).unwrap_or(&0);
            Ok(at
                .keys()
                .map(|partition| (*partition, time(partition)))
                .collect())
        }

        fn leaders(&self) -> Result<BTreeMap<i32, i32>, BrokerUnavailable> {
            Ok((0..3).map(|partition| (partition, partition)).collect())
        }

        fn wall_ms(&self) -> i64 {
            self.now_ms.get()
        }
    }

    #[test]
    fn records_that_come_between_two_looks_show_the_clocks_of_their_leaders() {
        let log = Log::default();
        log.now_ms.set(1_800_000_000_000);
        let readiness = Readiness::default();
        let mut compares = ComparesClocks::new(Clocks::default(), readiness.clone());
        let mut look = |end: i64, ahead: [i64; 3]| {
            *log.ends.borrow_mut() = (0..3).map(|partition| (partition, end)).collect();
            *log.ahead_ms.borrow_mut() = (0..3).zip(ahead).collect();
            compares.turn(&log);
            readiness.reasons().join("\n")
        };
        // What was there before shows nothing, and is old.
        assert_eq!(look(5, [-86_400_000; 3]), "");
        assert_eq!(look(5, [-86_400_000; 3]), "");
        assert_eq!(look(6, [3_600_000, 0, 0]), "");
        let said = look(7, [600_500, 601_000, 0]);
        let expected = "clock: the clock of this host is 600 s behind those of brokers [0, 1], which lead 2 of \
                        3 partitions of raw";
        assert_eq!(said, expected);
        assert_eq!(look(8, [0, 0, 0]), "");
    }
}
