//! The disk under the spool.

use std::path::Path;

/// What is free on the disk of a path, in bytes, if the system reports it.
pub fn free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
