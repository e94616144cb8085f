//! What a service exports, from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use sluice_schemas::metric::service::{METRIC_EXPORTS, SPANS};
use sluice_schemas::settings;
use sluice_schemas::settings::Fault;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::headers::{self, watch_headers};
use super::metrics::{self, ExportCounter};
use super::otlp::{Collector, authorities, fault};
use super::resource::resource;
use super::traces::{self, SpanCounter, Traces};
use crate::metric::register;
use crate::watch::Watching;

/// How long the last exports may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a service exports. Without an endpoint in the settings it exports nothing.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Traces,
    export: Option<Export>,
    /// Times that the headers for the collector could not be read again.
    header_failures: Counter,
}

#[derive(Debug)]
struct Export {
    collector: Collector,
    resource: opentelemetry_sdk::Resource,
    exports: ExportCounter,
    /// The export of metrics, which ends when the service is closed.
    metrics: Mutex<Option<JoinHandle<()>>>,
    _headers: Option<Watching>,
}

impl Telemetry {
    /// Reads the files that the settings name; connects when something is exported. Within the runtime that
    /// the exports run on.
    pub fn start(
        telemetry: &settings::Telemetry,
        service: &'static str,
        registry: &mut Registry,
    ) -> Result<Self, Fault> {
        let (spans, exports) = (SpanCounter::default(), ExportCounter::default());
        register(registry, SPANS, spans.clone());
        register(registry, METRIC_EXPORTS, exports.clone());
        for result in traces::RESULTS {
            drop(spans.get_or_create(&[("result", result)]));
        }
        for result in ["exported", "failed"] {
            drop(exports.get_or_create(&[("result", result)]));
        }
        let Some(endpoint) = &telemetry.otlp_endpoint else {
            return Ok(Self::default());
        };
        let header_failures = Counter::default();
        let file = telemetry.otlp_headers_file.as_deref();
        let (headers, watching) = watch_headers(file, header_failures.clone())?;
        let collector = Collector::new(endpoint, telemetry, headers)?;
        let resource = resource(service);
        let traces = Traces::new(&collector, &resource, spans)
            .map_err(|error| fault("otlp_endpoint", error))?;
        Ok(Self {
            traces,
            export: Some(Export {
                collector,
                resource,
                exports,
                metrics: Mutex::default(),
                _headers: watching,
            }),
            header_failures,
        })
    }

    /// Where spans go.
    pub fn traces(&self) -> Traces {
        self.traces.clone()
    }

    /// The counter of failures to read the headers for the collector again.
    pub fn header_failures(&self) -> Counter {
        self.header_failures.clone()
    }

    /// Exports the metrics until the end.
    pub fn export_metrics(&self, registry: &Arc<Registry>, end: CancellationToken) {
        if let Some(export) = &self.export {
            let task = tokio::spawn(metrics::export(
                export.collector.clone(),
                Arc::clone(registry),
                export.resource.clone(),
                export.exports.clone(),
                end,
            ));
            *export.metrics.lock() = Some(task);
        }
    }

    /// Exports the spans that wait and the metrics once more, within 2 s. After the end that
    /// [`Telemetry::export_metrics`] was given.
    pub async fn close(&self) {
        let task = self.export.as_ref();
        let task = task.and_then(|export| export.metrics.lock().take());
        let metrics = async {
            if let Some(task) = task {
                // What is not exported by then is seen by a scrape or by nobody.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, task).await;
            }
        };
        tokio::join!(self.traces.close(CLOSE_TIMEOUT), metrics);
    }
}

/// Reads the files that the settings name, as the start does.
///
/// # Errors
/// All faults.
pub fn check(telemetry: &settings::Telemetry) -> Result<(), Vec<Fault>> {
    let headers = telemetry.otlp_headers_file.as_deref();
    let headers = headers.map_or(Ok(()), |file| headers::read(file).map(drop));
    let faults = [headers.err(), authorities(telemetry).err()];
    let faults: Vec<Fault> = faults.into_iter().flatten().collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use sluice_schemas::settings::{LogFormat, OtlpProtocol};

    use super::*;

    #[test]
    fn files_that_are_missing_or_malformed_are_faults_that_do_not_show_them() {
        let name = format!("sluice-telemetry-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, "no header and no certificate: but\nsecret").expect("a file");
        let mut telemetry = settings::Telemetry {
            otlp_endpoint: None,
            otlp_protocol: OtlpProtocol::Grpc,
            otlp_headers_file: None,
            otlp_ca_file: None,
            otlp_timeout: Duration::from_secs(1),
            trace_ratio: 0.0,
            log_format: LogFormat::Json,
        };
        assert!(check(&telemetry).is_ok());
        for path in [file.clone(), "/not/there".into()] {
            telemetry.otlp_headers_file = Some(path.clone());
            telemetry.otlp_ca_file = Some(path);
            let faults = check(&telemetry).expect_err("two faults");
            let paths = faults.iter().map(|fault| fault.path.as_str());
            let paths: Vec<&str> = paths.collect();
            assert_eq!(
                paths,
                ["telemetry.otlp_headers_file", "telemetry.otlp_ca_file"]
            );
            let shown = faults.iter().any(|fault| fault.message.contains("secret"));
            assert!(!shown, "{faults:?}");
        }
        std::fs::remove_file(&file).expect("it was there");
    }
}
