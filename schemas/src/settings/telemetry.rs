//! `telemetry`: logs, traces and metrics.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::restart::RestartRequired;
use super::values::file;
use crate::settings::reader::Node;

/// `telemetry`
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Where spans and metrics go, by OTLP: a base URL.
    pub otlp_endpoint: Option<String>,
    /// How they go there.
    pub otlp_protocol: OtlpProtocol,
    /// The file with headers for the endpoint, such as a token: a path, or a name under `secrets_dir`. A line
    /// each, `name: value`.
    pub otlp_headers_file: Option<PathBuf>,
    /// A PEM file of the authorities to trust instead of the usual ones.
    pub otlp_ca_file: Option<PathBuf>,
    /// How long one export may take.
    pub otlp_timeout: Duration,
    /// The share of requests that are traced, 0 to 1.
    pub trace_ratio: f64,
    /// How logs are written.
    pub log_format: LogFormat,
}

/// `telemetry.otlp_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC, usually at port 4317.
    Grpc,
    /// Protobuf over HTTP/1.1, usually at port 4318.
    Http,
}

/// `telemetry.log_format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person's eyes.
    Text,
}

/// Reads `telemetry`.
pub(super) fn telemetry(mut node: Node, secrets_dir: &Path) -> Telemetry {
    let otlp_endpoint = node.text("otlp_endpoint");
    if let Some(url) = &otlp_endpoint {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            node.fault("otlp_endpoint", "must begin with http:// or https://");
        }
        if url.contains(['@', '?', '#']) {
            node.fault(
                "otlp_endpoint",
                "must be a base alone: no user, password, query or fragment",
            );
        }
    }
    let protocols = [("grpc", OtlpProtocol::Grpc), ("http", OtlpProtocol::Http)];
    let otlp_protocol = node.choice("otlp_protocol", &protocols, OtlpProtocol::Grpc);
    let otlp_headers_file = file(&mut node, "otlp_headers_file", secrets_dir);
    let otlp_ca_file = node.text("otlp_ca_file").map(PathBuf::from);
    let otlp_timeout = node.positive_duration("otlp_timeout", Duration::from_secs(10));
    let trace_ratio = node.number("trace_ratio", 0.01, 0.0, 1.0);
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let log_format = node.choice("log_format", &formats, LogFormat::Json);
    node.finish();
    Telemetry {
        otlp_endpoint: otlp_endpoint.map(|url| url.trim_end_matches('/').to_owned()),
        otlp_protocol,
        otlp_headers_file,
        otlp_ca_file,
        otlp_timeout,
        trace_ratio,
        log_format,
    }
}

impl Telemetry {
    /// What is in force only after a restart stays as it was. Destructured, so that a
    /// new setting does not compile before it is decided here.
    pub(super) fn keep_from(&mut self, old: &Self, waiting: &mut RestartRequired) {
        let Telemetry {
            otlp_endpoint,
            otlp_protocol,
            otlp_headers_file,
            otlp_ca_file,
            otlp_timeout,
            // Asked for with every request.
            trace_ratio: _,
            log_format,
        } = self;
        let headers_file = "telemetry.otlp_headers_file";
        waiting.keep("telemetry.otlp_endpoint", &old.otlp_endpoint, otlp_endpoint);
        waiting.keep("telemetry.otlp_protocol", &old.otlp_protocol, otlp_protocol);
        waiting.keep(headers_file, &old.otlp_headers_file, otlp_headers_file);
        waiting.keep("telemetry.otlp_ca_file", &old.otlp_ca_file, otlp_ca_file);
        waiting.keep("telemetry.otlp_timeout", &old.otlp_timeout, otlp_timeout);
        waiting.keep("telemetry.log_format", &old.log_format, log_format);
    }
}
