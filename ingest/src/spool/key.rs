//! The key of the spool's folder. It proves that a record was written by the spool and is not part of a
//! body that somebody sent; salvage alone asks for that.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::OFlags;

/// The name of its file.
const KEY: &str = "spool.key";

/// Its name until it is whole.
const NEW: &str = "spool.key.new";

/// The name of a key that cannot be used.
const UNUSABLE: &str = "spool.key.unusable";

/// Bytes of a key.
const LENGTH: usize = 32;

/// Bytes of a tag: half of HMAC-SHA256.
pub const TAG: usize = 16;

/// The tag of a record's head.
pub type Tag = [u8; TAG];

/// A key in force.
#[derive(Debug, Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// Of its bytes.
    pub fn new(bytes: &[u8; LENGTH]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The tag of these bytes.
    pub fn tag(&self, bytes: &[u8]) -> Tag {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.0, bytes).as_ref()[..TAG]);
        tag
    }

    /// The key of a folder; made where there is none, and durable before this returns. `used`: the folder has
    /// records already. A key that is gone does not keep the spool from its work, so a new one is made, and
    /// neither does a full disk: then the key is held in memory alone.
    ///
    /// # Errors
    /// A new key cannot be written, for another reason than a full disk.
    pub fn of_folder(dir: &Path, used: bool) -> io::Result<Self> {
        let found = read(&dir.join(KEY));
        match found {
            Ok(bytes) => return Ok(Self::new(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if used {
                    tracing::warn!(
                        "spool.key is not there and a new one is made: should the spool be damaged, records \
                         from before now come into quarantine"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "spool.key cannot be used and a new one is made: should the spool be damaged, records \
                     from before now come into quarantine"
                );
                // Kept, where that can be done: it may be readable for somebody else.
                let _ = std::fs::rename(dir.join(KEY), unusable_name(dir));
            }
        }
        let bytes = random()?;
        durable_or_held(dir, &bytes, write(dir, &bytes))
    }
}

/// The key that was written, or could not be for want of room: what drains a full disk must be able to start.
fn durable_or_held(dir: &Path, bytes: &[u8; LENGTH], written: io::Result<()>) -> io::Result<Key> {
    match written {
        Err(error) if is_disk_full(&error) => {
            // Part of a key takes room, and the next start makes its own.
            let _ = std::fs::remove_file(dir.join(NEW));
            tracing::warn!(
                %error,
                "spool.key cannot be written and is held in memory until the next start: should the spool be \
                 damaged then, records from before come into quarantine"
            );
        }
        written => written?,
    }
    Ok(Key::new(bytes))
}

fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// A name that no file has, so that each unusable key is kept.
fn unusable_name(dir: &Path) -> PathBuf {
    let first = dir.join(UNUSABLE);
    let more = (1_u32..).map(|n| dir.join(format!("{UNUSABLE}.{n}")));
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
    let mut names = std::iter::once(first.clone()).chain(more.take(9_999));
    names.find(is_free).unwrap_or(first)
}

/// A regular file of the right length, and no link: a key that somebody else knows proves nothing.
fn read(path: &Path) -> io::Result<[u8; LENGTH]> {
    // Nonblocking, so that a pipe in its place does not hang the start.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let mut bytes = Vec::with_capacity(LENGTH + 1);
    file.take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    bytes
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not have 32 bytes"))
}

fn random() -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system's random numbers cannot be read"))?;
    Ok(bytes)
}

/// Makes the file of a key.
fn write(dir: &Path, bytes: &[u8; LENGTH]) -> io::Result<()> {
    let new = dir.join(NEW);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(KEY))?;
    // With its name: a record under a key that a crash takes away could not be proved.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_does_not_keep_the_spool_from_its_start() {
        let dir = tempfile::tempdir().expect("a folder");
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            std::fs::write(dir.path().join(NEW), "part of a key").expect("a file");
            let held = durable_or_held(dir.path(), &[7; LENGTH], Err(full.into()));
            let held = held.expect("a key in memory");
            assert_eq!(held.tag(b"head"), Key::new(&[7; LENGTH]).tag(b"head"));
            assert!(!dir.path().join(NEW).exists());
        }
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        assert!(durable_or_held(dir.path(), &[7; LENGTH], denied).is_err());
    }

    #[test]
    fn each_unusable_key_is_kept_under_a_name_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        for short in ["first", "second", "third"] {
            std::fs::write(dir.path().join(KEY), short).expect("a file");
            Key::of_folder(dir.path(), true).expect("a new key");
        }
        let kept = ["", ".1", ".2"].map(|end| {
            let kept = std::fs::read(dir.path().join(format!("{UNUSABLE}{end}")));
            String::from_utf8(kept.unwrap_or_default()).expect("text")
        });
        assert_eq!(kept, ["first", "second", "third"]);
    }
}
