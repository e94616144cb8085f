//! The processor: raw record in, event or one of the other fates out, exactly once.
//!
//! Comes in: the topic `webhooks.raw`. Goes out: event topics, duplicates, rejected and dead letters,
//! and the dedup-log, in one Kafka transaction with the offsets. It never answers providers, and what
//! it decides depends on the record, the settings and the memory alone: [`pipeline`] reads no clock.
//!
//! The way of a record: [`consume`] collects a batch; [`pipeline`] judges each record by four verbs
//! ([`verify`], [`dedupe`], [`normalize`], [`route`]); [`transact`] writes what became of it;
//! [`memory`] learns the events once that is committed. [`restore`] rebuilds a memory from the
//! dedup-log when a partition is newly assigned, [`partitions`] keeps where each stands, and [`worker`] is the loop around it.

pub mod consume;

pub mod pipeline;

pub mod verify;

pub mod dedupe;

pub mod memory;

pub mod normalize;

pub mod route;

pub mod fate;

pub mod kafka;

pub mod transact;

pub mod audit;

pub mod restore;

pub mod partitions;

pub mod worker;

pub mod registry;

pub mod in_force;

pub mod metrics;

pub mod service;

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod guards;
