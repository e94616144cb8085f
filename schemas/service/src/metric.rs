//! The registry of a process takes the metrics that [`sluice_schemas::metric`] names.

use std::fmt;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric as Collected, Registry, Unit};
use sluice_schemas::metric::service::{BUILD, READY, RELOAD_FAILURES, START};
use sluice_schemas::metric::{self, Metric};

use crate::admin::Readiness;
use crate::{COMMIT, RELEASE};

/// Registers a metric under its name, help and unit.
pub fn register(registry: &mut Registry, metric: Metric, collected: impl Collected) {
    match unit(metric) {
        None => registry.register(metric.name, metric.help, collected),
        Some(unit) => registry.register_with_unit(metric.name, metric.help, unit, collected),
    }
}

fn unit(metric: Metric) -> Option<Unit> {
    metric.unit.map(|unit| match unit {
        metric::Unit::Seconds => Unit::Seconds,
        metric::Unit::Bytes => Unit::Bytes,
    })
}

/// What is read when the metrics are asked for: the conditions of readiness, the release, the start, and the
/// failures to read files again by what they hold.
#[derive(Debug)]
pub struct Readings {
    readiness: Readiness,
    started: SystemTime,
    reload_failures: Vec<(&'static str, Counter)>,
}

impl Readings {
    /// Of a process that starts now.
    pub fn new(readiness: Readiness, reload_failures: Vec<(&'static str, Counter)>) -> Self {
        Self {
            readiness,
            started: SystemTime::now(),
            reload_failures,
        }
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut ready =
            encoder.encode_descriptor(READY.name, READY.help, None, MetricType::Gauge)?;
        for (condition, is_met) in self.readiness.conditions() {
            let labels = [("condition", condition)];
            ConstGauge::new(i64::from(is_met)).encode(ready.encode_family(&labels)?)?;
        }
        let since = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let unit = unit(START);
        let start =
            encoder.encode_descriptor(START.name, START.help, unit.as_ref(), MetricType::Gauge)?;
        ConstGauge::new(since.unwrap_or_default().as_secs_f64()).encode(start)?;
        let mut build =
            encoder.encode_descriptor(BUILD.name, BUILD.help, None, MetricType::Gauge)?;
        let release = [("version", RELEASE), ("commit", COMMIT)];
        ConstGauge::new(1_i64).encode(build.encode_family(&release)?)?;
        let mut failures = encoder.encode_descriptor(
            RELOAD_FAILURES.name,
            RELOAD_FAILURES.help,
            None,
            MetricType::Counter,
        )?;
        for (what, counter) in &self.reload_failures {
            let labels = [("what", *what)];
            ConstCounter::new(counter.get()).encode(failures.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
