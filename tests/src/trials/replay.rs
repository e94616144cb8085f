//! `sluicectl replay` over many raw records: with the settings that they were judged by nothing differs, and
//! with one option changed exactly what it decides. Raw is written as ingest would, with repetitions,
//! sequences, forgeries, what was redriven, and a rotation of secrets half-way.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use serde::Serialize;
use serde_json::{Value, json};
use sluice_schemas::timestamp::rfc3339;
use sluice_service::kafka::read::{Isolation, Reader};
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::find;

use crate::trials::frame;

mod raw;

use raw::Raw;

/// What the run is asked for.
#[derive(clap::Args)]
pub struct Options {
    /// Raw records.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    records: u64,
}

/// How long the processor may take for half of the records.
const CATCH_UP: Duration = Duration::from_secs(600);

/// The provider whose secret is rotated.
const ROTATED: &str = "flowcode";

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    records: u64,
    /// How many of each kind were written.
    kinds: BTreeMap<&'static str, u64>,
    /// With the settings that all was judged by.
    unchanged: Value,
    /// With an environment that is accepted no more.
    changed: Value,
    /// What must differ then.
    expected: u64,
    replay_seconds: f64,
    replay_records_per_second: f64,
    consume_seconds: f64,
    consume_records_per_second: f64,
    /// The largest that `sluicectl` was, in MiB.
    peak_mib: u64,
    build: &'static str,
    faults: Vec<String>,
}

/// Runs it; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    eprintln!("starting Kafka and the processor");
    let cluster = Cluster::start(1, Purpose::Bench)?;
    let mut site = Site::new("", &cluster.bootstrap())?;
    site.set(&["topics", "partitions"], json!(6));
    let mut processor = site.processor("replay")?;
    processor.wait_ready()?;
    let mut raw = Raw::new(&site)?;
    let half = options.records / 2;
    eprintln!("writing {} records to raw", options.records);
    raw.write(&site, 0..half)?;
    caught_up(&site)?;
    let secret = rotate(&mut site)?;
    processor.stop()?;
    processor = site.processor("replay")?;
    processor.wait_ready()?;
    let rotated = site
        .sources
        .iter_mut()
        .find(|source| source.provider == ROTATED);
    rotated.context("the source")?.secret = secret;
    raw.write(&site, half..options.records)?;
    caught_up(&site)?;
    processor.stop()?;

    let (consumed, consume) = consume(&site)?;
    eprintln!("judging again under unchanged settings");
    let (unchanged, took, peak) = replay(&site, None)?;
    eprintln!("judging again with an environment less");
    let mut new = site.settings.clone();
    new["sources"][format!("my-{}", raw::CHANGED)]["options"]["environments"] = json!(["staging"]);
    let (changed, _, _) = replay(&site, Some(&new))?;
    let faults = faults(
        options.records,
        consumed,
        (&unchanged, &changed),
        raw.authentic,
    );
    let per_second = |took: Duration| rate(options.records, took);
    let report = Report {
        holds: faults.is_empty(),
        records: options.records,
        kinds: raw.kinds,
        unchanged,
        changed,
        expected: raw.authentic,
        replay_seconds: took.as_secs_f64(),
        replay_records_per_second: per_second(took),
        consume_seconds: consume.as_secs_f64(),
        consume_records_per_second: per_second(consume),
        peak_mib: peak,
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        faults,
    };
    frame::conclude(&report, report.holds, &report.faults, None)
}

/// What is not as it must be: under unchanged settings nothing differs; with one environment less, what is
/// authentic of its source.
fn faults(
    records: u64,
    consumed: u64,
    (unchanged, changed): (&Value, &Value),
    authentic: u64,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |name: &str, found: &Value, expected: u64| {
        if found != &json!(expected) {
            faults.push(format!("{name}: {found}, and it must be {expected}"));
        }
    };
    must("consumed", &json!(consumed), records);
    must("judged", &unchanged["judged"], records);
    must("same", &unchanged["same"], records);
    must("differences", &unchanged["differences"], 0);
    must("redriven", &unchanged["redriven"], 0);
    must("changed differences", &changed["differences"], authentic);
    let became = changed["changes"].as_array().map_or(&[][..], Vec::as_slice);
    let to = "dead_letter environment_not_accepted";
    let others = became.iter().filter(|one| one["judged"] != json!(to));
    must("other changes", &json!(others.count()), 0);
    faults
}

#[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
fn rate(records: u64, took: Duration) -> f64 {
    (records as f64 / took.as_secs_f64()).round()
}

fn caught_up(site: &Site) -> Result<()> {
    let raw = site.names().raw();
    offsets::wait_caught_up(site.bootstrap(), &site.group(), &raw, CATCH_UP)
}

/// A new secret from now on, and the old one until now: each request has one secret that fits its time.
fn rotate(site: &mut Site) -> Result<Vec<u8>> {
    let old = site
        .source(ROTATED)?
        .secret_file
        .clone()
        .context("a secret")?;
    let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let at = rfc3339(i64::try_from(millis)?).context("a time")?;
    let secret = b"whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3".to_vec();
    std::fs::write(site.secret_path("new-secret"), &secret)?;
    site.set(
        &["sources", &format!("my-{ROTATED}"), "secrets"],
        json!([
            {"name": "new-secret", "not_before": at, "key_id": "new"},
            {"name": old, "not_after": at},
        ]),
    );
    Ok(secret)
}

/// Reads raw once and does nothing with it.
fn consume(site: &Site) -> Result<(u64, Duration)> {
    let mut base = ClientConfig::new();
    base.set("bootstrap.servers", site.bootstrap());
    let raw = site.names().raw();
    let ends = offsets::ends(site.bootstrap(), &raw)?;
    let all = u64::try_from(ends.iter().sum::<i64>())?;
    let since = Instant::now();
    let reader = Reader::new(&base, &[raw], Isolation::Committed)?;
    let mut count = 0;
    while count < all {
        // The end of a partition is none either.
        count += u64::from(reader.next(Duration::from_millis(100))?.is_some());
        if since.elapsed() > CATCH_UP {
            bail!("{count} of {all} records came");
        }
    }
    Ok((count, since.elapsed()))
}

/// Runs the command: its summary, how long it took, and how large it was.
fn replay(site: &Site, new: Option<&Value>) -> Result<(Value, Duration, u64)> {
    let file = site.dir().join("ctl.yaml");
    std::fs::write(&file, serde_json::to_vec(&site.settings)?)?;
    let mut command = Command::new(find("sluicectl")?);
    command
        .arg("--config")
        .arg(file)
        .args(["replay", "--since", "3h", "--json"]);
    if let Some(new) = new {
        let file = site.dir().join("new.yaml");
        std::fs::write(&file, serde_json::to_vec(new)?)?;
        command.arg("--settings").arg(file);
    }
    let since = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let out = child.stdout.take().context("a pipe")?;
    let ended = AtomicBool::new(false);
    let (last, peak) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&status, &ended));
        let last = BufReader::new(out).lines().last();
        ended.store(true, Ordering::Relaxed);
        (last, watch.join().unwrap_or_default())
    });
    child.wait()?;
    let took = since.elapsed();
    let last = last.context("no output")??;
    Ok((serde_json::from_str(&last).context(last)?, took, peak))
}

/// The most memory that a process has until it ends, in MiB.
fn watch(status: &str, ended: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !ended.load(Ordering::Relaxed) {
        peak = high_water(status).max(peak);
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}

/// The most memory that a process had, in MiB.
fn high_water(status: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
