//! What the internet sends: good traffic goes on in quiet, then under one attack after the other.
//!
//! The trial holds where each bad request gets its answer, no good request fails, memory stays within each
//! attack's bound, and nothing stands on raw that was smuggled in. Good traffic keeps connections and opens
//! new ones all the time, to the attacked source and to others. A second ingest that nobody attacks gets the
//! same traffic: what is slow there too is the machine's, which attackers share. So a good request over 1 s
//! counts as a fault where the second ingest took less than 0.5 s in the same seconds, and other times are
//! printed and not judged. Attackers come from addresses of their own: many, or one where a bound by peer is
//! what ends them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::janitor;
use sluice_tests::harness::wire::Wire;
use sluice_tests::load::ledger::now_micros;

use crate::trials::frame;

mod apart;

mod attack;

mod chain;

pub mod flood;

mod frames;

mod idle;

mod options;

mod peers;

mod pipelined;

mod probe;

mod quiet;

mod replay;

mod rewritings;

mod run;

mod scene;

mod smuggling;

mod spool;

mod streams;

mod tools;

mod watch;

pub use options::Options;

use apart::Place;
use attack::{Attack, Front};
use options::{certificate, panics, site};
use run::{Report, Run};
use scene::Outcome;
use watch::Machine;

/// Kafka and its log take no more than this, in bytes.
const ROOM: u64 = 4 << 30;

/// Runs all attacks; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let in_memory = janitor::in_memory(ROOM)?;
    eprintln!("starting Kafka and ingest");
    let cluster = Cluster::start(1, Purpose::Tests)?;
    let dir = frame::folder("hostile", now_micros() / 1_000)?;
    let machine = Machine::watch();
    let asked = |attack: &Attack| options.attacks.is_empty() || options.attacks.contains(attack);
    let (alone, together): (Vec<_>, Vec<_>) = Attack::all()
        .filter(asked)
        .partition(|attack| attack.is_apart());
    let mut report = Report {
        tls: options.tls,
        in_memory,
        ..Report::default()
    };
    if !together.is_empty() {
        one_ingest(options, &cluster, &dir, (&together, &machine), &mut report)?;
    }
    let place = Place {
        cluster: &cluster,
        options,
        dir: dir.clone(),
        machine: &machine,
    };
    for attack in alone {
        report.attacks.push(apart(attack, &place)?);
    }
    report.judge();
    report.elapsed_seconds = start.elapsed().as_secs_f64();
    frame::conclude(&report, report.holds, &report.faults, Some(&dir))
}

/// Runs attacks on one ingest, one after the other.
fn one_ingest(
    options: &Options,
    cluster: &Cluster,
    dir: &Path,
    (attacks, machine): (&[Attack], &Machine),
    report: &mut Report,
) -> Result<()> {
    let site = site(options, "", &cluster.bootstrap())?;
    let front = front(options, &site, dir.to_owned())?;
    let pace = (options.rate, Duration::from_secs(options.quiet));
    let mut run = Run::start(pace, &site, front)?;
    for attack in attacks {
        run.under(*attack)?;
    }
    let log = run.finish(&site, machine, report)?;
    report.faults.extend(panics(&log));
    // Removed at the end where all holds.
    std::fs::write(dir.join("ingest.log"), log)?;
    Ok(())
}

/// Runs an attack that needs services of its own.
fn apart(attack: Attack, place: &Place<'_>) -> Result<Outcome> {
    let outcome = match attack {
        Attack::LongChain => chain::run(place),
        Attack::SpoolFill => spool::run(place),
        Attack::RecordedReplay => replay::run(place),
        other => anyhow::bail!("{other:?} needs nothing of its own"),
    }?;
    let seen = &outcome.seen;
    eprintln!("{attack:?}: {:?} {:?}", seen.answers, seen.figures);
    for fault in &seen.faults {
        eprintln!("  fault: {fault}");
    }
    Ok(outcome)
}

fn front(options: &Options, site: &Site, dir: PathBuf) -> Result<Front> {
    // Its requests are proved by the path alone, so each request with that path could become a record.
    let path = site.source("referralloop")?.path();
    let open = site.source("flock")?.path();
    let certificate = options.tls.then(|| certificate(site));
    let wire = match &certificate {
        Some(certificate) => Wire::tls(certificate, "http/1.1")?,
        None => Wire::plain(),
    };
    Ok(Front {
        address: site.listen(),
        path,
        open,
        wire,
        certificate,
        dir,
        seconds: options.seconds,
        connections: options.connections,
    })
}
