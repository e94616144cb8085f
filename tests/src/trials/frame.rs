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

/// Ends a trial: prints the faults (none where the trial prints them on its way), then the report as the last
/// line of standard output. The folder is removed where the trial holds and kept where it does not. Returns
/// whether it holds.
pub fn conclude(
    report: &impl Serialize,
    holds: bool,
    faults: &[String],
    folder: Option<&Path>,
) -> Result<bool> {
    for fault in faults {
        eprintln!("  fault: {fault}");
    }
    println!("{}", serde_json::to_string(report)?);
    if let Some(folder) = folder {
        if holds {
            std::fs::remove_dir_all(folder)?;
        } else {
            eprintln!("the ledger and the logs are in {}", folder.display());
        }
    }
    Ok(holds)
}
