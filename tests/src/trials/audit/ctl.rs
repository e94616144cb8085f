//! `sluicectl audit` over very many raw records: seconds, and the most memory that it held.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::metrics::peak_memory;
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::find;
use sluice_tests::load::mix::numbered::{Sums, expected, request};
use sluice_tests::load::raw::{Raw, Writer};

use crate::trials::frame;

/// How long the processor and the audit may each take.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    records: u64,
    fill_seconds: f64,
    judge_seconds: f64,
    audit_seconds: f64,
    peak_mebibytes: f64,
    expected: Sums,
    audit: Value,
}

/// Fills raw, lets the processor judge it, and audits; whether it balances with the numbers that it must
/// have.
pub fn run(records: u64) -> Result<bool> {
    eprintln!("starting Kafka and both services");
    let cluster = Cluster::start(1, Purpose::Bench)?;
    let mut site = Site::new("", &cluster.bootstrap())?;
    site.set(&["topics", "partitions"], json!(6));
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let mut processor = site.processor("audit")?;
    processor.wait_ready()?;
    ingest.stop()?;
    eprintln!("filling raw with {records} records");
    let since = Instant::now();
    fill(&site, records)?;
    let fill = since.elapsed();
    eprintln!("waiting for the processor");
    offsets::wait_caught_up(
        site.bootstrap(),
        &site.group(),
        &site.names().raw(),
        PATIENCE,
    )?;
    let judge = since.elapsed();
    processor.stop()?;
    eprintln!("sluicectl audit");
    let since = Instant::now();
    let (audit, peak) = audit(&site)?;
    let seconds = since.elapsed();
    let sums = expected(records);
    let found = |name: &str| audit[name].as_u64().unwrap_or_default();
    let holds = audit["balanced"] == json!(true)
        && found("raw") == records
        && found("events") == sums.events
        && found("duplicates") == sums.duplicates
        && found("rejected") == sums.rejected
        && found("dead_letters") == sums.dead_letters;
    #[expect(clippy::cast_precision_loss, reason = "a size for a person")]
    let report = Report {
        holds,
        records,
        fill_seconds: fill.as_secs_f64(),
        judge_seconds: judge.as_secs_f64(),
        audit_seconds: seconds.as_secs_f64(),
        peak_mebibytes: peak as f64 / 1_048_576.0,
        expected: sums,
        audit,
    };
    frame::conclude(&report, holds, &[], None)
}

/// Writes raw records as ingest does, without HTTP.
fn fill(site: &Site, records: u64) -> Result<()> {
    let writer = Writer::new(site.bootstrap())?;
    let (raw, at) = (site.names().raw(), now());
    for n in 0..records {
        let request = request(site, n, at)?;
        let source = source(site, &request)?;
        writer.write(&raw, Raw::new(source, request, n, at)?)?;
    }
    writer.flush()
}

/// The source that a request goes to.
fn source<'s>(site: &'s Site, request: &Outgoing) -> Result<&'s Source> {
    let found = site
        .sources
        .iter()
        .find(|source| source.path() == request.path);
    found.context("a source of the site")
}

/// What the audit printed, and the most memory that its process held.
fn audit(site: &Site) -> Result<(Value, u64)> {
    let settings = site.dir().join("ctl.yaml");
    std::fs::write(&settings, serde_json::to_vec(&site.settings)?)?;
    let out = site.dir().join("audit.json");
    let mut child = Command::new(find("sluicectl")?)
        .arg("--config")
        .arg(&settings)
        .args(["audit", "--json"])
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .spawn()?;
    let (deadline, mut peak) = (Instant::now() + PATIENCE, 0);
    while child.try_wait()?.is_none() {
        // Of a process that has just ended there is none.
        peak = peak_memory(child.id()).unwrap_or(peak).max(peak);
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("the audit did not end within {PATIENCE:?}");
        }
        std::thread::sleep(LOOK);
    }
    let printed = std::fs::read_to_string(&out)?;
    let report = serde_json::from_str(&printed).context("the audit printed no report")?;
    Ok((report, peak))
}
