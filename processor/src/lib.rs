//! The processor: raw record in, event or one of the other fates out, exactly once.
//!
//! Comes in: the topic `webhooks.raw`. Goes out: event topics, duplicates, rejected and dead letters,
//! and the dedup-log, in one Kafka transaction with the offsets. It never answers providers, and what
//! it decides depends on the record, the settings and the dedup index alone: [`pipeline`] reads no clock.
//!
//! Four wings over one [`record`]: [`pipeline`] judges it by four verbs, [`dedup`] remembers the events, the
//! [`engine`] writes what became of it in transactions, and [`kafka`] is what the engine asks of the brokers.

pub mod record;

pub mod pipeline;

pub mod dedup;

pub mod engine;

pub mod kafka;

pub mod registry;

pub mod rules;

pub mod memory_bound;

pub mod metrics;

pub mod spans;

pub mod positions;

pub mod lag;

pub mod clocks;

pub mod fate_bytes;

pub mod signing;

pub mod service;

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod bounds_tests;

#[cfg(test)]
mod guards;
