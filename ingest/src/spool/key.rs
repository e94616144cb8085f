//! The key of the spool's folder. It proves that a record was written by the spool and is not part of a
//! body that somebody sent; salvage alone asks for that.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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
    /// records already. A key that is gone does not keep the spool from its work, so a new one is made.
    ///
    /// # Errors
    /// A new key cannot be written.
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
                let _ = std::fs::rename(dir.join(KEY), dir.join(UNUSABLE));
            }
        }
        make(dir)
    }
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

fn make(dir: &Path) -> io::Result<Key> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system's random numbers cannot be read"))?;
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
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(KEY))?;
    // With its name: a record under a key that a crash takes away could not be proved.
    File::open(dir)?.sync_all()?;
    Ok(Key::new(&bytes))
}
