//! `telemetry`: logs and traces.

use super::restart::RestartRequired;
use crate::settings::reader::Node;

/// `telemetry`
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Where traces go. This release reads it and exports none.
    pub otlp_endpoint: Option<String>,
    /// The share of requests that are traced, 0 to 1.
    pub trace_ratio: f64,
    /// How logs are written.
    pub log_format: LogFormat,
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
pub(super) fn telemetry(mut node: Node) -> Telemetry {
    let otlp_endpoint = node.text("otlp_endpoint");
    let trace_ratio = node.number("trace_ratio", 0.01, 0.0, 1.0);
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let log_format = node.choice("log_format", &formats, LogFormat::Json);
    node.finish();
    Telemetry {
        otlp_endpoint,
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
            // Asked for with every request.
            trace_ratio: _,
            log_format,
        } = self;
        let endpoint = "telemetry.otlp_endpoint";
        waiting.keep(endpoint, &old.otlp_endpoint, otlp_endpoint);
        waiting.keep("telemetry.log_format", &old.log_format, log_format);
    }
}
