//! One folder for all that a harness process writes, removed when the process ends, however it ends,
//! together with the disks that were mounted in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

/// The shell that waits for the end of its input, which is the end of the harness, and removes the
/// folder. Killed nodes may still be writing for a moment, so it tries again. Disks go first, and
/// `rm` never looks into one that would not go.
const JANITOR: &str = r#"trap '' INT TERM HUP; read -r _
for _ in 1 2 3 4 5; do
  while read -r _ at _; do case "$at" in "$1"/*) umount -l "$at" ;; esac; done < /proc/mounts
  rm -rf --one-file-system "$1" && exit
  sleep 0.2
done"#;

struct Place {
    dir: PathBuf,
    // Its standard input stays open for as long as this process lives.
    _janitor: Child,
}

static PLACE: OnceLock<Place> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where Linux has a disk in memory that anybody may use.
const MEMORY: &str = "/dev/shm";

/// From here on folders are in memory where it has so many bytes of room: for what is timed and is not
/// about disks. To be called before there is a folder; whether they are.
pub fn in_memory(room: u64) -> Result<bool> {
    let has_room = rustix::fs::statvfs(MEMORY)
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= room);
    if has_room && PLACE.get().is_none() {
        let place = open(Path::new(MEMORY))?;
        PLACE.get_or_init(|| place);
    }
    Ok(PLACE
        .get()
        .is_some_and(|place| place.dir.starts_with(MEMORY)))
}

/// A new folder of its own, whose name begins with `name`.
pub fn folder(name: &str) -> Result<PathBuf> {
    let place = if let Some(place) = PLACE.get() {
        place
    } else {
        let place = open(&std::env::temp_dir())?;
        PLACE.get_or_init(|| place)
    };
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = place.dir.join(format!("{name}-{n}"));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Removes a folder that [`folder`] made, ahead of the end.
pub fn remove(dir: &Path) {
    // What is left is the janitor's.
    let _ = std::fs::remove_dir_all(dir);
}

/// Makes a folder that is a disk of its own, in memory, of so many MiB. Needs root.
pub fn mount(dir: &Path, mib: u64) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "sluice-tests"])
        .arg(dir)
        .output()
        .context("cannot start mount (util-linux)")?;
    if !output.status.success() {
        bail!(
            "a disk of its own needs root: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Takes the disk away, even where files on it are open.
pub fn unmount(dir: &Path) -> Result<()> {
    let status = Command::new("umount").arg("-l").arg(dir).status()?;
    if !status.success() {
        bail!("cannot unmount {}", dir.display());
    }
    Ok(())
}

fn open(dir: &Path) -> Result<Place> {
    let dir = tempfile::Builder::new()
        .prefix("sluice-tests-")
        .tempdir_in(dir)
        .context("cannot make a temporary folder")?
        .keep();
    // In a session of its own, so that a Ctrl-C at the terminal does not reach it.
    let janitor = Command::new("setsid")
        .args(["sh", "-c", JANITOR, "janitor"])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start setsid (util-linux)")?;
    Ok(Place {
        dir,
        _janitor: janitor,
    })
}
