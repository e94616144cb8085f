//! Standard output.

use std::io::{self, Write};

/// Exit status where results cannot be written.
const NOT_WRITTEN: i32 = 1;

/// Writes a line; whether it was written. A reader that went away, such as `head`, changes neither what is
/// done nor the exit status; who writes for ever ends there. Any other fault, such as a full disk, ends the
/// process: what was done before a line is done, and no command goes on without its results.
pub fn line(text: &str) -> bool {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written
        .map_err(|error| end_unless_reader_is_gone(&error))
        .is_ok()
}

/// Writes a text as it is.
pub fn bytes(text: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out.write_all(text).and_then(|()| out.flush());
    if let Err(error) = written {
        end_unless_reader_is_gone(&error);
    }
}

/// Ends the process, unless the reader went away.
pub fn end_unless_reader_is_gone(error: &io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe {
        // Standard error may be on the same full disk.
        let _ = writeln!(
            io::stderr(),
            "error: standard output cannot be written: {error}"
        );
        std::process::exit(NOT_WRITTEN);
    }
}

/// A number of things, which have one where it is 1.
pub fn counted(count: u64, thing: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{s}")
}

/// A text of another's for a terminal: with U+FFFD for characters that steer one or turn its lines around.
pub fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let steers = |c: char| c.is_control() || turns(c);
    let shown = |c: char| if steers(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_stranger_steers_no_terminal() {
        let shown = plain("a\u{1b}[2Jb\rc\u{202e}d\u{9b}e ä");
        assert_eq!(shown, "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e ä");
    }
}
