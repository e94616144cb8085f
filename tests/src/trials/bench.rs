//! The benchmarks: what both services do next to a floor that does the same work with nothing between.
//!
//! Ingest's floor is a bare hyper server that hands each body to a threaded producer, with the request's
//! headers and a key; the processor's is a bare transactional copy; that of the time to the event is a bare
//! produce and consume. The measured process, service or floor, has a core alone; brokers and load have the
//! others. Floor and service run in turns, and each round has its ratio. CPU seconds and memory decide; rates
//! and times are printed with their range.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::janitor;

use crate::trials::frame;

mod build;
mod case;
mod children;
mod fill;
mod ingest;
mod instructions;
mod latency;
mod load;
mod measure;
mod options;
mod pace;
mod pairs;
mod pin;
mod processor;
mod progress;
mod spread;
mod table;
mod telemetry;

use case::Case;
pub use children::Floor;
use latency::Latencies;
use measure::{Bench, Compared};
pub use options::Options;
use options::Part;
use pin::Cores;

/// What the brokers may need in memory, where their files disturb nobody: else they are on disk.
const ROOM: u64 = 6 << 30;

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    /// What does not hold, a sentence each.
    faults: Vec<String>,
    expected: Expected,
    /// The core of what is measured and those of all else; none: there is one.
    cores: Option<Cores>,
    ingest: Vec<Compared>,
    processor: Vec<Compared>,
    three_brokers: Option<ThreeBrokers>,
    request_to_answer: Option<Latencies>,
    request_to_event: Option<Latencies>,
    elapsed_seconds: f64,
}

/// The points that decide, with three brokers.
#[derive(Serialize)]
struct ThreeBrokers {
    ingest: Compared,
    processor: Compared,
}

/// What decides. CPU is that of the service next to its floor's, the median of the rounds' ratios.
#[derive(Serialize)]
struct Expected {
    ingest_cpu_ratio: f64,
    processor_cpu_ratio: f64,
    processor_small_mixed_cpu_ratio: f64,
    /// At half of the rate that it takes.
    ingest_peak_mebibytes: f64,
    /// Without the keys of the dedup index.
    processor_peak_mebibytes: f64,
}

const EXPECTED: Expected = Expected {
    ingest_cpu_ratio: 1.35,
    processor_cpu_ratio: 1.35,
    processor_small_mixed_cpu_ratio: 1.6,
    ingest_peak_mebibytes: 64.0,
    processor_peak_mebibytes: 128.0,
};

/// Runs all parts, or those that are asked for; whether what is expected of them holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    options.check()?;
    let cores = Cores::divide()?;
    if !janitor::in_memory(ROOM)? {
        eprintln!("no room for the brokers in memory: they write to the disk");
    }
    let mut report = Report {
        holds: false,
        faults: Vec::new(),
        expected: EXPECTED,
        cores: cores.clone(),
        ingest: Vec::new(),
        processor: Vec::new(),
        three_brokers: None,
        request_to_answer: None,
        request_to_event: None,
        elapsed_seconds: 0.0,
    };
    let one = [Part::Ingest, Part::Processor, Part::Latency];
    if one.into_iter().any(|part| options.has(part)) {
        eprintln!("starting Kafka");
        let cluster = Cluster::start(1, Purpose::Bench)?;
        let bench = Bench::new(&cluster, cores.as_ref(), options);
        if options.telemetry {
            return telemetry::run(&bench);
        }
        if let Some(folder) = &options.against {
            return build::run(&bench, folder);
        }
        ingest::warm_brokers(&bench)?;
        one_broker(&bench, &mut report)?;
    }
    if options.has(Part::ThreeBrokers) {
        eprintln!("starting Kafka with three brokers");
        let cluster = Cluster::start(3, Purpose::Bench)?;
        let bench = Bench::new(&cluster, cores.as_ref(), options);
        ingest::warm_brokers(&bench)?;
        let rounds = options.rounds_of(false);
        report.three_brokers = Some(ThreeBrokers {
            ingest: point(&bench, "ingest", ingest::point, Case::HEADLINE, rounds)?,
            processor: point(
                &bench,
                "processor",
                processor::point,
                Case::HEADLINE,
                rounds,
            )?,
        });
    }
    report.faults = faults(&report);
    report.holds = report.faults.is_empty();
    report.elapsed_seconds = start.elapsed().as_secs_f64();
    print(&report);
    frame::conclude(&report, report.holds, &report.faults, None)
}

