//! What all trials have in common: where they leave their traces, and how they end.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use sluice_tests::harness::process;

/// Where a trial's ledger and logs stand: in the target folder, next to the binaries. The number is the
/// trial's seed, or the time.
pub fn folder(trial: &str, seed: u64) -> Result<PathBuf> {
    let binary = process::find("sluice-ingest")?;
    let target = binary.ancestors().nth(2).context("a target folder")?;
    let folder = target.join(format!("{trial}/{seed}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// What a trial prints as its last line.
pub trait Report: Serialize {
    /// Whether the trial's promises held.
    fn holds(&self) -> bool;

    /// What broke, in sentences; none where the trial prints them on its way.
    fn faults(&self) -> &[String] {
        &[]
    }
}

/// Ends a trial: prints the faults, then the report as the last line of standard output. The folder is
/// removed where the report holds and kept where it does not. Returns whether it holds.
pub fn conclude(report: &impl Report, folder: Option<&Path>) -> Result<bool> {
    for fault in report.faults() {
        eprintln!("  fault: {fault}");
    }
    println!("{}", serde_json::to_string(report)?);
    if let Some(folder) = folder {
        if report.holds() {
            std::fs::remove_dir_all(folder)?;
        } else {
            eprintln!("the ledger and the logs are in {}", folder.display());
        }
    }
    Ok(report.holds())
}
