//! What was measured, as a file, and what holds of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sluice_tests::harness::process;

use super::cost::Cost;
use super::scene::{AXES, Axis, BODY};

/// How many times the least instructions of an axis the most may be.
pub const BOUND: f64 = 1.25;

/// A service's name, as the results have it.
pub const SERVICES: [&str; 2] = ["ingest", "processor"];

/// Where they stand: in the target folder.
pub fn folder() -> Result<PathBuf> {
    let binary = process::find("sluice-ingest")?;
    let target = binary.ancestors().nth(2).context("a target folder")?;
    let folder = target.join("scale");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The results of all axes that were measured, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results(pub BTreeMap<String, Measured>);

/// The results of one axis.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// What a request costs ingest, by point.
    pub ingest: BTreeMap<u32, Cost>,
    /// What a record costs the processor, by point.
    pub processor: BTreeMap<u32, Cost>,
    /// How long measuring took.
    pub seconds: f64,
}

impl Results {
    /// Those of a file; none where there is none.
    pub fn read(file: &Path) -> Result<Self> {
        match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not what this trial writes", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    /// Writes them to a file.
    pub fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    /// The axes that were measured, in order.
    pub fn axes(&self) -> impl Iterator<Item = (&'static Axis, &Measured)> {
        let measured = |axis: &'static Axis| Some((axis, self.0.get(axis.name)?));
        AXES.iter().filter_map(measured)
    }

    /// How the instructions of each service grow on each axis.
    pub fn growths(&self) -> Vec<Growth> {
        self.axes()
            .flat_map(|(axis, measured)| {
                let of = |(service, costs)| Growth::of(axis, service, costs);
                measured.services().into_iter().filter_map(of)
            })
            .collect()
    }
}

impl Measured {
    /// What was measured, by service.
    pub fn services(&self) -> [(&'static str, &BTreeMap<u32, Cost>); 2] {
        let [ingest, processor] = SERVICES;
        [(ingest, &self.ingest), (processor, &self.processor)]
    }
}

/// How a service's instructions grow along an axis.
#[derive(Debug, PartialEq, Serialize)]
pub struct Growth {
    axis: &'static str,
    service: &'static str,
    /// Those of the last point, as a multiple of the first's.
    pub last_of_first: f64,
    /// Those of the point that has most, as a multiple of that with least; of bodies, each for one KiB: as a
    /// multiple of the least of any shorter body.
    pub most_of_least: f64,
    pub holds: bool,
}

impl Growth {
    /// None where fewer than two points were measured.
    fn of(axis: &Axis, service: &'static str, costs: &BTreeMap<u32, Cost>) -> Option<Self> {
        let is_body = axis.name == BODY;
        let each = costs.iter().map(|(point, cost)| {
            let by = if is_body { f64::from(*point) } else { 1.0 };
            cost.instructions / by
        });
        let each: Vec<f64> = each.collect();
        let (first, last) = (each.first()?, each.last()?);
        if each.len() < 2 {
            return None;
        }
        let mut lowest = f64::INFINITY;
        let mut most_of_least = 1.0_f64;
        for one in &each {
            lowest = lowest.min(*one);
            most_of_least = most_of_least.max(one / lowest);
        }
        if !is_body {
            let most = each.iter().copied().fold(0.0, f64::max);
            most_of_least = most / lowest;
        }
        Some(Self {
            axis: axis.name,
            service,
            last_of_first: last / first,
            most_of_least,
            holds: most_of_least <= BOUND,
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Costs of these thousands of instructions.
    pub fn costs(thousands: &[(u32, f64)]) -> BTreeMap<u32, Cost> {
        let costs = thousands.iter().map(|(point, thousands)| {
            let cost = Cost {
                instructions: thousands * 1e3,
                instructions_a_second: 2e6,
                cpu_seconds_per_million: thousands / 10.0,
                waits_per_thousand: 12.0,
                records_per_transaction: None,
                peak_mebibytes: 40.0,
            };
            (*point, cost)
        });
        costs.collect()
    }

    fn growth(axis: &str, thousands: &[(u32, f64)]) -> Option<Growth> {
        let axis = AXES.iter().find(|known| known.name == axis);
        Growth::of(axis.expect("an axis"), "ingest", &costs(thousands))
    }

    #[test]
    fn an_axis_that_is_flat_holds_and_one_that_grows_or_falls_does_not() {
        let flat = growth("sources", &[(4, 100.0), (20, 90.0), (400, 110.0)]).expect("growth");
        assert!(flat.holds, "{flat:?}");
        assert!((flat.last_of_first - 1.1).abs() < 1e-9);
        assert!((flat.most_of_least - 110.0 / 90.0).abs() < 1e-9);
        let grows = growth("sources", &[(4, 100.0), (400, 130.0)]).expect("growth");
        assert!(!grows.holds);
        let falls = growth("sources", &[(4, 130.0), (400, 100.0)]).expect("growth");
        assert!(!falls.holds);
        assert_eq!(growth("sources", &[(4, 100.0)]), None);
    }

    #[test]
    fn a_body_may_cost_as_its_length_and_no_more() {
        let linear = growth(BODY, &[(1, 100.0), (4, 160.0), (256, 5_000.0)]).expect("growth");
        assert!(linear.holds, "{linear:?}");
        let square = growth(BODY, &[(1, 10.0), (4, 80.0), (16, 640.0)]).expect("growth");
        assert!(!square.holds, "{square:?}");
    }

    #[test]
    fn what_is_written_is_read_and_a_missing_file_is_empty() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("results.json");
        assert!(Results::read(&file).expect("none").0.is_empty());
        let measured = Measured {
            ingest: costs(&[(4, 1.0), (20, 2.0)]),
            ..Measured::default()
        };
        let results = Results([("sources".to_owned(), measured)].into());
        results.write(&file).expect("written");
        let read = Results::read(&file).expect("read");
        assert_eq!(read.0["sources"].ingest, results.0["sources"].ingest);
        std::fs::write(&file, "{").expect("written");
        assert!(Results::read(&file).is_err());
    }
}
