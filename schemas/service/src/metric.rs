//! The registry of a process takes the metrics that [`sluice_schemas::metric`] names.

use prometheus_client::registry::{Metric as Collected, Registry, Unit};
use sluice_schemas::metric::{self, Metric};

/// Registers a metric under its name, help and unit.
pub fn register(registry: &mut Registry, metric: Metric, collected: impl Collected) {
    let unit = metric.unit.map(|unit| match unit {
        metric::Unit::Seconds => Unit::Seconds,
        metric::Unit::Bytes => Unit::Bytes,
    });
    match unit {
        None => registry.register(metric.name, metric.help, collected),
        Some(unit) => registry.register_with_unit(metric.name, metric.help, unit, collected),
    }
}
