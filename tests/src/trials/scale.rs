//! How cost grows: what one request costs ingest and one record the processor, in instructions and in CPU
//! time, while one number of an installation grows and all else stays: threads, partitions, bodies, event
//! topics, known keys, sources.
//!
//! Comes in: the services of this build, a Kafka of its own for each axis, valgrind. Goes out: the results
//! in `target/scale`, with the tables and the pictures that are made of them; with `--update` those of the
//! documents too. No rate is measured: the machine may be busy with other things.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::cluster::{Cluster, Purpose, root};

use crate::trials::frame;

mod cost;
mod counted;
mod keys;
mod load;
mod options;
mod plot;
mod results;
mod scene;
mod services;
mod table;
mod traffic;

use cost::Cost;
pub use options::Options;
use results::{BOUND, Growth, Measured, Results};
use scene::{AXES, Axis, Scene};

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    /// How many times the least instructions of an axis the most may be.
    bound: f64,
    growths: Vec<Growth>,
    seconds: BTreeMap<String, f64>,
}

/// Runs it; whether all axes hold.
pub fn run(options: &Options) -> Result<bool> {
    let folder = results::folder()?;
    let file = folder.join("results.json");
    let mut results = Results::read(&file)?;
    if !options.redraw {
        let mut ordinary = BTreeMap::new();
        for axis in &AXES {
            if options.axis.is_empty() || options.axis.iter().any(|name| name == axis.name) {
                let measured = measure(axis, options, &mut ordinary)?;
                eprintln!("{}: {:.0} s", axis.name, measured.seconds);
                results.0.insert(axis.name.to_owned(), measured);
                // What is measured is kept, whatever becomes of the next axis.
                results.write(&file)?;
            }
        }
    }
    draw(&results, &folder, options.update)?;
    let growths = results.growths();
    let seconds = results
        .axes()
        .map(|(axis, measured)| (axis.name.to_owned(), measured.seconds));
    let report = Report {
        holds: growths.iter().all(|growth| growth.holds),
        bound: BOUND,
        seconds: seconds.collect(),
        growths,
    };
    frame::conclude(&report, report.holds, &[], None)
}

/// The tables and the pictures, and those of the documents.
fn draw(results: &Results, folder: &Path, update: bool) -> Result<()> {
    let plots = root().join("docs/plots");
    for (axis, measured) in results.axes() {
        let name = format!("scale-{}.svg", axis.name);
        let picture = plot::svg(axis, measured);
        std::fs::write(folder.join(&name), &picture)?;
        if update {
            std::fs::create_dir_all(&plots)?;
            std::fs::write(plots.join(&name), &picture)?;
        }
    }
    let tables = table::markdown(results, "plots");
    std::fs::write(folder.join("table.md"), &tables)?;
    eprint!("{tables}");
    if update {
        let document = root().join("docs/measurements.md");
        let text = std::fs::read_to_string(&document)?;
        std::fs::write(&document, table::into_document(&text, &tables)?)?;
    }
    Ok(())
}

/// Costs that are known already, by service and scene: all axes meet in the ordinary one.
type Known = BTreeMap<(&'static str, Scene), Cost>;

fn measure(axis: &Axis, options: &Options, known: &mut Known) -> Result<Measured> {
    let start = Instant::now();
    eprintln!("{}: starting Kafka", axis.name);
    let cluster = Cluster::start(1, Purpose::Bench)?;
    let bootstrap = cluster.bootstrap();
    let mut measured = Measured::default();
    for &point in axis.points {
        let scene = (axis.at)(point);
        let mut one = |service: &'static str, cost: Service| -> Result<Cost> {
            if let Some(known) = known.get(&(service, scene)) {
                return Ok(*known);
            }
            let began = Instant::now();
            let prefix = format!("{}{point}-{service}.", axis.name);
            let mut site = scene.site(&prefix, &bootstrap)?;
            let cost = cost(&scene, &mut site, options)?;
            let seconds = began.elapsed().as_secs_f64();
            eprintln!(
                "{} {point}: {service}: {:.1} thousand instructions, {:.1} CPU µs; {seconds:.0} s",
                axis.name,
                cost.instructions / 1e3,
                cost.cpu_seconds_per_million
            );
            known.insert((service, scene), cost);
            Ok(cost)
        };
        if axis.ingest {
            measured
                .ingest
                .insert(point, one("ingest", services::ingest)?);
        }
        if point <= axis.processor_until {
            let cost = one("processor", services::processor)?;
            measured.processor.insert(point, cost);
        }
    }
    measured.seconds = start.elapsed().as_secs_f64();
    Ok(measured)
}

/// A service under a scene.
type Service = fn(&Scene, &mut sluice_tests::harness::deployment::Site, &Options) -> Result<Cost>;
