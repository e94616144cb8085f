//! What both services do with Kafka: the properties that every client has, what it says of itself, and the
//! topics. What a tool for operators reads: records and offsets.

pub mod oauth;

pub mod check;

pub mod client;

pub mod refusal;

pub mod credentials;

pub mod plain;

pub mod statistics;

pub mod clocks;

pub mod topics;

pub mod read;

pub mod offsets;
