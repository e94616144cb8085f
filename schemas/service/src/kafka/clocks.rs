//! The clocks of the brokers against the one of this host. Windows are measured by append times, ages by our
//! time: a clock that is wrong makes wrong verdicts, and does not fail.
//!
//! One broker that is wrong is that broker's matter. Only where most of those that lead raw agree is it our
//! own clock, and this process not ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::service::CLOCK_DIFFERENCE;

use crate::admin::Readiness;
use crate::metric::register;
use crate::telemetry::Repeated;

/// The difference of two clocks, in milliseconds, from which on it is logged.
const APART_MS: i64 = 30_000;

/// For how long a difference counts after it was measured. Who is not ready is sent nothing to measure by,
/// and must be asked again some time: the broker may have been mended. That our own clock was set is seen at
/// once.
const COUNTS: Duration = Duration::from_secs(600);

/// The name of the condition of readiness.
const CONDITION: &str = "clock";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Broker {
    broker: i32,
}

/// What is known of the brokers' clocks. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    gauges: Family<Broker, Gauge<f64, AtomicU64>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The leader of each partition of raw; `None` where it has none.
    leaders: BTreeMap<i32, Option<i32>>,
    measured: BTreeMap<i32, Measured>,
    apart_log: Repeated,
    own_log: Repeated,
}

/// By how much a broker's clock was ahead, and both of our clocks then.
#[derive(Debug, Clone, Copy)]
struct Measured {
    ahead_ms: i64,
    at: Now,
}

/// The time of day, and the clock that nobody sets.
#[derive(Debug, Clone, Copy)]
struct Now {
    wall_ms: i64,
    instant: Instant,
}

impl Now {
    fn get() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.unwrap_or_default().as_millis();
        Self {
            wall_ms: i64::try_from(millis).unwrap_or(i64::MAX),
            instant: Instant::now(),
        }
    }

    /// By how much our clock was set forward since then.
    fn set_since(self, then: Self) -> i64 {
        let passed = self.instant.saturating_duration_since(then.instant);
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        self.wall_ms - then.wall_ms - passed
    }
}

/// 2020: no broker of the protocol that is spoken here is older, milliseconds since 1970.
const EARLIEST_MS: i64 = 1_577_836_800_000;

impl Clocks {
    /// Registers the gauge.
    pub fn new(registry: &mut Registry) -> Self {
        let clocks = Self::default();
        register(registry, CLOCK_DIFFERENCE, clocks.gauges.clone());
        clocks
    }

    /// Partitions of raw and the brokers that lead them; less than 0 where none does.
    pub fn led_by(&self, partitions: impl Iterator<Item = (i32, i32)>) {
        let leader = |(partition, broker)| (partition, (broker >= 0).then_some(broker));
        self.seen.lock().leaders = partitions.map(leader).collect();
    }

    /// A broker appended a record at `appended` by its clock, at some time between `since` and `until` of
    /// ours; milliseconds since 1970.
    pub fn compared(&self, broker: i32, (since, appended, until): (i64, i64, i64)) {
        let (ahead_ms, at) = (ahead(since, appended, until), Now::get());
        // The client's mock of a cluster counts from its start: that says nothing of our clock.
        if appended >= EARLIEST_MS {
            self.measured(broker, ahead_ms, at);
        }
        self.show(broker, ahead_ms, at);
    }

    fn measured(&self, broker: i32, ahead_ms: i64, at: Now) {
        let measured = Measured { ahead_ms, at };
        self.seen.lock().measured.insert(broker, measured);
    }

    fn show(&self, broker: i32, ahead_ms: i64, at: Now) {
        #[expect(clippy::cast_precision_loss, reason = "no clock is so far off")]
        let seconds = ahead_ms as f64 / 1000.0;
        self.gauges.get_or_create(&Broker { broker }).set(seconds);
        let mut seen = self.seen.lock();
        if ahead_ms.abs() < APART_MS {
            return;
        }
        if let Some(repeated) = seen.apart_log.came(at.instant) {
            tracing::warn!(
                broker,
                seconds,
                repeated,
                "the clocks of a broker and of this host are apart: synchronize both"
            );
        }
    }

