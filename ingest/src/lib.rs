//! HTTP in, durable raw record out.
//!
//! Comes in: webhooks, by `POST /v1/hooks/{source}` ([`http`], [`receive`]). Goes out: one record of
//! `webhooks.raw` each ([`publish`]), and 200 once all in-sync replicas have it, or the local disk where
//! Kafka is away ([`persist`], [`spool`], [`answer`]). Never here: providers' secrets,
//! verification, a body that is changed, a 2xx for what is not durable.

pub mod arguments;

pub mod check;

pub mod config;

pub mod service;

mod raw_topic;

pub mod drain_command;

pub mod descriptors;

pub mod http;

pub mod auth;

pub mod receive;

pub mod token_bucket;

mod clock;

mod ids;

mod spans;

mod path;

mod headers;

mod encoding;

mod mask;

mod network;

mod peer_rates;

mod head;

mod open_request;

pub mod byte_budget;

pub mod persist;

pub mod publish;

pub mod spool;

pub mod answer;

pub mod metrics;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
