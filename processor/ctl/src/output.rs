//! Standard output.

use std::io::{self, Write};

/// Writes a line. A reader that went away, such as `head`, changes neither what is done nor the exit status.
pub fn line(text: &str) {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("error: standard output cannot be written: {error}");
    }
}
