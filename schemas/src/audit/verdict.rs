//! What an audit may find.

use std::collections::BTreeMap;

use serde::Serialize;

/// A raw record's place: partition and offset.
pub type Place = (i64, i64);

/// What must hold. A fault is a violation of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// Every request that was answered with 200 is on the raw topic.
    I1,
    /// Every raw record is in exactly one fate topic.
    I2,
    /// No two events share an id, and each duplicate names an event that exists.
    I3,
    /// Nothing is there that was never sent, and bytes are equal.
    I4,
    /// The order of an entity's requests is kept.
    I5,
    /// The services' own counts are those of the topics.
    I6,
    /// All of it settles within a bound.
    I7,
}

/// What the audit found. It holds when `faults` is empty.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// Requests answered with 200.
    pub acked: usize,
    /// Records of the raw topic.
    pub raw: usize,
    /// Records by the topic of their event.
    pub events: BTreeMap<String, usize>,
    /// Records of the duplicates' topic.
    pub duplicates: usize,
    /// Records of the rejected topic, by reason.
    pub rejected: BTreeMap<String, usize>,
    /// Records of the dead letters' topic, by reason.
    pub dead_letters: BTreeMap<String, usize>,
    /// How many faults were found.
    pub fault_count: usize,
    /// The same by what they violate.
    pub violations: BTreeMap<Invariant, usize>,
    /// Requests that were answered with 200 and are lost, and raw records without a fate.
    pub lost: usize,
    /// The raw records without a fate.
    #[serde(skip)]
    pub fateless: Vec<Place>,
    /// Raw records with more than one fate, and events that share an id or repeat their entity's last.
    pub doubled: usize,
    /// Raw records that repeat another one's request id: a producer wrote it a second time, because it
    /// did not hear of the first. Each has a fate of its own.
    pub rewritten: usize,
    /// The first of them, each a sentence.
    pub faults: Vec<String>,
}

/// More faults than anybody reads; the count covers the rest.
const FAULTS_KEPT: usize = 20;

impl Verdict {
    /// Whether all holds.
    pub fn holds(&self) -> bool {
        self.fault_count == 0
    }

    /// Records with a fate.
    pub fn fates(&self) -> usize {
        self.events.values().sum::<usize>()
            + self.duplicates
            + self.rejected.values().sum::<usize>()
            + self.dead_letters.values().sum::<usize>()
    }

    /// Notes a violation. Only the first few are kept as sentences.
    pub fn fault(&mut self, invariant: Invariant, sentence: String) {
        *self.violations.entry(invariant).or_default() += 1;
        self.remark(sentence);
    }

    /// Notes what must not be, and is no violation of an invariant.
    pub fn remark(&mut self, sentence: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(sentence);
        }
    }
}
