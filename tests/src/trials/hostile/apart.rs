//! Attacks that need services, topics or settings of their own: each gets them, with good traffic at the
//! attacked ingest and at one that nobody attacks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use sluice_tests::harness::cluster::Cluster;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::wire::Wire;

use super::attack::{Attack, Seen};
use super::options::{self, Options, certificate, panics};
use super::scene::{Outcome, Scene};
use super::watch::Machine;

/// Before good traffic is timed.
const WARM_UP: Duration = Duration::from_secs(3);

/// How long it is timed in quiet.
const QUIET: Duration = Duration::from_secs(2);

/// What such attacks have in common.
pub struct Place<'a> {
    pub cluster: &'a Cluster,
    pub options: &'a Options,
    /// Where outputs go.
    pub dir: PathBuf,
    pub machine: &'a Machine,
}

impl Place<'_> {
    /// An installation whose topics have this prefix, under the settings that were asked for.
    pub fn site(&self, prefix: &str) -> Result<Site> {
        options::site(self.options, prefix, &self.cluster.bootstrap())
    }

    /// The senders' way to ingest under these options.
    pub fn wire(&self, site: &Site) -> Result<Wire> {
        if self.options.tls {
            Wire::tls(&certificate(site), "http/1.1")
        } else {
            Ok(Wire::plain())
        }
    }

    pub fn time(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }
}

/// Runs one under good traffic. `second` are the settings of the ingest that nobody attacks, `wire` the good
/// senders'.
pub fn stage(
    attack: Attack,
    place: &Place<'_>,
    site: &Site,
    (second, wire): (&Value, &Wire),
    run: impl FnOnce(&mut Scene) -> Result<Seen>,
) -> Result<Outcome> {
    let mut scene = Scene::start(site, second, wire, place.options.rate)?;
    std::thread::sleep(WARM_UP);
    let from = Instant::now();
    std::thread::sleep(QUIET);
    let quiet = (from, Instant::now());
    eprintln!("{attack:?}: begins");
    let attacked = scene.under(attack, run)?;
    let mut done = scene.finish()?;
    let path = site.source(attack.provider())?.path();
    let timed = done.good.window(quiet.0, quiet.1);
    let mut outcome = done.outcome(attacked, &path, &timed, place.machine);
    if outcome.failed() > 0 {
        let failures = &done.good.failures;
        eprintln!("the first good requests that failed: {failures:?}");
    }
    let faults = &mut outcome.seen.faults;
    if let Err(error) = done.ingest.stop() {
        faults.push(format!("ingest did not end: {error:#}"));
    }
    let log = done.ingest.log()?;
    faults.extend(panics(&log));
    if !faults.is_empty() {
        keep(&place.dir, attack, &log)?;
    }
    Ok(outcome)
}

fn keep(dir: &Path, attack: Attack, log: &str) -> Result<()> {
    std::fs::write(dir.join(format!("ingest-{attack:?}.log")), log)?;
    Ok(())
}
