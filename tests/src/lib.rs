//! The harness: real Kafka, the real binaries, and what looks at them from outside.
//!
//! Comes in: the binaries as cargo built them and the jars that `make kafka` fetched. Goes out: a
//! [`cluster`] of nodes with a [`proxy`] where faults are wanted, a [`site`] with settings for every
//! provider, [`process`]es under it, requests as the providers [`send`] them, the [`topics`] as a reader
//! sees them, an [`audit`] of both ends, and a [`checker`] that holds the topics against the sender's
//! [`ledger`].
//! Never here: a way into a binary that its users have not. Nothing outlives the harness, however it
//! ends: children die with it, and a janitor removes its files.

pub mod wait;

pub mod janitor;

pub mod clock;

pub mod child;

pub mod ports;

pub mod proxy;

pub mod cluster;

pub mod registry;

pub mod site;

pub mod process;

pub mod wire;

pub mod send;

pub mod topics;

pub mod offsets;

pub mod audit;

pub mod ledger;

pub mod checker;

pub mod metrics;

pub mod cases;

pub mod account;

pub mod identities;
