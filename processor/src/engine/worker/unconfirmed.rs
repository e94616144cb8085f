//! Commits that were answered, from then until they are proved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::engine::audit::Wanted;
use crate::engine::outcome::BatchResult;
use crate::kafka::Place;

/// What was seen is written down after this time without a transaction.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(5);

/// What a partition's commits have judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) epoch: u64,
    pub(super) to: i64,
    pub(super) offsets: Vec<i64>,
}

/// Some commits together.
#[derive(Debug)]
pub(super) struct Commits {
    pub(super) parts: BTreeMap<i32, Judged>,
    pub(super) topics: BTreeSet<String>,
    pub(super) since_ms: i64,
    pub(super) first: Option<Instant>,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            parts: BTreeMap::new(),
            topics: BTreeSet::new(),
            since_ms: i64::MAX,
            first: None,
        }
    }
}

impl Commits {
    pub(super) fn has_judged(&self) -> bool {
        self.parts.values().any(|part| !part.offsets.is_empty())
    }
}

/// Commits that were answered and not seen to be visible yet.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    /// Those that are waited for, and where their partitions outcome after them.
    pub(super) asked: Option<(Commits, BTreeMap<Place, i64>)>,
    /// Those since then.
    pub(super) fresh: Commits,
    /// Those that were seen to be visible. What was seen may have been an abort, by a process that had our
    /// name for a while: the next commit that succeeds proves that there was none.
    pub(super) seen: Vec<Commits>,
    pub(super) look_at: Option<Instant>,
    pub(super) outputs: Option<(Instant, Vec<Place>)>,
}

impl Unconfirmed {
    /// Takes the offsets that a transaction judged.
    pub fn add(&mut self, result: &mut BatchResult, now: Instant) {
        let fresh = &mut self.fresh;
        fresh.first.get_or_insert(now);
        fresh.since_ms = fresh.since_ms.min(result.since_ms);
        fresh.topics.extend(result.topics.drain(..));
        for (&partition, part) in &mut result.judged {
            let judged = fresh.parts.entry(partition).or_default();
            judged.epoch = part.epoch;
            judged.to = part.to;
            judged.offsets.append(&mut part.offsets);
        }
    }

    /// A transaction was committed, by the producer that committed all of it.
    pub fn proved(&mut self) {
        self.seen.clear();
    }

    /// Whether nothing has to be audited.
    pub fn is_proved(&self) -> bool {
        self.is_empty() && self.seen.is_empty()
    }

    /// Whether all was seen to be visible.
    pub fn is_empty(&self) -> bool {
        self.asked.is_none() && self.fresh.parts.is_empty()
    }

    /// Whether all was seen to be visible, and it is time to have that proved, or `at_once`.
    pub(super) fn is_due(&self, now: Instant, at_once: bool) -> bool {
        let committed = self.seen.last().and_then(|commits| commits.first);
        self.is_empty() && committed.is_some_and(|at| at_once || now >= at + CHECKPOINT_AFTER)
    }

    /// Has the next look come at once.
    pub fn look_now(&mut self) {
        self.look_at = None;
    }

    /// Forgets all of it: what it part is void.
    pub fn clear(&mut self) {
        self.asked = None;
        self.fresh = Commits::default();
        self.seen.clear();
    }

    /// In the order in which they were committed.
    fn all(&self) -> impl Iterator<Item = &Commits> {
        let asked = self.asked.as_ref().map(|(commits, _)| commits);
        self.seen.iter().chain(asked).chain([&self.fresh])
    }

    /// The raw records whose fates must be found.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted {
            since_ms: i64::MAX,
            ..Wanted::default()
        };
        for commits in self.all() {
            wanted.since_ms = wanted.since_ms.min(commits.since_ms);
            for (&partition, judged) in &commits.parts {
                let offsets = wanted.offsets.entry(partition).or_default();
                offsets.extend(&judged.offsets);
            }
        }
        wanted
    }

    /// By partition the epoch, and the offset below which all was judged.
    pub fn ends(&self) -> BTreeMap<i32, (u64, i64)> {
        self.all()
            .flat_map(|commits| &commits.parts)
            .map(|(&partition, judged)| (partition, (judged.epoch, judged.to)))
            .collect()
    }
}