    /// Reports whether our clock is right, as far as is known: wrong by `limit` is not ready.
    pub fn report(&self, readiness: &Readiness, limit: Duration) {
        let mut seen = self.seen.lock();
        let now = Now::get();
        let verdict = seen.verdict(limit, now);
        match &verdict {
            Ok(()) => seen.own_log.over(),
            Err(error) => {
                if let Some(repeated) = seen.own_log.came(now.instant) {
                    tracing::error!(
                        error,
                        repeated,
                        "the clock of this host is wrong: synchronize it; this process is not ready"
                    );
                }
            }
        }
        drop(seen);
        readiness.set(CONDITION, verdict);
    }
}

impl Seen {
    /// `Err` where the leaders of most partitions, and most leaders, agree that our clock is wrong by
    /// `limit`, in one direction.
    fn verdict(&self, limit: Duration, now: Now) -> Result<(), String> {
        let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let ahead = |broker: i32| {
            let measured = self.measured.get(&broker)?;
            let age = now.instant.saturating_duration_since(measured.at.instant);
            (age <= COUNTS).then(|| measured.ahead_ms - now.set_since(measured.at))
        };
        let brokers: BTreeSet<i32> = self.leaders.values().copied().flatten().collect();
        for (direction, ours) in [(1, "behind"), (-1, "ahead of")] {
            let off = |broker: i32| {
                ahead(broker)
                    .map(|ahead| ahead * direction)
                    .filter(|off| *off >= limit)
            };
            let agree: Vec<i32> = brokers
                .iter()
                .copied()
                .filter(|one| off(*one).is_some())
                .collect();
            let led = self
                .leaders
                .values()
                .flatten()
                .filter(|one| agree.contains(one))
                .count();
            if led * 2 <= self.leaders.len() || agree.len() * 2 <= brokers.len() {
                continue;
            }
            let least = agree
                .iter()
                .filter_map(|one| off(*one))
                .min()
                .unwrap_or_default();
            return Err(format!(
                "the clock of this host is {} s {ours} those of brokers {agree:?}, which lead {led} of {} \
                 partitions of raw",
                least / 1000,
                self.leaders.len()
            ));
        }
        Ok(())
    }
}

