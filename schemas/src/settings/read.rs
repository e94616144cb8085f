//! Reading the file. Every default of the settings stands here, and every bound on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{
    Begin, Environment, Ingest, LogFormat, MadeFor, Membership, Origin, Processor, Retention,
    SchemaRegistry, Settings, Source, Telemetry, Topics, door, kafka, source, spool,
};
use crate::identity::sha256;
use crate::settings::reader::{Fault, Faults, Node};
use crate::topic::TopicNames;

/// The largest settings file, in bytes: thousands of sources, and a bound on what is parsed.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// The longest prefix, in bytes: with it and the longest event type, a name fits Kafka's 249.
const MAX_PREFIX_BYTES: usize = 64;

/// The longest name of a group or member, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// The most partitions of a topic. More would take the brokers longer than a start may last.
const MAX_PARTITIONS: i64 = 10_000;

/// The most worker threads of a process.
const MAX_WORKERS: i64 = 256;

/// The longest retention or window: the milliseconds of two of them must fit 63 bits with room.
const MAX_RETENTION: Duration = Duration::from_secs(100 * 366 * 86_400);

const DAY: Duration = Duration::from_secs(86_400);

/// The default of `processor.dedup_window`: over twice what the most patient provider retries.
const DEDUP_WINDOW: Duration = Duration::from_secs(72 * 3_600);

pub(super) const FILE_NAME: &str = "must be the name of a file directly under secrets_dir";

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
    let topics = topics(root.child("topics"));
    let secrets_dir = PathBuf::from(
        root.text("secrets_dir")
            .unwrap_or_else(|| "/etc/sluice/secrets".to_owned()),
    );
    let schema_registry = schema_registry(root.child("schema_registry"), &secrets_dir);
    let processor = processor(root.child("processor"), environment.member);
    let longest = processor
        .as_ref()
        .map_or(DEDUP_WINDOW, |processor| processor.dedup_window);
    let sources = source::sources(root.child("sources"), longest, &secrets_dir, faults);
    let ingest = ingest(root.child("ingest"), &sources, &secrets_dir, faults);
    let telemetry = telemetry(root.child("telemetry"));
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
        made_for: MadeFor::default(),
    })
}

fn topics(mut node: Node) -> Topics {
    let prefix = node.text("prefix").unwrap_or_default();
    if !prefix.bytes().all(is_topic_byte) || prefix.len() > MAX_PREFIX_BYTES {
        let message = format!("must be letters, digits, . _ - and at most {MAX_PREFIX_BYTES} long");
        node.fault("prefix", message);
    }
    let create = node.flag("create", false);
    let partitions = count(&mut node, "partitions", 12, MAX_PARTITIONS);
    let event_partitions = count(&mut node, "event_partitions", 3, MAX_PARTITIONS);
    let replication = count(&mut node, "replication", 3, 100);
    let mut kept = node.child("retention");
    let retention = Retention {
        raw: bounded(&mut kept, "raw", 7 * DAY),
        events: bounded(&mut kept, "events", 30 * DAY),
        duplicates: bounded(&mut kept, "duplicates", 7 * DAY),
        rejected: bounded(&mut kept, "rejected", 7 * DAY),
        dead_letter: bounded(&mut kept, "dead_letter", 30 * DAY),
    };
    kept.finish();
    let rejected_bytes = node.size("rejected_bytes", 1 << 30);
    if i64::try_from(rejected_bytes).is_err() {
        node.fault("rejected_bytes", "is more than Kafka can count");
    }
    node.finish();
    Topics {
        names: TopicNames { prefix },
        create,
        partitions,
        event_partitions,
        replication,
        retention,
        rejected_bytes,
    }
}

fn schema_registry(mut node: Node, secrets_dir: &Path) -> Option<SchemaRegistry> {
    let url = node.text("url");
    let register = node.flag("register", true);
    let username = node.text("username");
    let password_file = node.text("password_file");
    let ca_file = node.text("ca_file").map(PathBuf::from);
    if let Some(url) = &url {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            node.fault("url", "must begin with http:// or https://");
        }
        if url.contains(['@', '?', '#']) {
            node.fault(
                "url",
                "must be a base alone: no user, password, query or fragment",
            );
        }
    }
    if username.is_some() != password_file.is_some() {
        let missing = if username.is_some() {
            "password_file"
        } else {
            "username"
        };
        node.fault(
            missing,
            "is needed beside the other of username and password_file",
        );
    }
    node.finish();
    Some(SchemaRegistry {
        url: url?.trim_end_matches('/').to_owned(),
        register,
        username,
        // A name alone is a secret like others; with a slash it is a path, taken as it is.
        password_file: password_file.map(|file| {
            if file.contains('/') {
                PathBuf::from(file)
            } else {
                secrets_dir.join(file)
            }
        }),
        ca_file,
    })
}

