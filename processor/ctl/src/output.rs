//! Standard output.

use std::io::{self, Write};

/// Writes a line; whether it was written. A reader that went away, such as `head`, changes neither what is
/// done nor the exit status; who writes for ever ends there.
pub fn line(text: &str) -> bool {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    if let Err(error) = &written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("error: standard output cannot be written: {error}");
    }
    written.is_ok()
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
