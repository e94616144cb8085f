//! Runs targets on the inputs that are kept in `tests/fuzz/corpus/`.
#![expect(clippy::disallowed_methods, reason = "inputs are files")]

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// The folder with one folder for each target.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus");

/// Runs each target on its inputs, of which there must be some. What an input shows is printed as it panics,
/// and its name at the end.
pub fn all(targets: &[super::Target]) {
    let mut found = Vec::new();
    for (name, target) in targets {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "tests/fuzz/corpus/{name} has no input");
        for (file, bytes) in inputs {
            if catch_unwind(|| target(&bytes)).is_err() {
                found.push(format!("tests/fuzz/corpus/{name}/{file}"));
            }
        }
    }
    assert!(
        found.is_empty(),
        "read in another way than expected: {found:#?}"
    );
}

/// The folders with inputs, which are called like their targets.
pub fn folders() -> Vec<String> {
    let folders = fs::read_dir(CORPUS).expect("tests/fuzz/corpus");
    let name = |folder: std::io::Result<fs::DirEntry>| folder.expect("a folder").file_name();
    let names = folders.map(|folder| name(folder).to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// The inputs of a target by the names of their files; none where it has no folder.
pub fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(Path::new(CORPUS).join(target));
    let paths = files
        .into_iter()
        .flatten()
        .map(|file| file.expect("a file").path());
    let mut inputs: Vec<(String, Vec<u8>)> = paths
        .map(|path| {
            let name = path.file_name().unwrap_or_default();
            let bytes = fs::read(&path).expect("a file that can be read");
            (name.to_string_lossy().into_owned(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}
