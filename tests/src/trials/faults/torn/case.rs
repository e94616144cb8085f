//! What is tried: how the brokers go, on which release, and for how long.

use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;
use sluice_tests::harness::cluster::Release;

/// How the brokers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Case {
    /// The only node is killed under load, and comes back.
    #[value(name = "a")]
    #[serde(rename = "a")]
    Away,
    /// The only node is killed within 3 ms after a commit was answered.
    #[value(name = "b")]
    #[serde(rename = "b")]
    AtCommit,
    /// Of three nodes the one that alone has the event topics is gone when transactions with them commit.
    #[value(name = "c")]
    #[serde(rename = "c")]
    Leaderless,
    /// All three nodes are killed around a commit, and come back one after the other.
    #[value(name = "d")]
    #[serde(rename = "d")]
    AllNodes,
}

impl Case {
    /// How long the brokers are away, in seconds, round by round.
    pub fn rounds(self, short: bool, random: &mut Rng) -> Vec<u64> {
        match self {
            // Around the 30 s that a transaction lasts.
            Self::Away if short => vec![15, 27],
            Self::Away => vec![5, 15, 27, 40],
            Self::AtCommit => {
                let rounds = if short { ROUNDS_SHORT } else { ROUNDS };
                (0..rounds).map(|_| 1 + random.u64(..12)).collect()
            }
            Self::Leaderless => vec![8],
            Self::AllNodes => vec![2, 20],
        }
    }
}

/// How often a node is killed at a commit, and where the kind was not asked for by name.
pub const ROUNDS: usize = 4;
const ROUNDS_SHORT: usize = 2;

/// One world: a case, what the brokers run, and the seconds that they are away in each of its rounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    pub case: Case,
    pub release: Release,
    pub away_seconds: Vec<u64>,
}

impl Trial {
    /// What is tried in a new world after so many rounds, the last of which was at fault: how long brokers
    /// are away matters, so each length has its turn. Of other cases one fault is enough.
    pub fn rest(&self, rounds: usize) -> Option<Self> {
        let left = self.away_seconds.get(rounds..)?;
        (self.case == Case::Away && rounds > 0 && !left.is_empty()).then(|| Self {
            away_seconds: left.to_vec(),
            ..self.clone()
        })
    }
}

/// The longest that all may take to settle once the brokers are back, and how long is waited for it.
pub const BOUND: Duration = Duration::from_secs(60);
pub const PATIENCE: Duration = Duration::from_secs(120);
