//! Names the commit that is built, for `--version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=SLUICE_COMMIT");
    // A release names the commit that is checked out: each commit and each checkout appends to this file.
    // Another build may name an earlier one, so that a commit does not compile the whole workspace again.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| is_release && Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = std::env::var("SLUICE_COMMIT").ok();
    let commit = commit
        .filter(|commit| !commit.is_empty())
        .or_else(|| git(&["rev-parse", "--short", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let version = env!("CARGO_PKG_VERSION");
    println!("cargo::rustc-env=SLUICE_BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=SLUICE_VERSION={version} ({commit})");
}

/// What git prints; `None` where there is no git or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
