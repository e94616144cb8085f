//! The closed list of what can go wrong.

use anyhow::{Result, bail};
use serde::Serialize;

use super::processes::Point;
use super::world::World;
use super::{brokers, network, processes};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Links to brokers are slow.
    NetSlow,
    /// All services go to an older build and back, one after the other.
    Upgrade,
    /// A processor is killed before the coordinator hears of its transaction.
    KillBeforeBegin,
    /// … after some outcomes were written.
    KillAfterProduces,
    /// … when all is written and the commit is not asked for.
    KillAfterOffsets,
    /// … when the commit was sent and not heard of.
    KillCommitSent,
    /// … when the commit was heard of.
    KillAfterCommit,
    /// A processor is killed at any time.
    KillProcessor,
    /// A process of ingest is killed.
    KillIngest,
    /// A processor sleeps past its session.
    Zombie,
    /// … with its request to commit on the way.
    ZombieCommit,
    /// Two processes run under one member's name.
    SameName,
    /// A partition is revoked and comes straight back during an abort.
    GiveBack,
    /// A member joins and leaves every few seconds.
    Churn,
    /// The reply to a commit stays away for a minute.
    InDoubt,
    /// A node is killed.
    BrokerKill,
    /// A node is killed and stays away until all that came was judged without it.
    BrokerAway,
    /// A node stands still.
    BrokerPause,
    /// All nodes are restarted in turn.
    RollingRestart,
    /// The coordinators' nodes are killed.
    CoordinatorKill,
    /// Links are reset.
    NetCut,
    /// Links stand still.
    NetStall,
    /// Links work in one direction.
    NetHalfOpen,
    /// A node's disk is full.
    DiskFull,
    /// A node's clock is ten minutes ahead.
    Clocks,
    /// All nodes are gone.
    Outage,
    /// Brokers come back without the markers of transactions, in worlds of their own.
    Torn,
}

impl Kind {
    /// Every kind.
    pub fn all() -> Vec<Self> {
        <Self as clap::ValueEnum>::value_variants().to_vec()
    }

    /// Lets it happen and heals it. Gives how many faults that were.
    pub fn inject(self, world: &mut World) -> Result<u64> {
        match self {
            Self::NetSlow => Ok(network::slow(world)),
            Self::Upgrade => processes::upgrade(world),
            Self::KillBeforeBegin => processes::kill_point(world, Point::BeforeBegin),
            Self::KillAfterProduces => processes::kill_point(world, Point::AfterSomeProduces),
            Self::KillAfterOffsets => processes::kill_point(world, Point::AfterSendOffsets),
            Self::KillCommitSent => processes::kill_point(world, Point::CommitSent),
            Self::KillAfterCommit => processes::kill_point(world, Point::AfterCommit),
            Self::KillProcessor => processes::kill_processor(world),
            Self::KillIngest => processes::kill_ingest(world),
            Self::Zombie => processes::zombie(world),
            Self::ZombieCommit => processes::zombie_commit(world),
            Self::SameName => processes::same_name(world),
            Self::GiveBack => processes::give_back(world),
            Self::Churn => processes::churn(world),
            Self::InDoubt => Ok(processes::in_doubt(world)),
            Self::BrokerKill => brokers::kill(world),
            Self::BrokerAway => brokers::away(world),
            Self::BrokerPause => brokers::pause(world),
            Self::RollingRestart => brokers::rolling_restart(world),
            Self::CoordinatorKill => brokers::kill_coordinators(world),
            Self::NetCut => Ok(network::cut(world)),
            Self::NetStall => Ok(network::stall(world)),
            Self::NetHalfOpen => Ok(network::half_open(world)),
            Self::DiskFull => brokers::fill_disk(world),
            Self::Clocks => brokers::clocks(world),
            Self::Outage => brokers::outage(world),
            Self::Torn => bail!("it has worlds of its own"),
        }
    }
}
