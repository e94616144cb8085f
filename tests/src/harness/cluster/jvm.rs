//! How a node's JVM is started, and where what it needs is.

use std::path::{Path, PathBuf};

/// What the nodes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Up in a second: the first compiler alone, 256 MB of heap.
    Tests,
    /// As fast as it gets once warm: both compilers, 512 MB of heap.
    Bench,
}

/// The release of Apache Kafka that the nodes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Release {
    /// The newest that Sluice is tested on. Its brokers drop the transaction markers of partitions that have
    /// no leader at that moment (KAFKA-20734).
    Current,
    /// One that keeps them until there is a leader.
    Control,
}

impl Release {
    /// The version, as its folder under `.cache` has it.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Current => "4.4.0",
            Self::Control => "4.2.2",
        }
    }

    /// The target of `make` that fetches it.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::Current => "kafka",
            Self::Control => "kafka-control",
        }
    }
}

/// As its version.
impl serde::Serialize for Release {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.version())
    }
}

/// The checkout that this harness was built in.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where `make` puts what it fetches.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

/// The folder of a release, with its jars and its class archive.
fn home(release: Release) -> PathBuf {
    cache().join(format!("kafka-{}", release.version()))
}

pub(super) fn libs(release: Release) -> PathBuf {
    home(release).join("libs")
}

pub(super) fn java() -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/java"),
        None => "java".into(),
    }
}

/// The arguments that come before the class to run.
pub(super) fn jvm(release: Release, purpose: Purpose, dir: &Path) -> Vec<String> {
    let mut arguments = match purpose {
        Purpose::Tests => vec!["-Xmx256m".to_owned(), "-XX:TieredStopAtLevel=1".to_owned()],
        Purpose::Bench => vec!["-Xmx512m".to_owned()],
    };
    arguments.extend([
        "-XX:+UseSerialGC".to_owned(),
        format!(
            "-XX:SharedArchiveFile={}",
            home(release).join("kafka.jsa").display()
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
        class_path(release),
    ]);
    arguments
}

/// The jars sorted by name: the class archive is good for this very text alone (tests/kafka/archive.sh).
fn class_path(release: Release) -> String {
    let mut jars: Vec<String> = std::fs::read_dir(libs(release))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .collect();
    jars.sort_unstable();
    jars.join(":")
}
