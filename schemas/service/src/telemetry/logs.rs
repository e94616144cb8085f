//! Logs. They go to standard error, so that standard output stays for what a command prints.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use sluice_schemas::settings::{LogFormat, Telemetry};

/// The variable that says what is logged, such as `debug` or `warn,sluice_ingest=debug`.
pub const LOG_VARIABLE: &str = "SLUICE_LOG";

/// The default filter. The HTTP/2 library warns of each connection that it ends for a flood: an attacker
/// would fill the log. A metric counts these connections.
const DEFAULT: &str = "info,h2=error";

/// Starts logging for the whole process; a second call changes nothing. librdkafka's lines come in
/// under the target `librdkafka`.
pub fn init(telemetry: &Telemetry) {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let (filter, fault) = match EnvFilter::try_new(&wanted) {
        Ok(filter) if !wanted.trim().is_empty() => (filter, None),
        Ok(_) => (EnvFilter::new(DEFAULT), None),
        Err(error) => (EnvFilter::new(DEFAULT), Some(error)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A second call finds a subscriber in place; tests in one process do that.
    let _ = match telemetry.log_format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
    };
    if let Some(error) = fault {
        tracing::warn!(%error, "{LOG_VARIABLE} is no filter: the log level is info");
    }
}
