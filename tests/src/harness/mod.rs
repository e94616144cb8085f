//! A deployment on this machine, and what drives and watches it from outside: real Kafka, the real binaries.

pub mod wait;

pub mod janitor;

pub mod clock;

pub mod child;

pub mod ports;

pub mod proxy;

pub mod cluster;

pub mod registry;

pub mod collector;

pub mod prometheus;

pub mod deployment;

pub mod process;

pub mod wire;

pub mod client;

pub mod target;

pub mod topics;

pub mod offsets;

pub mod metrics;
