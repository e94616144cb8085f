//! What a benchmark measures of a service and of its floor, and what all rounds come to.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::cluster::Cluster;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets::delete_topics;

use super::case::Case;
use super::options::Options;
use super::pin::Cores;
use super::spread::Spread;

/// Where and how everything is measured.
pub struct Bench<'a> {
    pub bootstrap: String,
    /// The copies that a topic has.
    pub replicas: usize,
    pub cores: Option<&'a Cores>,
    pub options: &'a Options,
}

impl<'a> Bench<'a> {
    /// On these brokers.
    pub fn new(cluster: &Cluster, cores: Option<&'a Cores>, options: &'a Options) -> Self {
        Self {
            bootstrap: cluster.bootstrap(),
            replicas: cluster.len(),
            cores,
            options,
        }
    }

    /// What a measured process is started under.
    pub fn under(&self) -> Vec<String> {
        self.cores.map(Cores::under).unwrap_or_default()
    }

    /// A site with the default numbers of partitions, whose services have the measured core.
    pub fn site(&self, prefix: &str) -> Result<Site> {
        let mut site = Site::new(prefix, &self.bootstrap)?;
        site.under = self.under();
        site.set(&["topics", "partitions"], PARTITIONS.into());
        site.set(&["topics", "event_partitions"], 3.into());
        site.set(&["topics", "replication"], self.replicas.into());
        site.set(&["processor", "workers"], 1.into());
        Ok(site)
    }

    /// Removes all topics of a site, whose services have ended: brokers keep what they hold in memory.
    pub fn clear(&self, site: &Site) -> Result<()> {
        delete_topics(&self.bootstrap, &site.names().prefix)
    }
}

/// Partitions of raw, as by default: one worker reads them all, as one copy does.
pub const PARTITIONS: i32 = 12;

/// One round of a service or of its floor.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    pub per_second: f64,
    pub cpu_seconds_per_million: f64,
    pub peak_mebibytes: f64,
    /// What the processor's dedup index has of the peak.
    pub keys_mebibytes: f64,
}

impl Measure {
    /// Of some work. Memory is in bytes.
    pub fn new(done: u64, time: Duration, cpu: Duration, (peak, keys): (u64, u64)) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let done = done as f64;
        Self {
            per_second: done / time.as_secs_f64(),
            cpu_seconds_per_million: cpu.as_secs_f64() / done * 1e6,
            peak_mebibytes: mebibytes(peak),
            keys_mebibytes: mebibytes(keys),
        }
    }
}

/// A line for each round, for who waits, and for who wants to see which round was out of the ordinary.
pub fn print_round(number: u32, floor: &Measure, ours: &Measure) {
    eprintln!(
        "  round {number}: CPU s/M {:.1} floor, {:.1} ours; a second {:.0} floor, {:.0} ours",
        floor.cpu_seconds_per_million,
        ours.cpu_seconds_per_million,
        floor.per_second,
        ours.per_second
    );
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// All rounds of a service or of its floor.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    pub per_second: Spread,
    pub cpu_seconds_per_million: Spread,
    /// The most of any round, without the keys of the dedup index.
    pub peak_mebibytes: f64,
}

impl Figures {
    fn of(rounds: &[Measure]) -> Self {
        let spread = |figure: fn(&Measure) -> f64| Spread::of(rounds.iter().map(figure));
        Self {
            per_second: spread(|round| round.per_second),
            cpu_seconds_per_million: spread(|round| round.cpu_seconds_per_million),
            peak_mebibytes: spread(|round| round.peak_mebibytes - round.keys_mebibytes).max,
        }
    }
}

/// A service next to its floor.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    #[serde(flatten)]
    pub case: Case,
    /// The mean length of bodies.
    pub body_bytes: f64,
    pub rounds: usize,
    pub floor: Figures,
    pub ours: Figures,
    pub cpu_ratio: Spread,
    pub rate_ratio: Spread,
}

impl Compared {
    /// Of rounds of ours with the floor's before each.
    pub fn of(case: Case, body_bytes: f64, ours: &[Measure], floor: &[Measure]) -> Self {
        let ratio = |figure: fn(&Measure) -> f64| {
            let rounds = ours.iter().zip(floor);
            Spread::of_ratios(rounds.map(|(ours, floor)| (figure(ours), figure(floor))))
        };
        Self {
            case,
            body_bytes,
            rounds: ours.len(),
            floor: Figures::of(floor),
            ours: Figures::of(ours),
            cpu_ratio: ratio(|round| round.cpu_seconds_per_million),
            rate_ratio: ratio(|round| round.per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(records: u64, cpu_ms: u64, peak: u64) -> Measure {
        let (time, cpu) = (Duration::from_secs(2), Duration::from_millis(cpu_ms));
        Measure::new(records, time, cpu, (peak << 20, 10 << 20))
    }

    #[test]
    fn work_becomes_rates_and_seconds_per_million() {
        let measure = measure(100_000, 1_500, 30);
        assert!((measure.per_second - 50_000.0).abs() < 1e-6);
        assert!((measure.cpu_seconds_per_million - 15.0).abs() < 1e-6);
        assert!((measure.peak_mebibytes - measure.keys_mebibytes - 20.0).abs() < 1e-6);
    }

    #[test]
    fn ratios_are_of_the_rounds_and_memory_is_the_most_without_keys() {
        let ours = [
            measure(100, 3, 30),
            measure(100, 8, 90),
            measure(100, 4, 40),
        ];
        let floor = [
            measure(100, 2, 10),
            measure(200, 8, 10),
            measure(100, 2, 10),
        ];
        let compared = Compared::of(Case::HEADLINE, 1_000.0, &ours, &floor);
        let Spread { median, min, max } = compared.cpu_ratio;
        for (found, expected) in [(median, 2.0), (min, 1.5), (max, 2.0)] {
            assert!((found - expected).abs() < 1e-9, "{:?}", compared.cpu_ratio);
        }
        assert!((compared.rate_ratio.min - 0.5).abs() < 1e-9);
        assert!((compared.ours.peak_mebibytes - 80.0).abs() < 1e-9);
        assert_eq!(compared.rounds, 3);
    }
}
