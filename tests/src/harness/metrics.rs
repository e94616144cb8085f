//! What a process reports about itself, and what the system reports about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use sluice_service::telemetry::exposition;

use crate::harness::client;

/// The samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Sample>);

/// One line of OpenMetrics text.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name as it stands on the wire; counters end in `_total`.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Samples {
    /// Asks an admin port for `/metrics`.
    pub fn scrape(admin: SocketAddr) -> Result<Self> {
        let answer = client::get(admin, "/metrics")?;
        if answer.status != 200 {
            bail!("/metrics answered {}", answer.status);
        }
        Self::parse(&String::from_utf8(answer.body)?)
    }

    /// Reads OpenMetrics text; comments and metadata are passed over.
    pub fn parse(text: &str) -> Result<Self> {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let sample = exposition::sample(line);
                let (name, labels, value) =
                    sample.with_context(|| format!("not a sample: {line}"))?;
                Ok(Sample {
                    name: name.to_owned(),
                    labels: labels.into_iter().collect(),
                    value,
                })
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The sum of all samples of a name that have these labels, whatever else they have.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.named(name)
            .filter(|sample| {
                labels.iter().all(|(label, value)| {
                    sample
                        .labels
                        .get(*label)
                        .is_some_and(|found| found == value)
                })
            })
            .map(|sample| sample.value)
            .sum()
    }

    /// The samples of a name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

/// The most memory that a process ever held, in bytes (`VmHWM`).
pub fn peak_memory(pid: u32) -> Result<u64> {
    memory(pid, "VmHWM")
}

/// A figure of `/proc/PID/status`, in bytes: `VmRSS` is what a process holds now, `VmHWM` its most.
pub fn memory(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .with_context(|| format!("no {field}"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// The processor time that a process has used, user and system.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces, so the counting begins behind it.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let ticks: u64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or(0))
        .sum();
    // Linux reports ticks of 10 ms to user programs on every machine.
    Ok(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_by_labels() {
        let text = "# HELP sluice_fates Ended.\n# TYPE sluice_fates counter\n\
            sluice_fates_total{source=\"a\",fate=\"event\",reason=\"\"} 3\n\
            sluice_fates_total{source=\"b \\\"x\\\", }\",fate=\"event\",reason=\"\"} 4 # {trace=\"1\"} 1\n\
            up 1\n# EOF\n";
        let samples = Samples::parse(text).expect("samples");
        let sum = |labels: &[(&str, &str)]| samples.sum("sluice_fates_total", labels);
        assert!((sum(&[]) - 7.0).abs() < f64::EPSILON);
        assert!((sum(&[("source", "b \"x\", }")]) - 4.0).abs() < f64::EPSILON);
        assert!((sum(&[("source", "a"), ("reason", "")]) - 3.0).abs() < f64::EPSILON);
        assert!(sum(&[("source", "c")]).abs() < f64::EPSILON);
        assert!((samples.sum("up", &[]) - 1.0).abs() < f64::EPSILON);
        assert!(Samples::parse("nonsense").is_err());
    }

    #[test]
    fn the_system_reports_this_process() {
        let pid = std::process::id();
        assert!(peak_memory(pid).expect("memory") > 100_000);
        cpu_time(pid).expect("time");
    }
}
