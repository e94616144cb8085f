//! Logs, spans and the export of metrics. [`Telemetry`] is made once, at the start of a service.

pub mod logs;

pub mod repeated;

pub mod resource;

pub mod headers;

pub mod otlp;

pub mod exposition;

pub mod metrics;

pub mod traces;

mod start;

pub use logs::init;
pub use opentelemetry::KeyValue;
pub use repeated::Repeated;
pub use start::{Telemetry, check};
pub use traces::{Kind, Span, Traces};
