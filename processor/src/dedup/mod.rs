//! The dedup index: what a partition remembers of the events of the last windows.
//!
//! Comes in: entries of committed events, from a batch or from the dedup-log. Goes out: whether an
//! identity is there, and since when. Never here: I/O, clocks, Kafka.

pub mod index;

pub mod memory;

mod shards;
