//! `make bench-dedup`: builds a dedup index of 20 million synthetic identities from encoded dedup-log
//! records, as a restore decodes them, and then forgets all of them while others come.
//!
//! The last line of standard output is one JSON object: the seconds of decoding and indexing, the bytes of
//! memory that a key takes at most, and the longest time that one record of 5,000 entries took. The exit
//! status is 0 only where seconds and bytes are within their bounds. The producer of the records is not
//! timed: in a restore the client's threads have that part.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_processor::dedup::index::DedupIndex;
use sluice_schemas::dedup_log::{DedupRecord, Entry};

// The processor's own, for it determines what a key takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IDENTITIES: u64 = 20_000_000;

/// How many entries a record has: as many as a full batch.
const RECORD: u64 = 5_000;

/// How many identities come while the others are forgotten: enough for the sweep to end.
const LATER: u64 = IDENTITIES / 32;

/// The window over which the identities are spread, in seconds: the default of the settings.
const WINDOW: u32 = 72 * 3600;

const NEWEST: u32 = 1_800_000_000;

const MAX_SECONDS: f64 = 5.0;

const MAX_BYTES_PER_KEY: f64 = 48.0;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut index = DedupIndex::new(WINDOW);
    let before = memory("VmRSS")?;
    let restored = feed(&mut index, 0..IDENTITIES, appended)?;
    let known = index.len();
    ensure!(u64::try_from(known)? == IDENTITIES, "{known} keys");
    let bytes = per_key(memory("VmHWM")?.saturating_sub(before));
    let later = NEWEST + 2 * WINDOW;
    let swept = feed(&mut index, IDENTITIES..IDENTITIES + LATER, |_| later)?;
    ensure!(u64::try_from(index.len())? == LATER, "forgotten keys count");

    let seconds = restored.total.as_secs_f64();
    let holds = seconds <= MAX_SECONDS && bytes <= MAX_BYTES_PER_KEY;
    println!(
        "{}",
        json!({
            "holds": holds,
            "identities": IDENTITIES,
            "seconds": seconds,
            "bytes_per_key": bytes,
            "longest_record_ms": milliseconds(restored.longest),
            "longest_record_of_sweep_ms": milliseconds(swept.longest),
            "bytes_per_key_after_sweep": per_key(memory("VmRSS")?.saturating_sub(before)),
            "expected": {"seconds": MAX_SECONDS, "bytes_per_key": MAX_BYTES_PER_KEY},
        })
    );
    Ok(holds)
}

struct Times {
    total: Duration,
    longest: Duration,
}

/// Decodes and indexes records of these identities, which are encoded while the clock stands.
fn feed(
    index: &mut DedupIndex,
    identities: std::ops::Range<u64>,
    appended: impl Fn(u64) -> u32,
) -> Result<Times> {
    let mut times = Times {
        total: Duration::ZERO,
        longest: Duration::ZERO,
    };
    let mut next = identities.start;
    while next < identities.end {
        let until = (next + RECORD).min(identities.end);
        let entries = (next..until).map(|n| Entry::numbered(n, appended(n)));
        let record = DedupRecord {
            from: i64::try_from(next)?,
            to: i64::try_from(until)?,
            partitions: 1,
            entries: entries.collect(),
        };
        let value = record.encode();
        let start = Instant::now();
        for entry in &DedupRecord::decode(&value)?.entries {
            index.insert(entry);
        }
        let time = start.elapsed();
        times.total += time;
        times.longest = times.longest.max(time);
        next = until;
    }
    Ok(times)
}

/// The append time of an identity: they are spread evenly over the window.
fn appended(n: u64) -> u32 {
    let behind = (IDENTITIES - n) * u64::from(WINDOW) / IDENTITIES;
    NEWEST - u32::try_from(behind).unwrap_or(WINDOW)
}

/// A field of the process's status, in bytes.
fn memory(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    let kibibytes: u64 = number.with_context(|| field.to_owned())?.parse()?;
    Ok(kibibytes * 1024)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and counts far below 2^53"
)]
fn per_key(bytes: u64) -> f64 {
    bytes as f64 / IDENTITIES as f64
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