fn one_broker(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    if options.has(Part::Ingest) {
        for case in options.chosen(Case::of_ingest()) {
            let rounds = options.rounds_of(case == Case::HEADLINE);
            let measured = point(bench, "ingest", ingest::point, case, rounds)?;
            report.ingest.push(measured);
        }
    }
    if options.has(Part::Processor) {
        for case in options.chosen(Case::of_processor()) {
            let decides = case == Case::HEADLINE || case == Case::SMALL_MIXED;
            let rounds = options.rounds_of(decides);
            let measured = point(bench, "processor", processor::point, case, rounds)?;
            report.processor.push(measured);
        }
    }
    if options.has(Part::Latency) {
        let taken = headline(&report.ingest).map(|point| point.ours.per_second.median);
        eprintln!("request to answer, at half of the rate that ingest takes");
        report.request_to_answer = Some(latency::to_answer(bench, taken)?);
        eprintln!("request to event, at {} a second", options.latency_rate);
        report.request_to_event = Some(latency::to_event(bench)?);
    }
    Ok(())
}

type Measured = fn(&Bench<'_>, Case, u32) -> Result<Compared>;

fn point(
    bench: &Bench<'_>,
    name: &str,
    measured: Measured,
    case: Case,
    rounds: u32,
) -> Result<Compared> {
    let start = Instant::now();
    eprintln!("{name}, {}: {rounds} rounds", case.label());
    let compared = measured(bench, case, rounds)?;
    let took = Duration::from_secs(start.elapsed().as_secs());
    eprintln!(
        "  CPU {:.2} times the floor's, in {took:?}",
        compared.cpu_ratio
    );
    Ok(compared)
}

fn headline(points: &[Compared]) -> Option<&Compared> {
    points.iter().find(|point| point.case == Case::HEADLINE)
}

/// What was measured and is not as expected. A part that did not run decides nothing.
fn faults(report: &Report) -> Vec<String> {
    let mixed = report.processor.iter();
    let mixed = mixed.clone().find(|point| point.case == Case::SMALL_MIXED);
    let ratio = |point: Option<&Compared>| point.map(|point| point.cpu_ratio.median);
    let answers = report.request_to_answer.as_ref();
    let processor = headline(&report.processor);
    let decided = [
        (
            "ingest's CPU, times its floor's",
            ratio(headline(&report.ingest)),
            EXPECTED.ingest_cpu_ratio,
        ),
        (
            "the processor's CPU, times its floor's",
            ratio(processor),
            EXPECTED.processor_cpu_ratio,
        ),
        (
            "the processor's CPU with small bodies of all providers, times its floor's",
            ratio(mixed),
            EXPECTED.processor_small_mixed_cpu_ratio,
        ),
        (
            "MiB of ingest at half of its rate",
            answers.and_then(|answers| answers.ingest_peak_mebibytes),
            EXPECTED.ingest_peak_mebibytes,
        ),
        (
            "MiB of the processor without its keys",
            processor.map(|point| point.ours.peak_mebibytes),
            EXPECTED.processor_peak_mebibytes,
        ),
    ];
    let is_within = |found: f64, most: f64| found <= most;
    let faults = decided.into_iter().filter_map(|(what, found, most)| {
        let found = found.filter(|found| !is_within(*found, most))?;
        Some(format!("{what}: {found:.2}, which is over {most:.2}"))
    });
    faults.collect()
}

fn print(report: &Report) {
    table::print_points("ingest", "requests/s", &report.ingest);
    table::print_points("processor, one worker", "records/s", &report.processor);
    if let Some(ThreeBrokers { ingest, processor }) = &report.three_brokers {
        let (ingest, processor) = (
            std::slice::from_ref(ingest),
            std::slice::from_ref(processor),
        );
        table::print_points("ingest, three brokers", "requests/s", ingest);
        table::print_points("processor, three brokers", "records/s", processor);
    }
    let lines = [
        ("request to answer", &report.request_to_answer),
        ("request to event", &report.request_to_event),
    ];
    let lines = lines.into_iter();
    let lines = lines.filter_map(|(name, found)| Some((name, found.as_ref()?)));
    table::print_latencies(&lines.collect::<Vec<_>>());
}
