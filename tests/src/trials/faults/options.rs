//! What a run of the fault schedules is asked for, and the world that it needs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::fleet::Role;
use super::kind::Kind;
use super::torn;
use super::world::{DISK_MIB, DISK_MIB_A_MINUTE, EXTRA, LANES, Setup};

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Choices repeat with the seed; without one the clock gives it.
    #[arg(long)]
    pub seed: Option<u64>,
    /// After every kind came once, goes on with kinds by chance until so many minutes are over.
    #[arg(long)]
    pub minutes: Option<u64>,
    /// These kinds alone; may be repeated.
    #[arg(long = "kind", value_enum)]
    pub kinds: Vec<Kind>,
    /// Requests a second.
    #[arg(long, default_value_t = 150)]
    pub rate: u32,
    /// `processor.membership`.
    #[arg(long, default_value = "dynamic", value_parser = ["dynamic", "static"])]
    pub membership: String,
    /// How long all brokers are gone, in seconds.
    #[arg(long, default_value_t = 20)]
    pub outage: u64,
    /// A folder with the binaries of an older build, for the kind `upgrade`.
    #[arg(long)]
    pub old: Option<PathBuf>,
    /// The longest that all may take to settle after a heal, in seconds.
    #[arg(long, default_value_t = 120)]
    pub bound: u64,
    /// Checks after every fault, and ends with the first that breaks something.
    #[arg(long)]
    pub stop_at_first_fault: bool,
    #[command(flatten)]
    pub torn: torn::Options,
}

impl Options {
    pub fn wants(&self, kind: Kind) -> bool {
        // Without an older build there is nothing to upgrade from.
        let every = self.kinds.is_empty() && (kind != Kind::Upgrade || self.old.is_some());
        every || self.kinds.contains(&kind)
    }

    /// Whether a kind is wanted in the world that most kinds share.
    pub fn shares(&self, kind: Kind) -> bool {
        kind != Kind::Torn && self.wants(kind)
    }

    pub fn setup(&self) -> Setup {
        let disk = DISK_MIB + DISK_MIB_A_MINUTE * self.minutes.unwrap_or(0);
        let membership: &[&str] = &["processor", "membership"];
        Setup {
            names: &[
                ("ingest-0", Role::Ingest),
                ("ingest-1", Role::Ingest),
                ("processor-0", Role::Processor),
                ("processor-1", Role::Processor),
                ("processor-2", Role::Processor),
                (EXTRA, Role::Processor),
            ],
            disk: self.wants(Kind::DiskFull).then_some(disk),
            settings: vec![(membership, json!(self.membership))],
            rate: self.rate,
            lanes: LANES,
            outage: Duration::from_secs(self.outage),
            old: self.old.clone(),
            ..Setup::default()
        }
    }
}
