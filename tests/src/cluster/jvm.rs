//! How a node's JVM is started, and where what it needs is.

use std::path::{Path, PathBuf};

use super::Purpose;

/// The checkout that this harness was built in.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where `make` puts what it fetches.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

pub(super) fn libs() -> PathBuf {
    cache().join("kafka-4.4.0/libs")
}

pub(super) fn java() -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/java"),
        None => "java".into(),
    }
}

/// The arguments that come before the class to run.
pub(super) fn jvm(purpose: Purpose, dir: &Path) -> Vec<String> {
    let mut arguments = match purpose {
        Purpose::Tests => vec!["-Xmx256m".to_owned(), "-XX:TieredStopAtLevel=1".to_owned()],
        Purpose::Bench => vec!["-Xmx512m".to_owned()],
    };
    arguments.extend([
        "-XX:+UseSerialGC".to_owned(),
        format!(
            "-XX:SharedArchiveFile={}",
            cache().join("kafka-4.4.0/kafka.jsa").display()
        ),
        // Without the archive, or with one of another Java, it starts slower, and starts.
        "-Xshare:auto".to_owned(),
        "-Xlog:disable".to_owned(),
        // What a killed JVM would leave behind elsewhere: unpacked libraries and its statistics.
        format!("-Djava.io.tmpdir={}", dir.display()),
        "-XX:-UsePerfData".to_owned(),
        format!(
            "-Dlog4j2.configurationFile={}",
            root().join("tests/kafka/log4j2.properties").display()
        ),
        "-cp".to_owned(),
        class_path(),
    ]);
    arguments
}

/// The jars sorted by name: the class archive is good for this very text alone (tests/kafka/archive.sh).
fn class_path() -> String {
    let mut jars: Vec<String> = std::fs::read_dir(libs())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .collect();
    jars.sort_unstable();
    jars.join(":")
}