/// By how much a clock is ahead that showed `appended` at some time between `since` and `until` of ours.
fn ahead(since: i64, appended: i64, until: i64) -> i64 {
    if appended < since {
        appended - since
    } else {
        (appended - until).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    /// Twelve partitions of three brokers, four each.
    fn seen(differences: &[(i32, i64)], now: Now) -> Seen {
        let clocks = Clocks::default();
        clocks.led_by((0..12).map(|partition| (partition, 1 + partition % 3)));
        for &(broker, seconds) in differences {
            clocks.measured(broker, seconds * 1000, now);
            clocks.show(broker, seconds * 1000, now);
        }
        std::mem::take(&mut *clocks.seen.lock())
    }

    fn now() -> Now {
        Now {
            wall_ms: 1_800_000_000_000,
            instant: Instant::now(),
        }
    }

    fn later(now: Now, seconds: u64, set_ms: i64) -> Now {
        let passed = Duration::from_secs(seconds);
        let millis = i64::try_from(passed.as_millis()).expect("small");
        Now {
            wall_ms: now.wall_ms + millis + set_ms,
            instant: now.instant + passed,
        }
    }

    #[test]
    fn a_clock_is_ahead_by_what_lies_outside_of_sending_and_report() {
        for (since, appended, until, expected) in [
            (1_000, 1_000, 1_000, 0),
            (1_000, 1_005, 1_010, 0),
            (1_000, 999, 1_010, -1),
            (1_000, 1_011, 1_010, 1),
            (1_000, 61_010, 1_010, 60_000),
        ] {
            assert_eq!(ahead(since, appended, until), expected, "{appended}");
        }
    }

    #[test]
    fn only_where_most_brokers_agree_is_it_our_own_clock() {
        let now = now();
        for (differences, wrong) in [
            (vec![], false),
            (vec![(1, 0), (2, 0), (3, 0)], false),
            // One broker is wrong, by however much.
            (vec![(1, 86_400), (2, 0), (3, 1)], false),
            (vec![(1, -600), (2, 2), (3, 0)], false),
            // The only one that was measured.
            (vec![(1, 600)], false),
            // Two that are wrong in two ways.
            (vec![(1, 600), (2, -600), (3, 0)], false),
            (vec![(1, 119), (2, 119), (3, 119)], false),
            (vec![(1, 120), (2, 121), (3, 0)], true),
            (vec![(1, -300), (2, -301), (3, -302)], true),
        ] {
            let verdict = seen(&differences, now).verdict(LIMIT, now);
            assert_eq!(verdict.is_err(), wrong, "{differences:?}: {verdict:?}");
        }
        let verdict = seen(&[(1, -300), (2, -301), (3, 0)], now).verdict(LIMIT, now);
        let said = "the clock of this host is 300 s ahead of those of brokers [1, 2], which lead 8 of 12 \
                    partitions of raw";
        assert_eq!(verdict, Err(said.to_owned()));
    }

    #[test]
    fn a_broker_that_leads_most_partitions_is_still_one() {
        let now = now();
        let mut seen = seen(&[(1, 600), (2, 0), (3, 0)], now);
        seen.leaders
            .values_mut()
            .take(9)
            .for_each(|leader| *leader = Some(1));
        assert_eq!(seen.verdict(LIMIT, now), Ok(()));
        // Nobody contradicts the only one that there is.
        seen.leaders
            .values_mut()
            .for_each(|leader| *leader = Some(1));
        assert!(seen.verdict(LIMIT, now).is_err());
        // Partitions without a leader agree to nothing.
        seen.leaders
            .values_mut()
            .take(6)
            .for_each(|leader| *leader = None);
        assert_eq!(seen.verdict(LIMIT, now), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_right_counts_at_once_and_a_measure_not_for_ever() {
        let then = now();
        let seen = seen(&[(1, 300), (2, 300), (3, 300)], then);
        assert!(seen.verdict(LIMIT, then).is_err());
        // No record came since, and our clock was set.
        assert_eq!(seen.verdict(LIMIT, later(then, 5, 299_000)), Ok(()));
        // It was right, and was set wrong.
        assert!(seen.verdict(LIMIT, later(then, 5, 600_000)).is_err());
        assert!(seen.verdict(LIMIT, later(then, 600, 0)).is_err());
        assert_eq!(seen.verdict(LIMIT, later(then, 601, 0)), Ok(()));
    }

    #[test]
    fn the_readiness_names_the_clock_and_the_gauge_the_broker() {
        let mut registry = Registry::default();
        let clocks = Clocks::new(&mut registry);
        let readiness = Readiness::default();
        clocks.led_by([(0, 7), (1, -1), (2, 7)].into_iter());
        clocks.report(&readiness, LIMIT);
        assert!(readiness.is_ready());
        let now = Now::get().wall_ms;
        clocks.compared(7, (now - 10, now - 700_010, now));
        clocks.report(&readiness, LIMIT);
        let reasons = readiness.reasons().join("\n");
        assert!(
            reasons.starts_with("clock: the clock of this host is 700 s ahead of"),
            "{reasons}"
        );
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("a page");
        let line = "sluice_clock_difference_seconds{broker=\"7\"} -700.0\n";
        assert!(page.contains(line), "{page}");
        clocks.compared(7, (now - 10, now - 5, now));
        clocks.report(&readiness, LIMIT);
        assert!(readiness.is_ready());
    }
}
