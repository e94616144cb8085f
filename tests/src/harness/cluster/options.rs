//! What a cluster is made of.

use std::collections::BTreeMap;

use super::jvm::{Purpose, Release};

/// What a cluster is made of. Nodes are counted from 0.
#[derive(Debug, Clone)]
pub struct Options {
    /// 1 or 3.
    pub nodes: usize,
    /// What the nodes run.
    pub release: Release,
    /// What the nodes are for.
    pub purpose: Purpose,
    /// Names of service processes, each with a proxy of its own before every node.
    pub slots: Vec<String>,
    /// Nodes whose data is on a disk of its own, and its MiB. Needs root.
    pub disks: BTreeMap<usize, u64>,
    /// Nodes whose wall clock is off, and by how much: `+600s`. Needs root and `make faketime`.
    pub clocks: BTreeMap<usize, String>,
    /// Whether the nodes ask an authorizer, which allows what no rule denies
    /// ([`super::Cluster::deny`]).
    pub authorizer: bool,
    /// Whether the nodes have listeners that ask who is there ([`Listener`]), and allow what a rule allows
    /// and no more ([`super::Cluster::rules`]). The harness may do anything.
    pub secured: bool,
}

/// A listener of a secured cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// SASL over TLS: PLAIN, SCRAM-SHA-512, OAUTHBEARER.
    Sasl,
    /// TLS with a certificate of the client, whose common name is the principal.
    MutualTls,
}

impl Default for Options {
    /// Three nodes for tests, with nothing special.
    fn default() -> Self {
        Self {
            nodes: 3,
            release: Release::Current,
            purpose: Purpose::Tests,
            slots: Vec::new(),
            disks: BTreeMap::new(),
            clocks: BTreeMap::new(),
            authorizer: false,
            secured: false,
        }
    }
}

/// What everybody is denied at a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// To write to it.
    Write,
    /// All there is, to see it too.
    All,
    /// Nothing.
    Nothing,
}

impl Denied {
    /// As `tests/kafka/Acl.java` takes it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::All => "all",
            Self::Nothing => "none",
        }
    }
}
