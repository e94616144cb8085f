//! Troubles, the alert that each must raise, and how each is made and ended.

use std::time::Duration;

use anyhow::Result;
use sluice_tests::harness::cluster::Denied;

use super::traffic::Traffic;
use super::world::World;

/// A trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A source signs with a secret that is not ours.
    WrongSecret,
    /// The processor may not write to a topic any more.
    WriteDenied,
    /// The processor may not even see a topic any more.
    TopicDenied,
    /// A source that sent for long sends nothing.
    SilentSource,
    /// No broker answers.
    BrokersStopped,
    /// The spool is full.
    SpoolFull,
}

/// The bodies that fill the spool.
const LARGE: usize = 900_000;

impl Trouble {
    /// In their order: the spool fills while the brokers are still away.
    pub const ALL: [Self; 6] = [
        Self::WrongSecret,
        Self::WriteDenied,
        Self::TopicDenied,
        Self::SilentSource,
        Self::BrokersStopped,
        Self::SpoolFull,
    ];

    /// What it is.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongSecret => "a source signs with another secret",
            Self::WriteDenied => "the processor may not write to an event topic",
            Self::TopicDenied => "the processor may not see an event topic",
            Self::SilentSource => "a source is silent",
            Self::BrokersStopped => "the brokers are stopped",
            Self::SpoolFull => "the spool is full",
        }
    }

    /// The alert that it raises.
    pub const fn alert(self) -> &'static str {
        match self {
            Self::WrongSecret => "SluiceSignatureFailuresRise",
            Self::WriteDenied => "SluiceTransactionsAbort",
            Self::TopicDenied => "SluiceWorkerStuck",
            Self::SilentSource => "SluiceSourceSilent",
            Self::BrokersStopped => "SluiceSpoolFilling",
            Self::SpoolFull => "SluiceSpoolFull",
        }
    }

    /// How long the alert may take.
    pub const fn patience(self) -> Duration {
        match self {
            // It looks back a day, which is three minutes here.
            Self::SilentSource => Duration::from_secs(260),
            _ => Duration::from_secs(120),
        }
    }

    /// Makes it.
    pub(super) fn begin(self, world: &World, traffic: &Traffic) -> Result<()> {
        let flock = &world.site.source("flock")?.name;
        let waitlist = &world.site.source("referralloop")?.name;
        match self {
            Self::WrongSecret => traffic.forge(flock, true),
            Self::WriteDenied => world.cluster.deny(&Self::topic(world), Denied::Write)?,
            Self::TopicDenied => world.cluster.deny(&Self::topic(world), Denied::All)?,
            Self::SilentSource => traffic.silence(waitlist, true),
            Self::BrokersStopped => world.cluster.stop(0)?,
            Self::SpoolFull => traffic.pad(LARGE),
        }
        Ok(())
    }

    /// Ends it.
    pub(super) fn end(self, world: &World, traffic: &Traffic) -> Result<()> {
        let flock = &world.site.source("flock")?.name;
        let waitlist = &world.site.source("referralloop")?.name;
        match self {
            Self::WrongSecret => traffic.forge(flock, false),
            Self::WriteDenied | Self::TopicDenied => {
                world.cluster.deny(&Self::topic(world), Denied::Nothing)?;
            }
            Self::SilentSource => traffic.silence(waitlist, false),
            // The spool fills first.
            Self::BrokersStopped => {}
            Self::SpoolFull => {
                traffic.pad(0);
                world.cluster.restart(0)?;
                world.cluster.wait_ready()?;
            }
        }
        Ok(())
    }

    fn topic(world: &World) -> String {
        world.site.names().event("flowcode", "scan.created")
    }
}
