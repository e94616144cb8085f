//! What telemetry costs: both services with one in a hundred requests traced, next to themselves without an
//! endpoint. The Collector is a real one; its own time is not counted.

use anyhow::Result;
use serde_json::json;
use sluice_tests::harness::collector::Collector;

use super::measure::Bench;
use super::pairs::{self, Pair};

/// Runs it; whether telemetry costs at most the bound.
pub fn run(bench: &Bench<'_>) -> Result<bool> {
    let collector = Collector::start()?;
    let pair = Pair {
        name: "telemetry",
        bound: 1.05,
        base: &|_| {},
        changed: &|site| site.set(&["telemetry", "otlp_endpoint"], json!(collector.grpc())),
    };
    pairs::run(bench, &pair)
}
