//! What a worker keeps of its settling, of last stable offsets that stand still, and of a want of room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sluice_service::telemetry::Repeated;

use crate::engine::partitions::JudgedTo;
use crate::engine::transaction::Note;
use crate::kafka::Place;

/// What a transaction is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Of the batch, a partition in trouble alone is judged, or all that have none.
    Judge { alone: bool },
    /// These positions are written down.
    Write(Note, BTreeMap<i32, JudgedTo>),
}

/// A name that is not settled.
#[derive(Debug)]
pub struct Settling {
    pub(super) why: &'static str,
    pub(super) since: Instant,
    pub(super) swept_at: Option<Instant>,
    /// Partitions of raw whose offset was not seen to be decided since then. Other workers' offsets come and
    /// go: what was open at the beginning is decided once the offset was given at any time since.
    pub(super) offsets: BTreeSet<i32>,
    /// Another producer took the name during a sweep.
    pub(super) fenced: Option<String>,
    /// How many times [`WARN_AFTER`] must pass before the next error.
    pub(super) warnings: u32,
}

/// What is behind its partition's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) at: i64,
    pub(super) since: Instant,
    pub(super) reported: Option<Instant>,
}

/// The partitions whose last stable offset is behind their end.
#[derive(Debug, Default)]
pub struct Stability {
    pub(super) held: BTreeMap<Place, Held>,
    /// Partitions of raw whose offset is not given, since then.
    pub(super) offsets: BTreeMap<i32, Instant>,
    /// What stands still for this long is swept: longer after each sweep, for it may be somebody else's.
    pub(super) sweep_after: Duration,
    pub(super) looked: Option<Instant>,
    /// Another producer had the name.
    pub(super) fenced: Option<String>,
    /// How many partitions raw has now, where that is not what it had.
    pub(super) grown: Option<u32>,
    /// Counts the looks at the dedup-log, for their turns.
    pub(super) looks: usize,
    /// By partition, the offset in its dedup-log of what another group had written when it was first looked
    /// at.
    pub(super) overlaps: BTreeMap<i32, i64>,
}

/// What the metrics say of a worker's partitions now.
#[derive(Debug, Default)]
pub struct Shown {
    pub(super) at: Option<Instant>,
    pub(super) states: [i64; 5],
    pub(super) partitions: BTreeSet<i32>,
    pub(super) rebalances: u64,
}

/// What a worker knows while it judges nothing for want of room.
#[derive(Debug, Default)]
pub struct Room {
    /// Nothing is judged since then,
    pub(super) since: Option<Instant>,
    /// and the next look is then.
    pub(super) look_at: Option<Instant>,
    /// The partition that was looked at last.
    pub(super) looked: i32,
    /// Partitions of which all was judged: up to where, when that was first seen, and the brokers' time then.
    pub(super) ended: BTreeMap<i32, (i64, Instant, i64)>,
    /// The newest append time, and when it was known: the brokers' time is that and what has passed since.
    pub(super) newest: Option<(i64, Instant)>,
    pub(super) full_log: Repeated,
    pub(super) near_log: Repeated,
}

impl Room {
    /// Whether nothing may be judged.
    pub(super) const fn is_lacking(&self) -> bool {
        self.look_at.is_some()
    }
}
