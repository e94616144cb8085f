//! Comparing a text with a golden file. `UPDATE_GOLDEN=1` writes the file instead.

use std::fs;
use std::path::{Path, PathBuf};

/// How much of a differing line is shown on each side of the first difference, in characters.
const SHOWN: usize = 120;

/// Compares a text with the golden file of this name. Panics with the file and the first differing line.
pub fn compare(name: &str, text: &str) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the golden file is writable");
        return;
    }
    let shown = format!("tests/guards/golden/{name}");
    let golden = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{shown}: cannot be read: {error}"));
    if golden == text {
        return;
    }
    let (mut expected, mut found) = (golden.lines(), text.lines());
    for number in 1.. {
        let (expected, found) = (expected.next(), found.next());
        if expected == found && expected.is_some() {
            continue;
        }
        let (expected, found) = around_difference(
            expected.unwrap_or("(the end of the file)"),
            found.unwrap_or("(the end of the text)"),
        );
        panic!("{shown}:{number} differs\n  golden: {expected}\n  now:    {found}");
    }
}

/// The folder of the golden files: the crates move, the files do not.
fn folder() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = crates
        .ancestors()
        .map(|dir| dir.join("tests/guards/golden"));
    folders
        .into_iter()
        .find(|folder| folder.is_dir())
        .expect("tests/guards/golden stands at the repository's root")
}

/// Both lines, cut around their first difference: a value in hex may be long.
fn around_difference(expected: &str, found: &str) -> (String, String) {
    let pairs = expected.chars().zip(found.chars());
    let same = pairs.take_while(|(one, other)| one == other).count();
    let cut = |line: &str| {
        let from = same.saturating_sub(SHOWN);
        let text: String = line.chars().skip(from).take(2 * SHOWN).collect();
        let before = if from > 0 { "…" } else { "" };
        format!("{before}{text}")
    };
    (cut(expected), cut(found))
}
