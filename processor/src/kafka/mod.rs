//! What the engine asks of Kafka, and no more than that.
//!
//! The [engine](crate::engine) is written against these traits. [`cluster`] answers them for a running
//! processor by librdkafka, and this folder is the one place that knows the client's peculiarities; the
//! simulation answers them with brokers in memory, where time, faults and the order of things are chosen by a
//! seed.

pub mod api;

pub mod assignment;

pub mod base;

pub mod cluster;

pub mod watchdog;

mod librdkafka;

pub mod consumer;

pub mod producer;

pub mod reader;

pub mod lag;

pub mod check;

pub use api::*;
