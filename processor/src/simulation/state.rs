//! What the brokers in memory keep of members, transactional ids and producers, and the simulation's units.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::kafka::Failure;

/// Milliseconds and seconds, in the simulation's microseconds.
pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000 * MS;

/// A record as it stands in a log.
#[derive(Debug, Clone)]
pub struct Stored {
    pub offset: i64,
    pub appended_ms: i64,
    /// The timestamp that its producer gave it.
    pub created_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The transaction it belongs to; `None` where it stands without one.
    pub transaction: Option<u64>,
}

impl Stored {
    /// What it is found by when a time is asked for.
    pub fn timestamp(&self) -> i64 {
        self.created_ms.unwrap_or(self.appended_ms)
    }
}

/// After so long without a heartbeat a member is removed, as the processor's settings have it.
pub const SESSION: u64 = 10 * SECOND;

/// A client that has not joined: the broker takes its offsets from anybody.
pub const OUTSIDER: (u64, u64) = (0, 0);

/// A member of the group, with what its process knows.
#[derive(Debug)]
pub struct Member {
    pub frozen_since: Option<u64>,
    /// The group has removed it.
    pub removed: bool,
    /// From then on its process knows.
    pub removal_known: u64,
    /// The generation that its process knows.
    pub generation: u64,
    /// When it will know the newest.
    pub learns: u64,
    pub dead: bool,
}

/// After so long an open transaction is aborted, as the processor's settings have it.
pub const TRANSACTION: u64 = 30 * SECOND;

/// A transaction at its coordinator.
#[derive(Debug, Default)]
pub struct Open {
    pub id: u64,
    pub logs: BTreeSet<(String, i32)>,
    pub offsets: BTreeMap<i32, i64>,
    pub since: u64,
}

/// How far the end of a transaction has come.
#[derive(Debug)]
pub struct Ending {
    pub open: Open,
    pub commit: bool,
    /// When the next marker is written.
    pub next: u64,
    pub offsets_done: bool,
}

/// What the coordinator knows of a transactional id.
#[derive(Debug, Default)]
pub struct Name {
    pub epoch: u64,
    pub open: Option<Open>,
    pub ending: Option<Ending>,
    /// The last one that ended, and how.
    pub last: Option<(u64, bool)>,
}

/// A record in a producer's queue.
#[derive(Debug)]
pub struct Queued {
    pub topic: String,
    pub partition: i32,
    pub record: Stored,
    pub due: u64,
    /// The client will give up on it, though the broker may have it.
    pub fails: bool,
}

/// A producer's half that lives in its process.
#[derive(Debug)]
pub struct Client {
    pub name: String,
    pub epoch: u64,
    /// The transaction that it is in.
    pub transaction: u64,
    pub queue: VecDeque<Queued>,
    pub failure: Option<Failure>,
    /// A record of the transaction was lost: the client refuses to commit.
    pub poisoned: bool,
    pub frozen: bool,
}

impl Client {
    /// A record could not be delivered.
    pub fn fail(&mut self, topic: &str, why: &str, permanent: bool) {
        self.poisoned = true;
        self.failure.get_or_insert_with(|| Failure {
            why: format!("{topic}: {why}"),
            permanent,
        });
    }
}

/// A request to the transaction coordinator that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another producer has the name.
    Fenced,
    /// The last transaction's markers are not written yet.
    Concurrent,
    /// The member is of a past generation, or unknown.
    Generation,
    /// There is no such transaction.
    State,
}
