//! Every metric of both services. The registry of the process adds what `OpenMetrics` demands on the wire:
//! the unit, and `_total` behind a counter ([`Metric::exposed`]).

mod kind;

pub mod ingest;

pub mod processor;

pub mod service;

pub use kind::{Kind, Metric, UNKNOWN_SOURCE, Unit};

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "golden files are files")]
mod tests;
