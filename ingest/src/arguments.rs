//! How the program is called.

use std::path::PathBuf;

/// How the program is called.
#[derive(Debug, clap::Parser)]
#[command(
    name = "sluice-ingest",
    version = sluice_service::VERSION,
    about = "HTTP in, durable raw record out"
)]
pub struct Arguments {
    /// The settings file.
    #[arg(long, env = "SLUICE_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Reads the settings, reports and exits.
    #[arg(long)]
    pub check: bool,
    /// A task instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does instead of serving.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Command {
    /// Brings a spool that a pod left behind to Kafka, and ends; takes no requests.
    Drain {
        /// What is older than `ingest.spool.max_age` too: the deduplication may not know it any more.
        #[arg(long)]
        older: bool,
        /// What is in quarantine too: have a look first, with `quarantine`.
        #[arg(long)]
        quarantined: bool,
        /// What is in quarantine because Kafka refused it too: earlier releases put there what was too large.
        #[arg(long)]
        refused: bool,
    },
    /// Lists what is in the quarantine of a spool that no process uses, a JSON object a line.
    Quarantine,
}
