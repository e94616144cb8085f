//! `sluice-memory`: what a lookup and an insert of the processor's memory cost, and a key in bytes,
//! beside a bare hash set of the same keys, and beside memory alone.
//!
//! A process of its own for each measure, with the processor's allocator, so that what the system
//! tells about it is about that. The last line of standard output is one JSON object.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde_json::json;
use sluice_processor::dedup::index::{FingerprintHasher, Memory};
use sluice_processor::dedup::pages::SmallPages;
use sluice_schemas::dedup_log::Entry;
use sluice_schemas::identity::Fingerprint;
use sluice_tests::identities::Identities;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many keys are asked for in a round, in random order.
const ASKED: u64 = 1_000_000;

/// How many keys are inserted at a time.
const RECORD: usize = 5_000;

/// The window over which the keys are spread, in seconds.
const WINDOW: u32 = 72 * 3600;

/// Fills one structure and asks it.
#[derive(Parser)]
struct Options {
    /// Which structure.
    #[arg(long, value_enum)]
    of: Structure,
    /// How many keys.
    #[arg(long)]
    keys: u64,
    /// Rounds of lookups; the median counts, and the best is told.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Begins the generator of the keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Structure {
    /// The processor's.
    Memory,
    /// The processor's as a restore fills it: put down first, and indexed then.
    Restored,
    /// The standard library's set of u128 under the hasher that the processor has.
    Set,
    /// No table: 32 bytes a key, of which a look reads the line of 64 that the key names. It is what the
    /// memory itself takes.
    Lines,
}

type Set = HashSet<u128, BuildHasherDefault<Head>>;

/// The set's keys are integers: their low half is the fingerprint's head.
#[derive(Default)]
struct Head(FingerprintHasher);

impl Hasher for Head {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[derive(Clone, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let identities = Identities {
        seed: options.seed,
        count: options.keys,
        newest: 1_800_000_000,
        window: WINDOW,
    };
    let asked = ASKED.min(options.keys);
    // Each is asked for once a round, in an order of chance; what is not there comes after what is.
    let hits: Vec<Fingerprint> = (0..asked)
        .map(|n| identities.identity(identities.chance(n) % options.keys))
        .collect();
    let misses: Vec<Fingerprint> = (0..asked)
        .map(|n| identities.identity(options.keys + identities.chance(n) % options.keys))
        .collect();
    let before = resident("VmRSS")?;
    let mut index = 0.0;
    let (insert, (hit, miss, held)) = match options.of {
        Structure::Restored => {
            let mut memory = Memory::new(WINDOW);
            let small = SmallPages::hold();
            let load = fill(&identities, |entries| {
                for entry in entries {
                    memory.load(entry.by_ref());
                }
            });
            drop(small);
            let start = Instant::now();
            while !memory.is_indexed() {
                memory.index_some();
            }
            index = nanoseconds(start.elapsed(), options.keys);
            let ask = |key: &Fingerprint| memory.event(key).is_some();
            (load, lookups(options, &hits, &misses, ask)?)
        }
        Structure::Memory => {
            let mut memory = Memory::new(WINDOW);
            let insert = fill(&identities, |entries| {
                for entry in entries {
                    memory.insert(entry);
                }
            });
            let ask = |key: &Fingerprint| memory.event(key).is_some();
            (insert, lookups(options, &hits, &misses, ask)?)
        }
        Structure::Set => {
            let mut set = Set::default();
            let insert = fill(&identities, |entries| {
                set.extend(
                    entries
                        .iter()
                        .map(|entry| u128::from_le_bytes(entry.identity)),
                );
            });
            let ask = |key: &Fingerprint| set.contains(&u128::from_le_bytes(*key));
            (insert, lookups(options, &hits, &misses, ask)?)
        }
        Structure::Lines => {
            let lines = vec![Line::default(); usize::try_from(options.keys.div_ceil(2))?];
            let touch = |key: &Fingerprint| {
                let named = u64::from_le_bytes(*key.first_chunk().expect("longer than that"));
                let line = &lines[(((named >> 32) * lines.len() as u64) >> 32) as usize];
                // It cannot tell one that is there.
                black_box(line.0[0]) == 0
            };
            let (hit, _, held) = lookups(options, &hits, &[], touch)?;
            (0.0, (hit, hit, held))
        }
    };
    let each = |bytes: u64| per(bytes.saturating_sub(before), options.keys);
    let report = json!({
        "keys": options.keys,
        "insert_nanoseconds": insert,
        "index_nanoseconds": index,
        "hit_nanoseconds": hit.median,
        "miss_nanoseconds": miss.median,
        "best_hit_nanoseconds": hit.best,
        "best_miss_nanoseconds": miss.best,
        "resident_bytes_a_key": each(held),
        "peak_bytes_a_key": each(resident("VmHWM")?),
    });
    println!("{report}");
    // Taking it apart would be measured by nobody.
    std::process::exit(0)
}

/// Inserts all, as many at a time as a record of the dedup-log has; nanoseconds each, without making
/// them.
fn fill(identities: &Identities, mut insert: impl FnMut(&[Entry])) -> f64 {
    let mut spent = Duration::ZERO;
    let mut entries = Vec::new();
    for n in 0..identities.count {
        entries.push(identities.entry(n));
        if entries.len() == RECORD || n + 1 == identities.count {
            let start = Instant::now();
            insert(&entries);
            spent += start.elapsed();
            entries.clear();
        }
    }
    nanoseconds(spent, identities.count)
}

/// What a lookup took in a round, in nanoseconds.
#[derive(Clone, Copy)]
struct Rounds {
    best: f64,
    median: f64,
}

impl Rounds {
    fn of(mut values: Vec<f64>) -> Result<Self> {
        values.sort_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().context("no rounds");
        Ok(Self {
            best: at(0)?,
            median: at(values.len() / 2)?,
        })
    }
}

/// What a hit and a miss took, of which each round asks for all, and the bytes held meanwhile.
fn lookups(
    options: &Options,
    hits: &[Fingerprint],
    misses: &[Fingerprint],
    ask: impl Fn(&Fingerprint) -> bool,
) -> Result<(Rounds, Rounds, u64)> {
    let (mut of_hits, mut of_misses) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (found, each) = round(hits, &ask);
        anyhow::ensure!(found == hits.len(), "only {found} keys were found");
        of_hits.push(each);
        let (found, each) = round(misses, &ask);
        anyhow::ensure!(found == 0, "{found} keys were found that are not there");
        of_misses.push(each);
    }
    let (hit, miss) = (Rounds::of(of_hits)?, Rounds::of(of_misses)?);
    Ok((hit, miss, resident("VmRSS")?))
}

fn round(keys: &[Fingerprint], ask: &impl Fn(&Fingerprint) -> bool) -> (usize, f64) {
    let start = Instant::now();
    let found = keys.iter().filter(|key| black_box(ask(key))).count();
    (found, nanoseconds(start.elapsed(), keys.len() as u64))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and counts far below 2^53"
)]
fn per(amount: u64, count: u64) -> f64 {
    amount as f64 / count as f64
}

fn nanoseconds(spent: Duration, count: u64) -> f64 {
    let nanos = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
    per(nanos, count)
}

/// What the system says of this process's memory, in bytes.
fn resident(field: &str) -> Result<u64> {
    sluice_tests::harness::metrics::memory(std::process::id(), field)
}