fn ingest(
    mut node: Node,
    sources: &BTreeMap<String, Source>,
    secrets_dir: &Path,
    faults: &Faults,
) -> Option<Ingest> {
    let listen = address(&mut node, "listen", "0.0.0.0:8080");
    let admin_listen = address(&mut node, "admin_listen", "0.0.0.0:9090");
    let ack_timeout = wait(&mut node, "ack_timeout", 4);
    let header_timeout = wait(&mut node, "header_timeout", 10);
    let body_timeout = wait(&mut node, "body_timeout", 10);
    let max_buffered = node.size("max_buffered", 64 << 20);
    if let Some(source) = sources.values().max_by_key(|source| source.max_body)
        && source.max_body > max_buffered
    {
        let message = format!("is less than the largest body of source {}", source.name);
        node.fault("max_buffered", message);
    }
    // librdkafka counts its buffer in KiB, up to this many.
    if max_buffered / 1024 > 2_097_151 {
        node.fault("max_buffered", "must be under 2048 MiB");
    }
    let spool = spool::spool(node.child("spool"), ack_timeout, sources);
    let tls = door::tls(node.child("tls"), secrets_dir);
    let guarded = |source: &&Source| source.client_ca_file.is_some();
    if let Some(source) = sources.values().find(guarded)
        && tls.is_none()
    {
        faults.add(
            format!("sources.{}.client_ca_file", source.name),
            "needs ingest.tls: without it no certificate is seen",
        );
    }
    let peer = door::peer(node.child("peer"));
    let limits = door::limits(node.child("limits"), peer);
    node.finish();
    Some(Ingest {
        listen: listen?,
        admin_listen: admin_listen?,
        ack_timeout,
        header_timeout,
        body_timeout,
        max_buffered,
        spool,
        tls,
        peer,
        limits,
    })
}

fn processor(mut node: Node, member: Option<&str>) -> Option<Processor> {
    let admin_listen = address(&mut node, "admin_listen", "0.0.0.0:9091");
    let group = node
        .text("group")
        .unwrap_or_else(|| "sluice-processor".to_owned());
    let member = node.text("member").or_else(|| member.map(str::to_owned));
    for (key, name) in [("group", Some(&group)), ("member", member.as_ref())] {
        let valid = |name: &String| {
            (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_topic_byte)
        };
        if !name.is_some_and(valid) {
            let message = format!("must be letters, digits, . _ - and 1 to {MAX_NAME_BYTES} long");
            node.fault(key, message);
        }
    }
    let memberships = [
        ("dynamic", Membership::Dynamic),
        ("static", Membership::Static),
    ];
    let membership = node.choice("membership", &memberships, Membership::Dynamic);
    let workers = node.integer("workers", 1, 1, MAX_WORKERS);
    let dedup_window = bounded(&mut node, "dedup_window", DEDUP_WINDOW);
    let begins = [
        ("earliest", Some(Begin::Earliest)),
        ("latest", Some(Begin::Latest)),
    ];
    let begin = node.choice("begin", &begins, None);
    let cloudevents_headers = node.flag("cloudevents_headers", true);
    node.finish();
    Some(Processor {
        admin_listen: admin_listen?,
        group,
        member: member?,
        membership,
        // Within 1 and MAX_WORKERS, so it fits.
        workers: u32::try_from(workers).unwrap_or(1),
        dedup_window,
        begin,
        cloudevents_headers,
    })
}

fn telemetry(mut node: Node) -> Telemetry {
    let otlp_endpoint = node.text("otlp_endpoint");
    let trace_ratio = node.number("trace_ratio", 0.01, 0.0, 1.0);
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let log_format = node.choice("log_format", &formats, LogFormat::Json);
    node.finish();
    Telemetry {
        otlp_endpoint,
        trace_ratio,
        log_format,
    }
}

fn address(node: &mut Node, key: &str, default: &str) -> Option<SocketAddr> {
    let text = node.text(key).unwrap_or_else(|| default.to_owned());
    let address = text.parse().ok();
    if address.is_none() {
        node.fault(
            key,
            "must be an IP address and a port, such as 0.0.0.0:8080",
        );
    }
    address
}

fn count(node: &mut Node, key: &str, default: i32, most: i64) -> i32 {
    // `integer` holds the bounds, and the most is far below what fits.
    i32::try_from(node.integer(key, i64::from(default), 1, most)).unwrap_or(default)
}

/// A retention or a window.
pub(super) fn bounded(node: &mut Node, key: &str, default: Duration) -> Duration {
    let found = node.positive_duration(key, default);
    if found > MAX_RETENTION {
        node.fault(key, "is over a hundred years");
        return default;
    }
    // Windows are compared in whole seconds, and segments and retentions need no less.
    if found < Duration::from_secs(1) {
        node.fault(key, "must be at least 1s");
        return default;
    }
    found
}

/// A time for which one request may be waited for.
fn wait(node: &mut Node, key: &str, default_secs: u64) -> Duration {
    let default = Duration::from_secs(default_secs);
    let range = Duration::from_millis(100)..=Duration::from_secs(300);
    within(node, key, default, range, "must be from 100ms to 5m")
}

/// A duration within bounds, which `message` tells.
pub(super) fn within(
    node: &mut Node,
    key: &str,
    default: Duration,
    range: RangeInclusive<Duration>,
    message: &str,
) -> Duration {
    let found = node.duration(key, default);
    if range.contains(&found) {
        return found;
    }
    node.fault(key, message);
    default
}

/// Whether a byte may stand in the name of a topic.
fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether a text names a file directly under a directory: no path, nothing that leads out of it.
pub(super) fn is_file_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.contains(['/', '\\', '\0'])
        && !matches!(text, "." | "..")
}
