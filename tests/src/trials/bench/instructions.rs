//! Instructions in place of seconds: the services under valgrind's callgrind, which counts the same on a busy
//! machine. It runs one thread at a time and some fifty times slower, so a run is short; what the kernel does
//! for a process is not counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_schemas::metric::processor::FATES;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::{janitor, wait};

use super::load::Load;
use super::options::Options;
use super::{ingest, processor};

/// Raw records that the processor works through.
const RECORDS: u64 = 40_000;

/// Before counting begins at ingest: connections, metadata, the first pages.
const WARM_UP: Duration = Duration::from_secs(5);

/// For how long ingest is loaded.
const LOAD: Duration = Duration::from_secs(30);

/// For how long a service that runs so slowly may need for all of its work.
const PATIENCE: Duration = Duration::from_secs(300);

/// Instructions of ingest for a million requests.
pub fn ingest(site: &mut Site, options: &Options) -> Result<f64> {
    let requests = ingest::small_mixed(site)?;
    let counted = Counted::on(site)?;
    // A request that takes longer than this would be answered 503.
    site.set(&["ingest", "ack_timeout"], json!("30s"));
    let mut service = site.ingest()?;
    service.wait_ready()?;
    let mut load = Load::connect(site.listen(), options.connections, &requests)?;
    // Seconds say nothing here.
    let no_time = || Ok(Duration::ZERO);
    load.closed(WARM_UP, no_time)?;
    begin(&service)?;
    let answered = load.closed(LOAD, no_time)?.all;
    drop(load);
    service.stop()?;
    counted.per_million(answered)
}

/// Instructions of the processor for a million records.
pub fn processor(site: &mut Site, _: &Options) -> Result<f64> {
    processor::prepare(site, RECORDS)?;
    let counted = Counted::on(site)?;
    let mut service = site.processor("counted")?;
    let fates = FATES.exposed();
    wait::wait_for("all records to end", PATIENCE, || {
        let ended = service.metrics().map(|samples| samples.sum(&fates, &[]));
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let all = ended.is_ok_and(|ended| ended >= RECORDS as f64);
        Ok(all.then_some(()))
    })?;
    service.stop()?;
    counted.per_million(RECORDS)
}

/// A service that is counted.
struct Counted {
    /// Where callgrind writes what it counted when the service ends.
    file: PathBuf,
}

impl Counted {
    /// Has the site's next services run under callgrind.
    fn on(site: &mut Site) -> Result<Self> {
        let file = janitor::folder("callgrind")?.join("counts");
        let output = format!("--callgrind-out-file={}", file.display());
        let arguments = [
            "valgrind",
            "--tool=callgrind",
            "--fair-sched=yes",
            "--quiet",
        ];
        site.under = arguments.map(str::to_owned).to_vec();
        site.under.push(output);
        Ok(Self { file })
    }

    fn per_million(&self, done: u64) -> Result<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
        let (total, done) = (total(&self.file)? as f64, done as f64);
        Ok(total / done * 1e6)
    }
}

/// Drops what was counted of a service so far.
fn begin(service: &Service) -> Result<()> {
    let status = Command::new("callgrind_control")
        .args(["--zero", &service.id().to_string()])
        .output()
        .context("cannot start callgrind_control (valgrind)")?
        .status;
    ensure!(status.success(), "callgrind_control: {status}");
    Ok(())
}

/// The sum of a file of callgrind.
fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.context("callgrind wrote no totals")?;
    Ok(total.trim().parse()?)
}
