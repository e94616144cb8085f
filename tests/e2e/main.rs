//! End to end: real Kafka, real binaries, in the order in which a request travels.

mod harness;

mod start;

mod ingest;

mod half_close;

mod journey;

mod refusals;

mod fates;

mod field;

mod reload;

mod duplicates;

mod exactly_once;

mod restore;

mod undecided;

mod operators;

mod grown;

mod readers;

mod clients;

mod secured;

mod spool;

mod network;

mod group;

mod traces;

mod trickle;

mod ctl;

mod ctl_reads;

mod ctl_topics;

mod cases;

mod listen;

mod secrets_in_time;

mod ctl_audit;

mod replay;

mod redrive;

mod subscriptions;

mod explain;

mod conservation;

mod memory;

mod clocks;
