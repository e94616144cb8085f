//! Restoring a partition's dedup index from the dedup-log, on a thread of its own, so that other partitions
//! go on meanwhile: [`position`] decides where judging begins, [`log`] reads the dedup-log, [`partition`] is
//! one partition's way, and [`restorer`] takes turns between them.

mod question;

mod growing;

mod position;

pub mod log;

mod partition;

mod restorer;

pub use question::{First, Outcome, Repair, RestoreHalt, Restored, Wanted, undecided_offset};
pub use restorer::Restorer;
