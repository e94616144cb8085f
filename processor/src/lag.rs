//! How far the transactions are behind raw: records, and the age of the oldest.
//!
//! A thread of its own measures it, with a client of its own: nothing here keeps a worker waiting, and a
//! broker that is away costs the measure alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::processor::{RAW_LAG, RAW_LAG_RECORDS};
use sluice_service::metric::register;

use crate::clocks::ComparesClocks;
use crate::kafka::BrokerUnavailable;
use crate::kafka::lag::RawLog;
use crate::positions::Positions;

/// How often the lag is measured.
const INTERVAL: Duration = Duration::from_secs(5);

type Label = [(&'static str, String); 1];

/// The metrics.
#[derive(Debug, Clone, Default)]
pub struct RawLag {
    records: Family<Label, Gauge>,
    age: Family<Label, Gauge<f64, AtomicU64>>,
}

/// The measuring. It ends with this.
#[derive(Debug)]
pub struct Measuring {
    _end: Sender<()>,
}

impl RawLag {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let lag = Self::default();
        register(registry, RAW_LAG_RECORDS, lag.records.clone());
        register(registry, RAW_LAG, lag.age.clone());
        lag
    }

    /// Measures from now on, and compares clocks.
    pub fn measure(
        self,
        log: impl RawLog + Send + 'static,
        positions: Arc<Positions>,
        mut clocks: ComparesClocks,
    ) -> std::io::Result<Measuring> {
        let (end, ended) = channel();
        let mut measure = Measure {
            lag: self,
            log,
            positions,
            behind: BTreeMap::new(),
            shown: BTreeSet::new(),
        };
        let work = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                measure.turn();
                clocks.turn(&measure.log);
            }
        };
        thread::Builder::new().name("lag".to_owned()).spawn(work)?;
        Ok(Measuring { _end: end })
    }

    /// Sets the lag of a partition.
    pub(crate) fn show(&self, partition: i32, records: i64, age_ms: i64) {
        let label = label(partition);
        self.records.get_or_create_owned(&label).set(records);
        self.show_age(partition, age_ms);
    }

    fn show_age(&self, partition: i32, age_ms: i64) {
        let age = Duration::from_millis(age_ms.max(0).unsigned_abs());
        let gauge = self.age.get_or_create_owned(&label(partition));
        gauge.set(age.as_secs_f64());
    }

    fn forget(&self, partition: i32) {
        self.records.remove(&label(partition));
        self.age.remove(&label(partition));
    }
}

fn label(partition: i32) -> Label {
    [("partition", partition.to_string())]
}

/// What is known of a partition with lag.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// The oldest record that is not committed.
    offset: i64,
    /// The last record that was read of the lag: its offset, and when it was appended.
    read: Option<(i64, i64)>,
    /// When the lag was first seen.
    since_ms: i64,
}

impl Behind {
    /// The age of the oldest record. Where it could not be read, that of an older one, or of the lag.
    fn age_ms(&self, now_ms: i64) -> i64 {
        let begin = self.read.map_or(self.since_ms, |(_, appended)| appended);
        now_ms.saturating_sub(begin).max(0)
    }
}

struct Measure<L> {
    lag: RawLag,
    log: L,
    positions: Arc<Positions>,
    behind: BTreeMap<i32, Behind>,
    /// The partitions that have series.
    shown: BTreeSet<i32>,
}

impl<L: RawLog> Measure<L> {
    fn turn(&mut self) {
        // Before the ends are asked for, so that these are never behind.
        let owned = self.positions.now();
        self.behind
            .retain(|partition, _| owned.contains_key(partition));
        let records = if owned.is_empty() {
            BTreeMap::new()
        } else {
            self.records(&owned)
        };
        self.read_oldest();
        let now_ms = self.log.wall_ms();
        // A partition may have gone while the brokers were asked.
        let owned = self.positions.now();
        for (&partition, &next) in &owned {
            let behind = self.behind.get(&partition);
            let age = behind.map_or(0, |behind| behind.age_ms(now_ms));
            if let Some(records) = records.get(&partition) {
                self.lag.show(partition, *records, age);
                self.shown.insert(partition);
            } else if behind.is_some_and(|behind| next <= behind.offset) {
                // Nobody answers, and nothing was committed: the record only gets older.
                self.lag.show_age(partition, age);
            }
        }
        let gone = |partition: &i32| !owned.contains_key(partition);
        for partition in self.shown.extract_if(.., gone) {
            self.lag.forget(partition);
        }
    }

    /// How many records are not committed, of the partitions whose leaders answer.
    fn records(&mut self, owned: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let partitions: Vec<i32> = owned.keys().copied().collect();
        let bounds = match self.log.bounds(&partitions) {
            Ok(bounds) => bounds,
            Err(BrokerUnavailable(error)) => {
                tracing::debug!(
                    error,
                    "the ends of raw are not known: they are asked for again"
                );
                return BTreeMap::new();
            }
        };
        let now_ms = self.log.wall_ms();
        let mut all = BTreeMap::new();
        for (&partition, &next) in owned {
            let Some(&(start, end)) = bounds.get(&partition) else {
                continue;
            };
            // What retention has taken before it was judged is nobody's lag any more.
            let offset = next.max(start);
            let records = (end - offset).max(0);
            all.insert(partition, records);
            if records == 0 {
                self.behind.remove(&partition);
                continue;
            }
            let first_seen = Behind {
                offset,
                read: None,
                since_ms: now_ms,
            };
            self.behind.entry(partition).or_insert(first_seen).offset = offset;
        }
        all
    }

    /// Reads when the oldest records were appended, of those that have changed since.
    fn read_oldest(&mut self) {
        let unread = self.behind.iter().filter(|(_, behind)| {
            let read = behind.read.map(|(offset, _)| offset);
            read != Some(behind.offset)
        });
        let unread: BTreeMap<i32, i64> = unread
            .map(|(partition, behind)| (*partition, behind.offset))
            .collect();
        if unread.is_empty() {
            return;
        }
        match self.log.appended(&unread) {
            Ok(found) => {
                for (partition, appended) in found {
                    if let Some(behind) = self.behind.get_mut(&partition) {
                        behind.read = Some((behind.offset, appended));
                    }
                }
            }
            Err(BrokerUnavailable(error)) => {
                tracing::debug!(error, "the oldest records of raw could not be read");
            }
        }
    }
}

#[cfg(test)]
mod tests;
