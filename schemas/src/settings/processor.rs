//! `processor`: the group, its workers and the window.

use std::net::SocketAddr;
use std::time::Duration;

use super::restart::RestartRequired;
use super::values::{address, bounded, is_topic_byte};
use crate::settings::reader::Node;

/// `processor`
#[derive(Debug, Clone)]
pub struct Processor {
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin_listen: SocketAddr,
    /// The consumer group, without the prefix.
    pub group: String,
    /// The name of this process in the group: stable over restarts.
    pub member: String,
    /// How members join.
    pub membership: Membership,
    /// Worker threads.
    pub workers: u32,
    /// The longest time for which an event suppresses its repetitions.
    pub dedup_window: Duration,
    /// What the dedup indexes of all workers may take, in bytes; `None`: a share of what the process may
    /// take, and no bound where nobody bounds that.
    pub dedup_memory: Option<u64>,
    /// The operator's decision where to begin when the position is lost.
    pub begin: Option<Begin>,
    /// Whether events carry CloudEvents' headers.
    pub cloudevents_headers: bool,
}

/// `processor.membership`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// A restart is a leave and a join.
    Dynamic,
    /// `group.instance.id` is set: a restart within the session keeps the partitions.
    Static,
}

/// `processor.begin`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At raw's first record.
    Earliest,
    /// At raw's end: what stands there is left unjudged.
    Latest,
}

/// The longest name of a group or member, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// The most worker threads of a process.
const MAX_WORKERS: i64 = 256;

/// The default of `processor.dedup_window`: over twice what the most patient provider retries.
pub(super) const DEDUP_WINDOW: Duration = Duration::from_secs(72 * 3_600);

/// The least of `processor.dedup_memory`: less would not hold the tables of a few partitions.
const MIN_DEDUP_MEMORY: u64 = 1 << 20;

/// Reads `processor`.
pub(super) fn processor(mut node: Node, member: Option<&str>) -> Option<Processor> {
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
    let dedup_memory = node.optional_size("dedup_memory");
    if dedup_memory.is_some_and(|bytes| bytes < MIN_DEDUP_MEMORY) {
        node.fault("dedup_memory", "must be at least 1MiB");
    }
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
        dedup_memory,
        begin,
        cloudevents_headers,
    })
}

impl Processor {
    /// What is in force only after a restart stays as it was. Destructured, so that a
    /// new setting does not compile before it is decided here.
    pub(super) fn keep_from(&mut self, old: &Self, waiting: &mut RestartRequired) {
        let Processor {
            admin_listen,
            group,
            member,
            membership,
            workers,
            // Only what the sources made of it counts, and they are looked at one by one.
            dedup_window: _,
            // Asked for every few seconds.
            dedup_memory: _,
            begin,
            // Asked for with every event.
            cloudevents_headers: _,
        } = self;
        waiting.keep("processor.admin_listen", &old.admin_listen, admin_listen);
        waiting.keep("processor.group", &old.group, group);
        waiting.keep("processor.member", &old.member, member);
        waiting.keep("processor.membership", &old.membership, membership);
        waiting.keep("processor.workers", &old.workers, workers);
        // A partition that stopped for want of it is not tried again before a restart.
        waiting.keep("processor.begin", &old.begin, begin);
    }
}
