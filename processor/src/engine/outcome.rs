//! How a transaction ended, and what it leaves to the worker.

use std::collections::{BTreeMap, HashMap};

use sluice_schemas::dedup_log::Entry;
use sluice_schemas::fate::Fate;

use crate::engine::halt::Halt;
use crate::engine::observed::Observed;
use crate::kafka::{CallError, Failure};
use crate::pipeline::outgoing::FateLabels;

/// What a committed batch leaves to the worker of one partition.
#[derive(Debug, Default)]
pub struct JudgedPart {
    /// The epoch in which its records were read.
    pub epoch: u64,
    /// The offset after the last judged record.
    pub to: i64,
    /// The offsets of the judged records.
    pub offsets: Vec<i64>,
    /// The events that enter the dedup index.
    pub entries: Vec<Entry>,
}

/// What a committed batch leaves to the worker.
#[derive(Debug)]
pub struct BatchResult {
    /// By partition.
    pub judged: BTreeMap<i32, JudgedPart>,
    /// The topics of the fates that were written.
    pub topics: Vec<String>,
    /// The earliest timestamp of a fate, milliseconds since 1970.
    pub since_ms: i64,
    /// What to count.
    pub counts: HashMap<FateLabels, u64>,
    /// Records of refused and repeated deliveries, and their bytes, by fate.
    pub bytes: HashMap<Fate, (u64, u64)>,
    /// By source: events that carry a signature which no secret is configured for.
    pub unverified: BTreeMap<String, u64>,
    /// Partitions that stop before a record.
    pub halted: BTreeMap<i32, Halt>,
    /// For metrics and spans.
    pub observed: Observed,
}

impl Default for BatchResult {
    fn default() -> Self {
        Self {
            judged: BTreeMap::new(),
            topics: Vec::new(),
            since_ms: i64::MAX,
            counts: HashMap::new(),
            bytes: HashMap::new(),
            unverified: BTreeMap::new(),
            halted: BTreeMap::new(),
            observed: Observed::default(),
        }
    }
}

impl BatchResult {
    /// By partition, where the next batch begins.
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        let ends = self.judged.iter();
        ends.map(|(&partition, judged)| (partition, judged.to))
            .collect()
    }

    /// Adds the topic and the timestamp of a fate that was written.
    pub fn wrote(&mut self, topic: &str, timestamp_ms: i64) {
        self.since_ms = self.since_ms.min(timestamp_ms);
        if !self.topics.iter().any(|known| known == topic) {
            self.topics.push(topic.to_owned());
        }
    }
}

/// How a transaction ended.
#[derive(Debug)]
pub enum TxOutcome {
    /// All of it is there.
    Committed,
    /// None of it is there, and the producer goes on. `permanent`: operator action required at the broker.
    Aborted {
        /// What failed.
        why: String,
        /// It fails again until an operator repairs the broker.
        permanent: bool,
    },
    /// A record is of a source that is not known, and the settings change: none of it is there, and the
    /// batch is to be judged under the new ones.
    Outdated,
    /// The assignment is lost: none of it is there, and none of it is ours any more.
    Lost,
    /// A new producer is needed. `in_doubt`: the commit may have gone through.
    Broken {
        /// What failed.
        why: String,
        /// Whether the batch went through is not known: the audit finds out.
        in_doubt: bool,
        /// Another producer took the name.
        fenced: bool,
    },
}

impl TxOutcome {
    /// The name in metrics and spans.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted { .. } => "aborted",
            Self::Outdated => "outdated",
            Self::Lost => "lost",
            Self::Broken { in_doubt: true, .. } => "in_doubt",
            Self::Broken { .. } => "broken",
        }
    }

    /// All names.
    pub const NAMES: [&str; 6] = [
        "committed",
        "aborted",
        "outdated",
        "lost",
        "in_doubt",
        "broken",
    ];
}

/// An abort for a reason that may pass by itself.
pub fn aborted(why: &str) -> TxOutcome {
    failed(Failure {
        why: why.to_owned(),
        permanent: false,
    })
}

/// An abort because of a failure that the client reported.
pub fn failed(Failure { why, permanent }: Failure) -> TxOutcome {
    TxOutcome::Aborted { why, permanent }
}

/// A commit that was requested and not answered.
pub fn in_doubt(why: String, fenced: bool) -> TxOutcome {
    TxOutcome::Broken {
        why,
        in_doubt: true,
        fenced,
    }
}

/// A call that failed before a commit was asked for: abortable where the client says so, else only a
/// new producer helps.
pub fn broken(error: CallError) -> TxOutcome {
    match error {
        CallError::Abort(failure) => failed(failure),
        CallError::Again(why) => TxOutcome::Broken {
            why,
            in_doubt: false,
            fenced: false,
        },
        CallError::Broken { why, fenced } => TxOutcome::Broken {
            why,
            in_doubt: false,
            fenced,
        },
    }
}
