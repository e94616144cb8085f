//! The settings: one YAML file for both binaries, one module here for each of its sections. A section's module holds
//! its struct, each default, each bound, and what of it waits for a restart.
//!
//! Comes in: the bytes of the file, and what [`Environment`] holds. Goes out: [`Settings`] that are complete and
//! checked, or every fault with its path. Never here: reading files, or asking the machine.

pub mod reader;

pub(crate) mod values;

mod restart;

mod kafka;

mod oauth;

mod topics;

mod registry;

mod secret;

mod source;

mod spool;

mod tls;

mod peer;

mod limits;

mod network;

mod ingest;

mod processor;

mod telemetry;

mod file;

mod derived;

mod sizes;

mod change;

mod warnings;

pub use change::{Change, Part};
pub use file::{Environment, MAX_FILE_BYTES, Origin, Settings};
pub use ingest::Ingest;
pub use kafka::Kafka;
pub use limits::Limits;
pub use oauth::OIDC;
pub use peer::PeerFrom;
pub use processor::{Begin, Membership, Processor};
pub use reader::{Fault, Faults, Node};
pub use registry::SchemaRegistry;
pub use secret::Secret;
pub use sizes::{OUTPUT_QUEUE_BYTES, RAW_OVERHEAD};
pub use source::Source;
pub use spool::Spool;
pub use telemetry::{LogFormat, OtlpProtocol, Telemetry};
pub use tls::TlsFiles;
pub use topics::{Retention, Topics};
pub use warnings::Warning;
