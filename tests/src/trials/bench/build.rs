//! What a change costs: the services of this build next to those of another, which stand in a folder.

use std::path::Path;

use anyhow::{Result, ensure};

use super::measure::Bench;
use super::pairs::{self, Pair};

/// Runs it; whether this build costs at most the bound.
pub fn run(bench: &Bench<'_>, folder: &Path) -> Result<bool> {
    for binary in ["sluice-ingest", "sluice-processor"] {
        ensure!(
            folder.join(binary).is_file(),
            "{} has no {binary}",
            folder.display()
        );
    }
    let pair = Pair {
        name: "build",
        bound: 1.03,
        base: &|site| site.build = Some(folder.to_owned()),
        changed: &|_| {},
    };
    pairs::run(bench, &pair)
}
