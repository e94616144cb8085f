//! Programs whose clock is off, by libfaketime. Their monotonic clock is right, as it is on a machine
//! whose wall clock is wrong.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::harness::cluster::cache;

/// The program and the arguments that start `program` with a wall clock off by `offset`, written as
/// libfaketime has it: `+600s`, `-10m`.
///
/// The library leaves two files in `/dev/shm` when its program is killed, so the program gets a mount
/// namespace with a `/dev/shm` of its own, which goes when it goes. That needs root.
pub fn off(program: &Path, arguments: &[String], offset: &str) -> Result<(PathBuf, Vec<String>)> {
    let library = library();
    if !library.is_file() {
        bail!("{} is missing: make faketime", library.display());
    }
    let script = "mount -t tmpfs -o size=1m faketime /dev/shm && exec env \"$@\"";
    let mut all: Vec<String> = ["--mount", "--", "sh", "-c", script, "sh"]
        .map(str::to_owned)
        .into();
    all.extend([
        // For the program alone: every process under it would begin another piece of shared memory.
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME={offset}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        // It mends the time-outs of an old C library. With a later one, under which it is put on all
        // the same, a JVM's waits end at once and its threads spin.
        "FAKETIME_FORCE_MONOTONIC_FIX=0".to_owned(),
        program.display().to_string(),
    ]);
    all.extend_from_slice(arguments);
    Ok(("unshare".into(), all))
}

/// Where `make faketime` puts it: the variant for programs with threads.
fn library() -> PathBuf {
    cache().join("faketime/libfaketimeMT.so.1")
}
