//! The engine: what makes the pipeline's decisions durable, exactly once.
//!
//! [`worker`] is the loop: [`collect`] polls a [`batch`], [`transaction`] writes what became of it,
//! [`partitions`] keeps the state of each partition, and [`restore`] rebuilds an index from the dedup-log on
//! another thread, after the [`audit`] that every fate is visible. The engine asks Kafka through the traits
//! of [`crate::kafka`] alone.

pub mod batch;

pub mod size;

pub mod collect;

pub mod observed;

pub mod outcome;

pub mod halt;

pub mod transaction;

pub mod audit;

pub mod restore;

pub mod partitions;

pub mod worker;
