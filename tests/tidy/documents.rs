//! The documents: their lines, their links, and the paths of code that they name.

use std::path::Path;

/// The links of a Markdown text that point into the repository, without their anchors.
pub fn links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let local = targets.map(|target| target.split('#').next().unwrap_or_default());
    local
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' '))
        .collect()
}

/// What stands in back-quotes and is a path from the root of the repository.
pub fn paths<'a>(text: &'a str, root: &Path) -> Vec<&'a str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let named = quoted.filter(|name| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let head = name.split('/').next().unwrap_or_default();
        name.contains('/')
            && name.chars().all(plain)
            && !head.is_empty()
            && root.join(head).is_dir()
    });
    named
        .filter(|name| !name.starts_with("target/") && !name.starts_with(".cache/"))
        .collect()
}

/// Whether a line of a document may be as long as it likes: a row of a table, or one word.
pub fn unbroken(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('|')
        || !line
            .trim_start_matches(['-', '*', '#', '>', ' '])
            .contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_are_found() {
        let text =
            "[a](docs/a.md#b) [c](https://c) [d](#d) `tests/src/x.rs` `a/b` `tests` `make tests/x`";
        assert_eq!(links(text), ["docs/a.md"]);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(paths(text, &root), ["tests/src/x.rs"]);
    }
}
