//! `ingest.spool`: what is kept on disk while Kafka is away.

use std::path::PathBuf;
use std::time::Duration;

use crate::settings::reader::Node;

/// `ingest.spool`
#[derive(Debug, Clone, PartialEq)]
pub struct Spool {
    /// The folder, which one process at a time has to itself.
    pub dir: PathBuf,
    /// Bytes of records at most; past that senders are answered 503.
    pub max_bytes: u64,
    /// The share of `max_bytes` that one source may take, 0 to 1, where there are several. Any sender that
    /// the source accepts can use it up, and then all senders of that source are answered 503.
    pub source_share: f64,
    /// How old a record may be, by its time of receipt, to be brought to Kafka without the operator's
    /// decision.
    pub max_age: Duration,
    /// How long the brokers' acknowledgement is waited for before a request is spooled.
    pub wait: Duration,
    /// Records that are brought to Kafka a second, at most.
    pub drain_rate: u32,
    /// The operator's decision that records older than `max_age` are brought to Kafka too.
    pub drain_older: bool,
}

/// The shortest and the longest wait before a request is spooled. Less would spool what a broker that
/// collects garbage is about to acknowledge.
const WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// The least room worth a spool: a few of the largest records.
const LEAST_BYTES: u64 = 4 << 20;

/// The most records a second that may be asked for.
const MOST_RATE: i64 = 1_000_000;

/// A flood of one source leaves as much for all others together.
const SOURCE_SHARE: f64 = 0.5;

const HOUR: Duration = Duration::from_secs(3600);

/// `None` where no folder is named.
pub(super) fn spool(mut node: Node, ack_timeout: Duration) -> Option<Spool> {
    let dir = node.text("dir").map(PathBuf::from);
    let max_bytes = node.size("max_bytes", 1 << 30);
    let source_share = node.number("source_share", SOURCE_SHARE, 0.01, 1.0);
    let max_age = node.positive_duration("max_age", 24 * HOUR);
    let wait = node.duration("wait", Duration::from_secs(1).min(ack_timeout));
    let drain_rate = node.integer("drain_rate", 5_000, 1, MOST_RATE);
    let drain_older = node.flag("drain_older", false);
    if dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
        node.fault("dir", "must be an absolute path");
    }
    if max_bytes < LEAST_BYTES {
        node.fault("max_bytes", "must be at least 4MiB");
    }
    if !(WAIT.0..=WAIT.1).contains(&wait) || wait > ack_timeout {
        node.fault("wait", "must be from 50ms to 1m and at most ack_timeout");
    }
    node.finish();
    Some(Spool {
        dir: dir?,
        max_bytes,
        source_share,
        max_age,
        wait,
        drain_rate: u32::try_from(drain_rate).unwrap_or(1),
        drain_older,
    })
}
