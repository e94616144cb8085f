//! Which core the measured process has alone, and which cores the brokers and the load have.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// The cores, as `taskset` has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cores {
    /// Of the measured process, which nothing else of the benchmarks uses.
    pub measured: String,
    /// Of this process with its load, and of all that it starts otherwise: the brokers.
    pub others: String,
}

impl Cores {
    /// Divides the cores that this process may use, and leaves the measured one to others from now on: what
    /// is started inherits that. `None`, and nothing is pinned, where there is one core.
    pub fn divide() -> Result<Option<Self>> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .context("/proc/self/status names no cores")?;
        let Some(cores) = Self::of(allowed.trim())? else {
            eprintln!("there is one core: nothing is pinned, and all figures are noisy");
            return Ok(None);
        };
        let id = std::process::id().to_string();
        let pinned = Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", &cores.others, &id])
            .output()
            .context("cannot start taskset: apt-get install util-linux")?;
        ensure!(
            pinned.status.success(),
            "taskset cannot pin this process to cores {}: {}",
            cores.others,
            String::from_utf8_lossy(&pinned.stderr).trim()
        );
        eprintln!(
            "the measured process has core {}; brokers and load have {}",
            cores.measured, cores.others
        );
        Ok(Some(cores))
    }

    /// The last core for what is measured, for interrupts come to the first; `None` where it is the only one.
    fn of(list: &str) -> Result<Option<Self>> {
        let mut cores: Vec<u32> = Vec::new();
        for part in list.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                let number = text.parse::<u32>();
                number.with_context(|| format!("not a list of cores: {list}"))
            };
            cores.extend(number(from)?..=number(to)?);
        }
        let measured = cores.pop().context("an empty list of cores")?;
        let others: Vec<String> = cores.iter().map(u32::to_string).collect();
        Ok((!others.is_empty()).then(|| Self {
            measured: measured.to_string(),
            others: others.join(","),
        }))
    }

    /// The program and the arguments that a measured process is started under.
    pub fn under(&self) -> Vec<String> {
        ["taskset", "--cpu-list", &self.measured]
            .map(str::to_owned)
            .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_core_is_measured_and_one_core_is_not_divided() {
        let cores = |list: &str| Cores::of(list).expect("a list");
        let divided = |measured: &str, others: &str| {
            let [measured, others] = [measured, others].map(str::to_owned);
            Some(Cores { measured, others })
        };
        assert_eq!(cores("0-1"), divided("1", "0"));
        assert_eq!(cores("2,4-6,9"), divided("9", "2,4,5,6"));
        assert_eq!(cores("3"), None);
        for bad in ["", "0-x"] {
            assert!(Cores::of(bad).is_err(), "{bad}");
        }
    }
}
