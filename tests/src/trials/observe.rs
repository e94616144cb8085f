//! Both services under a Prometheus and a Collector, through quiet, traffic and trouble: every query of every
//! panel must return data, each trouble must raise its alert, and at rest the sums must balance.
//!
//! The alerts are those of `helm/alerts` with their times divided, so that minutes pass in seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sluice_tests::balance::{Balance, balance};
use sluice_tests::harness::cluster::{cache, root};
use sluice_tests::harness::prometheus::python;
use sluice_tests::harness::wait::wait_for;

use crate::trials::frame;

mod traffic;

mod troubles;

mod world;

use traffic::Traffic;
use troubles::Trouble;
use world::World;

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where the pictures of the dashboards go; none are drawn without.
    #[arg(long)]
    draw: Option<PathBuf>,
}

/// Without traffic, before and after.
const QUIET: Duration = Duration::from_secs(20);

/// How long the last records may take to their commits.
const REST: Duration = Duration::from_secs(120);

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    /// Each trouble, the alert that it must raise, and after how many seconds it fired.
    alerts: BTreeMap<&'static str, Option<f64>>,
    /// Alerts that fired before the first trouble.
    too_early: BTreeSet<String>,
    balance: Balance,
    /// What `tests/telemetry/panels.py` says of all queries.
    panels: serde_json::Value,
    sent: u64,
    faults: Vec<String>,
    elapsed_seconds: f64,
}

/// Runs it; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let since = unix_seconds();
    eprintln!("starting Kafka, a Collector, Prometheus and both services");
    let mut world = World::start()?;
    eprintln!("quiet for {QUIET:?}");
    std::thread::sleep(QUIET);
    let quiet = unix_seconds();
    let traffic = Traffic::start(&world.site, &world.wire)?;
    let mut faults = Vec::new();
    let mut alerts = BTreeMap::new();
    std::thread::sleep(QUIET);
    let too_early = world.firing()?;
    for trouble in Trouble::ALL {
        eprintln!("trouble: {}", trouble.name());
        let raised = raise(&world, trouble, &traffic)?;
        match raised {
            Some(after) => eprintln!("  {} fired after {after:.1} s", trouble.alert()),
            None => faults.push(format!(
                "{}: {} did not fire",
                trouble.name(),
                trouble.alert()
            )),
        }
        alerts.insert(trouble.alert(), raised);
    }
    eprintln!("letting the traffic end, and all come to rest");
    let sent = traffic.finish();
    let balance = balance(&world.ingest, &world.processor, REST)?;
    if !balance.holds() {
        faults.push(format!("the sums do not balance: {balance:?}"));
    }
    std::thread::sleep(QUIET);
    let panels = panels(&world, (since, quiet), &mut faults)?;
    if let Some(folder) = &options.draw {
        draw(&world, since, folder)?;
    }
    world.ingest.stop()?;
    world.processor.stop()?;
    let report = Report {
        holds: faults.is_empty(),
        alerts,
        too_early,
        balance,
        panels,
        sent,
        faults,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    frame::conclude(&report, report.holds, &report.faults, None)
}

/// Makes a trouble, waits for its alert, and ends the trouble: the seconds until it fired.
fn raise(world: &World, trouble: Trouble, traffic: &Traffic) -> Result<Option<f64>> {
    // It may fire still of the trouble before.
    wait_for("the alert to end", trouble.patience(), || {
        Ok((!world.firing()?.contains(trouble.alert())).then_some(()))
    })?;
    let begun = Instant::now();
    trouble.begin(world, traffic)?;
    let fired = wait_for(trouble.alert(), trouble.patience(), || {
        let firing = world.firing()?;
        Ok(firing.contains(trouble.alert()).then_some(()))
    });
    let after = begun.elapsed().as_secs_f64();
    trouble.end(world, traffic)?;
    Ok(fired.is_ok().then_some(after))
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Asks every query of every panel over the whole run, and over its quiet beginning.
fn panels(
    world: &World,
    (since, quiet): (u64, u64),
    faults: &mut Vec<String>,
) -> Result<serde_json::Value> {
    let (since, quiet) = (since.to_string(), quiet.to_string());
    let output = python("panels.py")
        .arg(format!("http://{}", world.prometheus.address()))
        .args([&since, &unix_seconds().to_string()])
        .args(["--step", "2", "--interval", "15s"])
        .args(["--source", &world.site.source("flock")?.name])
        .args(["--quiet", &since, &quiet])
        .output()
        .context("Python is missing: make dashboards")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        faults.extend(text.lines().map(str::to_owned));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("panels.py said: {text}"))
}

fn draw(world: &World, since: u64, folder: &std::path::Path) -> Result<()> {
    let status = Command::new(cache().join("draw/bin/python"))
        .arg(root().join("tests/telemetry/draw.py"))
        .arg(format!("http://{}", world.prometheus.address()))
        .args([since.to_string(), unix_seconds().to_string()])
        .arg(folder)
        .args(["--source", &world.site.source("flock")?.name])
        .status()
        .context("the packages that draw are missing: make draw")?;
    if !status.success() {
        bail!("the dashboards could not be drawn");
    }
    Ok(())
}
