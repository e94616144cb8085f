//! Every name and shape on which two parties of Sluice agree.
//!
//! The journey, in the order of the modules: ingest writes a [`raw`] record; the processor asks the
//! [`providers`] whether it is authentic and what it says, gives it an [`identity`] under which it may
//! be a repetition ([`dedup_log`] keeps those), and writes it as an [`event`] or ends it with another
//! [`fate`] for a [`reason`], on a [`topic`]. A tool reads it there as a [`record`], and the [`audit`] counts
//! both ends. What happens is counted by a [`metric`] and traced by a [`trace`] context.
//!
//! The [`settings`] are what operator, both services and the chart agree on, and so is the [`acl`] that each
//! process needs.
//!
//! Comes in: bytes. Goes out: values and bytes. Never here: I/O, clocks, randomness, the environment of the process.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod raw;

pub mod providers;

pub mod json;

pub mod timestamp;

pub mod identity;

pub mod dedup_log;

pub mod event;

pub mod cloudevents;

pub mod fate;

pub mod reason;

pub mod topic;

pub mod placement;

pub mod record;

pub mod audit;

pub mod metric;

pub mod trace;

pub mod settings;

pub mod acl;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
