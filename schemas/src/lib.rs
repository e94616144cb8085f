//! Every name and shape on which two parties of Sluice agree.
//!
//! The journey, in the order of the modules: ingest writes a [`raw`] record; the processor asks the
//! [`providers`] whether it is authentic and what it says, gives it an [`identity`] under which it may
//! be a repetition ([`dedup_log`] keeps those), and writes it as an [`event`] or ends it with another
//! [`fate`] for a [`reason`], on a [`topic`], counted by a [`metric`].
//!
//! Comes in: bytes. Goes out: values and bytes. Never here: I/O, clocks or randomness, outside the
//! feature `service`, which nothing else in this crate imports.

#![deny(clippy::disallowed_methods)]

pub mod raw;

pub mod providers;

pub mod json;

pub mod timestamp;

pub mod identity;

pub mod dedup_log;

pub mod event;

pub mod fate;

pub mod reason;

pub mod topic;

pub mod metric;

pub mod config;

#[cfg(feature = "service")]
#[allow(clippy::disallowed_methods, reason = "a service reads clocks")]
pub mod service;
