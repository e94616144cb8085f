//! What the process does first, so that other users of its host see nothing of what it holds.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

/// Files and folders are made for this user alone, and no core dump is written, for it would hold secrets and
/// bodies. To be called first in `main`, before there are threads.
pub fn protect_process() {
    umask(Mode::RWXG | Mode::RWXO);
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        // Logs have no form yet, and the process can do its work.
        eprintln!("core dumps cannot be turned off: {error}");
    }
}
