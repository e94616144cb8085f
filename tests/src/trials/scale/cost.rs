//! What one request or record costs a service.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sluice_tests::harness::metrics::{cpu_time, peak_memory};

use super::counted::{Counts, number};

/// What one request or record costs, as far as it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// In user space, under callgrind, but those by the clock.
    pub instructions: f64,
    /// Those by the clock, a second: of both services' clients, and of the processor's questions.
    pub instructions_a_second: f64,
    /// User and system: the median of the rounds.
    pub cpu_seconds_per_million: f64,
    /// How often a thread of the process waited, for a lock or anything else, for a thousand of them: the
    /// median of the rounds. No more locks were waited for.
    pub waits_per_thousand: f64,
    /// Of the processor, where instructions were counted.
    pub records_per_transaction: Option<f64>,
    pub peak_mebibytes: f64,
}

/// What the system says of a process.
pub struct Spent {
    cpu: Duration,
    waits: u64,
}

/// What a process spent for each of so many, in rounds.
#[derive(Default)]
pub struct Rounds {
    cpu: Vec<f64>,
    waits: Vec<f64>,
}

impl Spent {
    /// Until now.
    pub fn now(pid: u32) -> Result<Self> {
        let mut waits = 0;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end meanwhile.
            let status = std::fs::read_to_string(thread?.path().join("status"));
            waits += status.map_or(0, |status| voluntary(&status));
        }
        let cpu = cpu_time(pid)?;
        Ok(Self { cpu, waits })
    }
}

/// How often the thread with this status gave the processor away because it had to wait.
fn voluntary(status: &str) -> u64 {
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.map_or(0, |count| count.trim().parse().unwrap_or(0))
}

impl Rounds {
    /// One more round.
    pub fn add(&mut self, before: &Spent, after: &Spent, done: u64) {
        let done = number(done);
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        self.cpu.push(cpu / done * 1e6);
        let waits = number(after.waits.saturating_sub(before.waits));
        self.waits.push(waits / done * 1e3);
    }

    /// What they say, without instructions.
    pub fn cost(&self, pid: u32) -> Result<Cost> {
        Ok(Cost {
            instructions: 0.0,
            instructions_a_second: 0.0,
            cpu_seconds_per_million: median(&self.cpu),
            waits_per_thousand: median(&self.waits),
            records_per_transaction: None,
            peak_mebibytes: number(peak_memory(pid)?) / f64::from(1 << 20),
        })
    }
}

impl Cost {
    /// With what was counted for so many.
    pub fn counted(self, counts: Counts, done: u64) -> Self {
        Self {
            instructions: counts.by_work / number(done),
            instructions_a_second: counts.a_second,
            ..self
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_of_this_process_are_read() {
        assert_eq!(
            voluntary("Name:\tx\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n"),
            17
        );
        let pid = std::process::id();
        let before = Spent::now(pid).expect("this process");
        std::thread::sleep(Duration::from_millis(1));
        let after = Spent::now(pid).expect("this process");
        assert!(after.waits > before.waits);
    }

    #[test]
    fn the_median_of_the_rounds_counts() {
        let mut rounds = Rounds::default();
        for (cpu, waits) in [(10, 4), (30, 2), (20, 9)] {
            let spent = |cpu, waits| Spent {
                cpu: Duration::from_millis(cpu),
                waits,
            };
            rounds.add(&spent(5, 1), &spent(5 + cpu, 1 + waits), 1_000);
        }
        let cost = rounds.cost(std::process::id()).expect("this process");
        assert!((cost.cpu_seconds_per_million - 20.0).abs() < 1e-9);
        assert!((cost.waits_per_thousand - 4.0).abs() < 1e-9);
    }
}
