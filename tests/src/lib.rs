//! The harness: real Kafka, the real binaries, and what watches them from outside.
//!
//! Comes in: the binaries as cargo built them and the jars that `make kafka` fetched. Goes out: a
//! [`harness`] (a cluster with a proxy where faults are wanted, a deployment with settings for every
//! provider, the processes under it, clients, and the topics as a reader sees them), the [`load`] of senders
//! with their ledger, a [`report`] of each request's fate, the [`balance`] of the services' own counters, and
//! a [`checker`] that audits the topics and compares them with the sender's ledger, each fate with what is
//! [`expected`] of it.
//! Never here: a way into a binary that its users have not. Nothing outlives the harness, however it
//! ends: children end with it, and a janitor removes its files.

pub mod harness;

pub mod load;

pub mod balance;

pub mod report;

pub mod checker;

pub mod expected;
