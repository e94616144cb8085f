//! What the trial is asked for, and the installations that follow from it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::wire::write_certificate;

use super::attack::Attack;

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long each attack goes on, in seconds; those that wait for the server's times take longer.
    #[arg(long, default_value_t = 8)]
    pub seconds: u64,
    /// How long good traffic is timed in quiet, in seconds.
    #[arg(long, default_value_t = 10)]
    pub quiet: u64,
    /// Good requests a second.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Connections of an attack that holds them: more than ingest takes in all.
    #[arg(long, default_value_t = 1_200)]
    pub connections: usize,
    /// How often a recorded request is sent again, as it is and in each way to rewrite it.
    #[arg(long, default_value_t = 100_000)]
    pub replays: u64,
    /// Everything over TLS.
    #[arg(long)]
    pub tls: bool,
    /// Threads on which ingest serves.
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// These attacks alone; may be repeated.
    #[arg(long = "attack", value_enum)]
    pub attacks: Vec<Attack>,
    /// A further setting, as PATH=JSON; may be repeated.
    #[arg(long = "set", value_parser = setting)]
    pub settings: Vec<(String, Value)>,
    /// Without the settings that this run gives by itself, for a build that does not know them.
    #[arg(long)]
    pub bare: bool,
}

/// Attackers are one peer; the bound leaves room for all others.
const PEER_CONNECTIONS: u32 = 256;

/// The lines of a log that are panics.
pub fn panics(log: &str) -> Vec<String> {
    let panics = log.lines().filter(|line| line.contains("panicked at"));
    panics.map(str::to_owned).collect()
}

fn setting(text: &str) -> Result<(String, Value)> {
    let (path, value) = text.split_once('=').context("not PATH=JSON")?;
    Ok((path.to_owned(), serde_json::from_str(value)?))
}

/// An installation whose topics have this prefix, under the settings that were asked for.
pub fn site(options: &Options, prefix: &str, bootstrap: &str) -> Result<Site> {
    let mut site = Site::new(prefix, bootstrap)?;
    if !options.bare {
        site.set(&["ingest", "threads"], json!(options.threads));
        site.set(
            &["ingest", "limits", "peer_connections"],
            json!(PEER_CONNECTIONS),
        );
    }
    if options.tls {
        let (certificate, key) = (certificate(&site), site.dir().join("tls.key"));
        write_certificate(&certificate, &key)?;
        let files = json!({"cert_file": certificate, "key_file": key});
        site.set(&["ingest", "tls"], files);
    }
    for (path, value) in &options.settings {
        let path: Vec<&str> = path.split('.').collect();
        site.set(&path, value.clone());
    }
    Ok(site)
}

/// Where its certificate stands, with TLS.
pub fn certificate(site: &Site) -> PathBuf {
    site.dir().join("tls.crt")
}
