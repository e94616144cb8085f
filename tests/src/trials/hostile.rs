//! What the internet sends: good traffic goes on in quiet, then under one attack after the other.
//!
//! The trial holds where each bad request gets its answer, no good request fails, ingest's memory stays
//! within its bound, and nothing stands on raw that was smuggled in. Times are printed and not judged.
//! Attackers come from 127.0.0.1, good traffic from another address, so that bounds by peer can keep them
//! apart. A second ingest that nobody attacks gets the same traffic: what is slow there too is the
//! machine's, which attackers share.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, listen_of};
use sluice_tests::harness::janitor;
use sluice_tests::harness::wire::{Wire, write_certificate};
use sluice_tests::load::ledger::now_micros;

use crate::trials::frame;

mod attack;

pub mod flood;

mod idle;

mod watch;

mod run;

mod smuggling;

mod tools;

use attack::{Attack, Front};
use run::Run;

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long each attack goes on, in seconds; those that wait for the server's times take longer.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// How long good traffic is timed in quiet, in seconds.
    #[arg(long, default_value_t = 10)]
    quiet: u64,
    /// Good requests a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Connections of an attack that holds them: more than ingest takes in all.
    #[arg(long, default_value_t = 1_200)]
    connections: usize,
    /// Everything over TLS.
    #[arg(long)]
    tls: bool,
    /// These attacks alone; may be repeated.
    #[arg(long = "attack", value_enum)]
    attacks: Vec<Attack>,
    /// A further setting, as PATH=JSON; may be repeated.
    #[arg(long = "set", value_parser = setting)]
    settings: Vec<(String, Value)>,
    /// Without the settings that this run gives by itself, for a build that does not know them.
    #[arg(long)]
    bare: bool,
}

/// Attackers are one peer; the bound leaves room for all others.
const PEER_CONNECTIONS: u32 = 256;

/// Kafka and its log take no more than this, in bytes.
const ROOM: u64 = 4 << 30;

/// Runs all attacks; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let in_memory = janitor::in_memory(ROOM)?;
    eprintln!("starting Kafka and ingest");
    let cluster = Cluster::start(1, Purpose::Tests)?;
    let site = site(options, &cluster.bootstrap())?;
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let dir = frame::folder("hostile", now_micros() / 1_000)?;
    let front = front(options, &site, dir.clone())?;
    let baseline = site.settings_of_a_second()?;
    let mut untouched = site.start("sluice-ingest", "ingest", &baseline)?;
    untouched.wait_ready()?;
    let pace = (options.rate, Duration::from_secs(options.quiet));
    let mut run = Run::start(pace, &site, front, &ingest, listen_of(&baseline)?)?;
    for attack in Attack::all() {
        if options.attacks.is_empty() || options.attacks.contains(&attack) {
            run.under(attack, &mut ingest)?;
        }
    }
    let mut report = run.finish(options.tls, &site)?;
    report.in_memory = in_memory;
    if let Err(error) = ingest.stop() {
        report.faults.push(format!("ingest did not end: {error:#}"));
    }
    let log = ingest.log()?;
    let panics = log.lines().filter(|line| line.contains("panicked at"));
    report.faults.extend(panics.map(str::to_owned));
    report.holds = report.faults.is_empty();
    report.elapsed_seconds = start.elapsed().as_secs_f64();
    if !report.holds {
        std::fs::write(dir.join("ingest.log"), log)?;
    }
    frame::conclude(&report, report.holds, &report.faults, Some(&dir))
}

fn setting(text: &str) -> Result<(String, Value)> {
    let (path, value) = text.split_once('=').context("not PATH=JSON")?;
    Ok((path.to_owned(), serde_json::from_str(value)?))
}

fn site(options: &Options, bootstrap: &str) -> Result<Site> {
    let mut site = Site::new("", bootstrap)?;
    if !options.bare {
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

fn certificate(site: &Site) -> PathBuf {
    site.dir().join("tls.crt")
}

fn front(options: &Options, site: &Site, dir: PathBuf) -> Result<Front> {
    // Its requests are proved by the path alone, so each request with that path could become a record.
    let path = site.source("referralloop")?.path();
    let certificate = options.tls.then(|| certificate(site));
    let wire = match &certificate {
        Some(certificate) => Wire::tls(certificate, "http/1.1")?,
        None => Wire::plain(),
    };
    Ok(Front {
        address: site.listen(),
        path,
        wire,
        certificate,
        dir,
        seconds: options.seconds,
        connections: options.connections,
    })
}
