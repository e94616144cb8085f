//! Files that the settings name: read whole, up to a bound, without waiting for another process.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The largest file of certificates or keys, in bytes: some hundred certificates.
pub const MAX_PEM_BYTES: u64 = 1 << 20;

/// Reads a regular file of `most` bytes at most; a link to one is as good. Anything else is an error that
/// names it: reading a FIFO or a terminal would wait for another process, at the start or while settings and
/// secrets are polled, and a device may have no end.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Looked at first, because some devices act when they are opened.
    regular(&std::fs::metadata(path)?)?;
    // And again, for it may have been replaced: to open a FIFO would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    regular(&file.metadata()?)?;
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        let message = format!("it is over {most} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

/// Whether a library may open this path, which reads it itself and would wait: it is a regular file or a
/// folder, or it is not there, which the library reports.
pub fn is_readable(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => regular(&found),
        _ => Ok(()),
    }
}

fn regular(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a FIFO",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    let message = format!("it is {what}, and must be a regular file");
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests;
