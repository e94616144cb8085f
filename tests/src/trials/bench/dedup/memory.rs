//! The memory beside a bare hash set, each of several sizes in a process of its own.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sluice_tests::harness::process::find;

use super::Options;

/// One measure: of lookups the median of the rounds, and their best; of bytes the most.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measure {
    keys: u64,
    /// Of a restored one: to put a key down.
    insert_nanoseconds: f64,
    /// Of a restored one: to index a key afterwards; else 0.
    index_nanoseconds: f64,
    hit_nanoseconds: f64,
    miss_nanoseconds: f64,
    best_hit_nanoseconds: f64,
    best_miss_nanoseconds: f64,
    resident_bytes_a_key: f64,
    peak_bytes_a_key: f64,
}

/// All sizes, and what a lookup among the most keys costs beside one among the fewest.
#[derive(Debug, Serialize)]
pub struct Memories {
    ours: Vec<Measure>,
    floor: Vec<Measure>,
    /// What it takes to read a line of memory, among as many.
    lines: Vec<Measure>,
    /// All keys, filled as a restore does.
    restored: Measure,
    pub hit_ratio: f64,
    pub miss_ratio: f64,
    /// Of the best rounds: what else the machine does only adds. Told, and not judged.
    best_hit_ratio: f64,
    best_miss_ratio: f64,
    floor_hit_ratio: f64,
    floor_miss_ratio: f64,
    lines_ratio: f64,
}

/// Measures a twentieth, a half and all of the identities.
pub fn measure(options: &Options) -> Result<Memories> {
    let all = options.identities;
    let sizes = [(all / 20).max(1), (all / 2).max(1), all];
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        for keys in sizes {
            eprintln!("round {round}: a memory of {keys} keys, a bare set, and bare lines");
            let measure = |structure| one(structure, keys, options.seed);
            rounds.push([measure("memory")?, measure("set")?, measure("lines")?]);
        }
    }
    let restored: Vec<Measure> = (0..options.rounds)
        .map(|_| one("restored", all, options.seed))
        .collect::<Result<_>>()?;
    let of = |structure: usize| -> Vec<Measure> {
        let of_size = |keys: &u64| {
            let measures = rounds.iter().map(|all| all[structure]);
            of_processes(&measures.filter(|one| one.keys == *keys).collect::<Vec<_>>())
        };
        sizes.iter().map(of_size).collect()
    };
    let (ours, floor, lines) = (of(0), of(1), of(2));
    let ratio = |measures: &[Measure], pick: fn(&Measure) -> f64| {
        measures.last().map_or(0.0, pick) / measures.first().map_or(0.0, pick)
    };
    Ok(Memories {
        hit_ratio: ratio(&ours, |one| one.hit_nanoseconds),
        miss_ratio: ratio(&ours, |one| one.miss_nanoseconds),
        best_hit_ratio: ratio(&ours, |one| one.best_hit_nanoseconds),
        best_miss_ratio: ratio(&ours, |one| one.best_miss_nanoseconds),
        floor_hit_ratio: ratio(&floor, |one| one.hit_nanoseconds),
        floor_miss_ratio: ratio(&floor, |one| one.miss_nanoseconds),
        lines_ratio: ratio(&lines, |one| one.hit_nanoseconds),
        ours,
        floor,
        lines,
        restored: of_processes(&restored),
    })
}

fn one(structure: &str, keys: u64, seed: u64) -> Result<Measure> {
    let output = Command::new(find("sluice-memory")?)
        .args(["--of", structure])
        .args(["--keys", &keys.to_string()])
        .args(["--seed", &seed.to_string()])
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().context("nothing was told")?;
    Ok(serde_json::from_str(line)?)
}

/// The median of each time, of the best ones the best, and the most of the bytes.
fn of_processes(measures: &[Measure]) -> Measure {
    let sorted = |pick: fn(&Measure) -> f64| {
        let mut values: Vec<f64> = measures.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let at = |values: Vec<f64>, place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    let median = |pick| at(sorted(pick), measures.len() / 2);
    let least = |pick| at(sorted(pick), 0);
    let most = |pick| at(sorted(pick), measures.len().saturating_sub(1));
    Measure {
        keys: measures.first().map_or(0, |one| one.keys),
        insert_nanoseconds: median(|one| one.insert_nanoseconds),
        index_nanoseconds: median(|one| one.index_nanoseconds),
        hit_nanoseconds: median(|one| one.hit_nanoseconds),
        miss_nanoseconds: median(|one| one.miss_nanoseconds),
        best_hit_nanoseconds: least(|one| one.best_hit_nanoseconds),
        best_miss_nanoseconds: least(|one| one.best_miss_nanoseconds),
        resident_bytes_a_key: most(|one| one.resident_bytes_a_key),
        peak_bytes_a_key: most(|one| one.peak_bytes_a_key),
    }
}
