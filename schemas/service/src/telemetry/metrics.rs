//! The metrics of `/metrics`, exported by OTLP too.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Counters;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::exposition::{self, Family, Sample};
use super::otlp::{Collector, ExportError};
use super::repeated::Repeated;
use crate::RELEASE;

/// How often metrics are exported.
const INTERVAL: Duration = Duration::from_secs(15);

/// Counts exports by what became of them.
pub type ExportCounter = Counters<[(&'static str, &'static str); 1], Counter>;

/// Exports the registry until the end, and once more then.
pub async fn export(
    collector: Collector,
    registry: Arc<Registry>,
    resource: opentelemetry_sdk::Resource,
    exports: ExportCounter,
    end: CancellationToken,
) {
    let started = SystemTime::now();
    let resource = attributes(&resource);
    let mut failures = Repeated::default();
    loop {
        let ends = tokio::select! {
            () = tokio::time::sleep(INTERVAL) => false,
            () = end.cancelled() => true,
        };
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        let request = request(
            &exposition::read(&text),
            &resource,
            started,
            SystemTime::now(),
        );
        match collector.metrics(request).await {
            Ok(()) => {
                failures.over();
                exports.get_or_create(&[("result", "exported")]).inc();
            }
            Err(ExportError::Unsupported) => {
                tracing::info!("the OTLP endpoint takes no metrics: none are exported from now on");
                return;
            }
            Err(ExportError::Failed(error)) => {
                exports.get_or_create(&[("result", "failed")]).inc();
                if let Some(repeated) = failures.came(Instant::now()) {
                    tracing::warn!(error, repeated, "metrics were not exported");
                }
            }
        }
        if ends {
            return;
        }
    }
}

fn attributes(resource: &opentelemetry_sdk::Resource) -> Vec<KeyValue> {
    let all = resource.iter();
    all.map(|(key, value)| text(key.as_str(), &value.as_str()))
        .collect()
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn request(
    families: &[Family],
    resource: &[KeyValue],
    started: SystemTime,
    now: SystemTime,
) -> ExportMetricsServiceRequest {
    let times = (nanos(started), nanos(now));
    let metrics = families.iter().filter(|family| !family.samples.is_empty());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: resource.to_vec(),
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "sluice".to_owned(),
                    version: RELEASE.to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: metrics.map(|family| converted(family, times)).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn converted(family: &Family, times: (u64, u64)) -> Metric {
    let points = || {
        let samples = family.samples.iter();
        samples.map(|sample| number(sample, times)).collect()
    };
    let data = match family.kind.as_str() {
        "counter" => metric::Data::Sum(Sum {
            data_points: points(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        }),
        "histogram" => metric::Data::Histogram(Histogram {
            data_points: histograms(&family.samples, times),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        }),
        _ => metric::Data::Gauge(Gauge {
            data_points: points(),
        }),
    };
    let unit = match family.unit.as_str() {
        "seconds" => "s",
        "bytes" => "By",
        // Not "1": a Collector would add `_ratio` to the name.
        _ => "",
    };
    Metric {
        name: family.name.clone(),
        description: family.help.clone(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn labels(sample: &Sample) -> Vec<KeyValue> {
    let labels = sample.labels.iter().filter(|(name, _)| name != "le");
    labels.map(|(name, value)| text(name, value)).collect()
}

fn number(sample: &Sample, (started, now): (u64, u64)) -> NumberDataPoint {
    NumberDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: started,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    }
}

/// The samples of one histogram stand together and begin with its sum.
fn histograms(samples: &[Sample], (started, now): (u64, u64)) -> Vec<HistogramDataPoint> {
    let mut points: Vec<HistogramDataPoint> = Vec::new();
    let mut below = 0;
    for sample in samples {
        if sample.suffix == "_sum" {
            below = 0;
            points.push(HistogramDataPoint {
                attributes: labels(sample),
                start_time_unix_nano: started,
                time_unix_nano: now,
                sum: Some(sample.value),
                ..HistogramDataPoint::default()
            });
        }
        let Some(point) = points.last_mut() else {
            continue;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts, which the registry writes as whole numbers"
        )]
        let count = sample.value as u64;
        match sample.suffix.as_str() {
            "_count" => point.count = count,
            "_bucket" => {
                point.bucket_counts.push(count.saturating_sub(below));
                below = count;
                let bound = sample.labels.iter().find(|(name, _)| name == "le");
                let bound = bound.and_then(|(_, bound)| bound.parse::<f64>().ok());
                point
                    .explicit_bounds
                    .extend(bound.filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::family::Family as Labelled;
    use prometheus_client::metrics::gauge::Gauge as Level;
    use prometheus_client::metrics::histogram::Histogram as Times;
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn what_is_scraped_is_exported() {
        let mut registry = Registry::default();
        let requests: Labelled<[(&str, &str); 1], Counter> = Labelled::default();
        requests.get_or_create(&[("source", "a")]).inc_by(3);
        registry.register("requests", "Requests", requests);
        let level: Level = Level::default();
        level.set(-2);
        registry.register_with_unit("level", "Level", Unit::Bytes, level);
        let times = Times::new([0.5, 2.0]);
        times.observe(0.1);
        times.observe(1.0);
        times.observe(9.0);
        registry.register_with_unit("took", "Time", Unit::Seconds, times);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");

        let now = SystemTime::now();
        let request = request(&exposition::read(&text), &[], now, now);
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let by_name = |name: &str| {
            let found = metrics.iter().find(|metric| metric.name == name);
            found.expect("it is exported")
        };
        let Some(metric::Data::Sum(sum)) = &by_name("requests").data else {
            panic!("a counter is a sum");
        };
        assert!(sum.is_monotonic);
        let value = Some(number_data_point::Value::AsDouble(3.0));
        assert_eq!(sum.data_points[0].value, value);
        assert_eq!(sum.data_points[0].attributes, [super::text("source", "a")]);
        let Some(metric::Data::Gauge(gauge)) = &by_name("level_bytes").data else {
            panic!("a gauge is a gauge");
        };
        assert_eq!(by_name("level_bytes").unit, "By");
        let value = Some(number_data_point::Value::AsDouble(-2.0));
        assert_eq!(gauge.data_points[0].value, value);
        let Some(metric::Data::Histogram(histogram)) = &by_name("took_seconds").data else {
            panic!("a histogram is a histogram");
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.bucket_counts, [1, 1, 1]);
        assert_eq!(point.explicit_bounds, [0.5, 2.0]);
        assert_eq!((point.count, point.sum), (3, Some(10.1)));
    }
}
