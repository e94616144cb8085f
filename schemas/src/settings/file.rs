//! The settings file as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::ingest::{self, Ingest};
use super::kafka::{self, Kafka};
use super::processor::{self, DEDUP_WINDOW, Processor};
use super::registry::{self, SchemaRegistry};
use super::source::{self, Source};
use super::telemetry::{self, Telemetry};
use super::topics::{self, Topics};
use crate::identity::sha256;
use crate::settings::reader::{Fault, Faults, Node};

/// What the file says, complete and checked.
#[derive(Debug)]
pub struct Settings {
    /// How to reach Kafka.
    pub kafka: Kafka,
    /// Names, numbers and bounds of the topics.
    pub topics: Topics,
    /// Where schemas are registered; `None`: events are in single-object encoding.
    pub schema_registry: Option<SchemaRegistry>,
    /// Where secrets stand, one file each.
    pub secrets_dir: PathBuf,
    /// The webhook endpoints of ours, by name; disabled ones too.
    pub sources: BTreeMap<String, Source>,
    /// Ingest's own.
    pub ingest: Ingest,
    /// The processor's own.
    pub processor: Processor,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The file that they were read from.
    pub origin: Origin,
    /// The sizes that topics, clients and dedup indexes were made for at the start.
    pub(super) startup_limits: StartupLimits,
}

/// What reading depends on, apart from the file.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The name of this process in its group where the settings do not say.
    pub member: Option<&'a str>,
    /// What the Kafka client says against a property, and against its value where one is given.
    pub property_fault: &'a dyn Fn(&str, Option<&str>) -> Option<&'static str>,
}

/// Where settings came from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
}

/// The sizes of the start, which no later settings exceed or fall below: a topic that is made later
/// must take what the others do. Zero in settings as they are read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StartupLimits {
    /// The largest body, in bytes.
    pub(super) largest_body: u64,
    /// The longest window.
    pub(super) longest_window: Duration,
}

/// The largest settings file, in bytes: thousands of sources, and a bound on what is parsed.
pub const MAX_FILE_BYTES: usize = 4 << 20;

impl Settings {
    /// Checks what the file held. All faults are returned at once, each with its path in the file.
    pub fn parse(
        path: &Path,
        bytes: &[u8],
        environment: &Environment<'_>,
    ) -> Result<Self, Vec<Fault>> {
        let one = |message| vec![Fault::of_file(path, message)];
        let text = std::str::from_utf8(bytes).map_err(|_| one("is not UTF-8".to_owned()))?;
        let tree = parse(text).map_err(one)?;
        let origin = Origin {
            path: path.to_owned(),
            digest: sha256(bytes),
        };
        let faults = Faults::default();
        let root = Node::root(tree, &faults);
        let settings = settings(root, origin, &faults, environment);
        let faults = faults.take();
        match settings {
            Some(settings) if faults.is_empty() => Ok(settings),
            _ => Err(faults),
        }
    }
}

/// YAML into a tree; a key that stands twice is an error. No line of the file is quoted, for one may
/// hold what somebody put there by mistake.
fn parse(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let tree: Value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| format!("is not the YAML it should be: {error}"))?;
    if tree.is_object() || tree.is_null() {
        Ok(tree)
    } else {
        Err("must be a mapping".to_owned())
    }
}

/// `None` only where faults were added.
fn settings(
    mut root: Node,
    origin: Origin,
    faults: &Faults,
    environment: &Environment<'_>,
) -> Option<Settings> {
    let kafka = kafka::kafka(root.child("kafka"), environment.property_fault);
    let topics = topics::topics(root.child("topics"));
    let secrets_dir = PathBuf::from(
        root.text("secrets_dir")
            .unwrap_or_else(|| "/etc/sluice/secrets".to_owned()),
    );
    let schema_registry = registry::schema_registry(root.child("schema_registry"), &secrets_dir);
    let processor = processor::processor(root.child("processor"), environment.member);
    let longest = processor
        .as_ref()
        .map_or(DEDUP_WINDOW, |processor| processor.dedup_window);
    let sources = source::sources(root.child("sources"), longest, &secrets_dir, faults);
    let ingest = ingest::ingest(root.child("ingest"), &sources, &secrets_dir, faults);
    let telemetry = telemetry::telemetry(root.child("telemetry"), &secrets_dir);
    root.finish();
    Some(Settings {
        kafka,
        topics,
        schema_registry,
        secrets_dir,
        sources,
        ingest: ingest?,
        processor: processor?,
        telemetry,
        origin,
        startup_limits: StartupLimits::default(),
    })
}
