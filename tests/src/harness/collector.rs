//! An OpenTelemetry Collector not of our making: it takes spans and metrics by OTLP, writes them to a file,
//! and makes metrics of spans.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::harness::child::{Child, tail};
use crate::harness::cluster::{cache, root};
use crate::harness::wait::wait_for;
use crate::harness::{client, janitor, ports};

/// It is ready in less than a second when nothing else runs.
const START: Duration = Duration::from_secs(60);

/// A running Collector.
#[derive(Debug)]
pub struct Collector {
    scheme: &'static str,
    grpc: u16,
    http: u16,
    spans: u16,
    file: PathBuf,
    _child: Child,
}

/// A span as it came.
#[derive(Debug, Clone)]
pub struct Span {
    /// The name of the service that sent it.
    pub service: String,
    /// All of it, in OTLP's JSON.
    pub json: Value,
}

impl Span {
    /// A member as text, such as `traceId` or `name`.
    pub fn text(&self, member: &str) -> &str {
        self.json[member].as_str().unwrap_or_default()
    }

    /// The value of an attribute as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        attribute(&self.json["attributes"], name)
    }

    /// The traces and spans that it links to.
    pub fn links(&self) -> Vec<(String, String)> {
        let links = self.json["links"].as_array().into_iter().flatten();
        let text = |link: &Value, member: &str| {
            let text = link[member].as_str();
            text.unwrap_or_default().to_owned()
        };
        links
            .map(|link| (text(link, "traceId"), text(link, "spanId")))
            .collect()
    }
}

fn attribute(attributes: &Value, name: &str) -> Option<String> {
    let mut attributes = attributes.as_array()?.iter();
    let found = attributes.find(|attribute| attribute["key"] == name)?;
    let value = found["value"].as_object()?.values().next()?;
    Some(
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
    )
}

impl Collector {
    /// Starts it and waits until it listens.
    pub fn start() -> Result<Self> {
        Self::start_with("http", None)
    }

    /// The same over TLS, with a certificate and its key.
    pub fn start_over_tls(certificate: &Path, key: &Path) -> Result<Self> {
        Self::start_with("https", Some((certificate, key)))
    }

    fn start_with(scheme: &'static str, pair: Option<(&Path, &Path)>) -> Result<Self> {
        let program = cache().join("otelcol-0.161.0/otelcol");
        if !program.is_file() {
            bail!("the OpenTelemetry Collector is missing: make collector");
        }
        let dir = janitor::folder("collector")?;
        let (grpc, http, spans) = (ports::free()?, ports::free()?, ports::free()?);
        let file = dir.join("otlp.jsonl");
        let mut config = fs::read_to_string(root().join("tests/telemetry/collector/config.yaml"))?;
        let (certificate, key) = pair.unzip();
        let tls = certificate
            .zip(key)
            .map_or_else(String::new, |(certificate, key)| {
                let (certificate, key) = (certificate.display(), key.display());
                format!("\n        tls: {{cert_file: {certificate}, key_file: {key}}}")
            });
        let receiver = |port| format!("{}{tls}", ports::local(port));
        for (variable, value) in [
            ("${env:OTLP_GRPC:-127.0.0.1:4317}", receiver(grpc)),
            ("${env:OTLP_HTTP:-127.0.0.1:4318}", receiver(http)),
            (
                "${env:SPAN_METRICS:-127.0.0.1:8889}",
                ports::local(spans).to_string(),
            ),
            (
                "${env:OTLP_FILE:-/tmp/sluice-otlp.jsonl}",
                file.display().to_string(),
            ),
        ] {
            if !config.contains(variable) {
                bail!("the Collector's configuration does not name {variable}");
            }
            config = config.replace(variable, &value);
        }
        let settings = dir.join("config.yaml");
        fs::write(&settings, config)?;
        let log = dir.join("log");
        let arguments = ["--config".to_owned(), settings.display().to_string()];
        let mut child = Child::start("the Collector", &program, &arguments, &log)?;
        wait_for("the Collector", START, || {
            child.must_run()?;
            let answer = client::get(ports::local(spans), "/metrics");
            Ok(answer.is_ok().then_some(()))
        })
        .with_context(|| tail(&log))?;
        Ok(Self {
            scheme,
            grpc,
            http,
            spans,
            file,
            _child: child,
        })
    }

    /// The endpoint for gRPC.
    pub fn grpc(&self) -> String {
        self.endpoint(self.grpc)
    }

    /// The endpoint for HTTP.
    pub fn http(&self) -> String {
        self.endpoint(self.http)
    }

    /// By name, for that is what certificates are made for.
    fn endpoint(&self, port: u16) -> String {
        format!("{}://localhost:{port}", self.scheme)
    }

    /// Where the metrics of spans are scraped.
    pub fn span_metrics(&self) -> SocketAddr {
        ports::local(self.spans)
    }

    /// All spans so far.
    pub fn spans(&self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        for (resource, scope) in self.scopes("resourceSpans", "scopeSpans")? {
            let service = attribute(&resource["resource"]["attributes"], "service.name");
            let found = scope["spans"].as_array().into_iter().flatten();
            spans.extend(found.map(|span| Span {
                service: service.clone().unwrap_or_default(),
                json: span.clone(),
            }));
        }
        Ok(spans)
    }

    /// The names of all metrics so far, each with its service.
    pub fn metrics(&self) -> Result<Vec<(String, String)>> {
        let mut names = Vec::new();
        for (resource, scope) in self.scopes("resourceMetrics", "scopeMetrics")? {
            let service = attribute(&resource["resource"]["attributes"], "service.name");
            let found = scope["metrics"].as_array().into_iter().flatten();
            let found = found.filter_map(|metric| metric["name"].as_str());
            let service = service.unwrap_or_default();
            names.extend(found.map(|name| (service.clone(), name.to_owned())));
        }
        Ok(names)
    }

    /// Each scope of the file, with its resource.
    fn scopes(&self, resources: &str, scopes: &str) -> Result<Vec<(Value, Value)>> {
        // It is made with the first span.
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let mut found = Vec::new();
        // A line that is being written has no end yet.
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let line: Value = serde_json::from_str(line)?;
            for resource in line[resources].as_array().into_iter().flatten() {
                for scope in resource[scopes].as_array().into_iter().flatten() {
                    found.push((resource.clone(), scope.clone()));
                }
            }
        }
        Ok(found)
    }
}
