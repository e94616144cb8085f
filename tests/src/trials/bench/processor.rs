//! The processor next to a bare transactional copy, over the same raw records.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use sluice_schemas::metric::processor::{DEDUP, FATES};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::metrics::peak_memory;
use sluice_tests::harness::offsets::create_topic;
use sluice_tests::harness::wait;

use super::case::Case;
use super::children::{Floor, FloorProcess};
use super::fill::fill;
use super::measure::{Bench, Compared, Measure, print_round};
use super::options::Options;
use super::progress::Progress;

/// Bytes of the bodies of one round, at most.
const ROUND_BYTES: u64 = 512 << 20;

/// How long the copy may take to leave its group.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rounds of the floor and ours in turns, each on a site of its own: what an earlier round wrote would be
/// restored and audited by a later one.
pub fn point(bench: &Bench<'_>, case: Case, rounds: u32) -> Result<Compared> {
    let most = ROUND_BYTES / case.least_body_bytes.max(1) as u64;
    let numbers = 0..bench.options.records.min(most);
    let (mut ours, mut floor, mut body_bytes) = (Vec::new(), Vec::new(), 0.0);
    for number in 1..=rounds {
        let site = bench.site(&format!("processor-{}-{number}.", case.label()))?;
        make_topics(&site)?;
        let to = format!("{}floor", site.names().prefix);
        create_topic(&bench.bootstrap, &to, 3, &[])?;
        fill(&site, case, numbers.clone())?;
        let of_floor = copy(bench, &site, &to, &numbers)?;
        let of_ours = process(&site, &numbers)?;
        print_round(number, &of_floor, &of_ours);
        floor.push(of_floor);
        ours.push(of_ours);
        body_bytes = super::case::Maker::new(case, &site)?.body_bytes()?;
        bench.clear(&site)?;
    }
    Ok(Compared::of(case, body_bytes, &ours, &floor))
}

/// Ours alone, on a site of its own.
pub fn alone(site: &mut Site, options: &Options) -> Result<Measure> {
    prepare(site, options.records)?;
    process(site, &(0..options.records))
}

/// Makes the topics, and fills raw with records of all sources.
pub fn prepare(site: &Site, records: u64) -> Result<()> {
    make_topics(site)?;
    eprintln!("filling raw with {records} records");
    fill(site, Case::SMALL_MIXED, 0..records)
}

/// The services make the topics, and are not needed after that.
fn make_topics(site: &Site) -> Result<()> {
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let mut processor = site.processor("bench")?;
    processor.wait_ready()?;
    processor.stop()?;
    ingest.stop()
}

fn copy(bench: &Bench<'_>, site: &Site, to: &str, numbers: &Range<u64>) -> Result<Measure> {
    let (from, records) = (site.names().raw(), numbers.end - numbers.start);
    let progress = Progress::new(&bench.bootstrap, to, &from)?;
    let floor = Floor::Copy {
        bootstrap: bench.bootstrap.clone(),
        from,
        to: to.to_owned(),
        records,
    };
    let mut floor = FloorProcess::start(&floor, &bench.under())?;
    let id = floor.id();
    let steady = progress.steady(id, (numbers.start, records), || floor.must_run())?;
    // The next one would wait for a member that is gone without a word.
    wait::wait_for("the copy to leave its group", PATIENCE, || {
        let left = floor.output()?.lines().any(|line| line == "left");
        Ok(left.then_some(()))
    })?;
    let memory = (peak_memory(id)?, 0);
    Ok(Measure::new(
        steady.records,
        steady.time,
        steady.cpu,
        memory,
    ))
}

fn process(site: &Site, numbers: &Range<u64>) -> Result<Measure> {
    let records = numbers.end - numbers.start;
    let progress = Progress::new(site.bootstrap(), &site.group(), &site.names().raw())?;
    let mut processor = site.processor("bench")?;
    let id = processor.id();
    let steady = progress.steady(id, (numbers.start, records), || processor.must_run())?;
    let peak = peak_memory(id)?;
    let metrics = processor.metrics()?;
    let events = metrics.sum(&FATES.exposed(), &[("fate", "event")]);
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
    if events < records as f64 {
        eprintln!("{events} of {records} records became events");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of memory"
    )]
    let keys = metrics.sum(&DEDUP.exposed(), &[]) as u64;
    processor.stop()?;
    Ok(Measure::new(
        steady.records,
        steady.time,
        steady.cpu,
        (peak, keys),
    ))
}
