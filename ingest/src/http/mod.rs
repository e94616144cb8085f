//! HTTP: connections within their bounds, from the handshake to the last answer.
//!
//! Comes in: a listener. Goes out: requests whose heads and bodies are within the limits, to
//! [`crate::receive`], and its answers. Never here: what a request is for.

pub mod server;

pub mod threads;

pub mod tls;

mod any_client;

pub(crate) mod proxy_protocol;

mod connections;

mod begin;

pub(crate) mod connection;

mod activity;

mod eviction;

mod socket;

pub mod peers;

pub mod hangup;

mod yielding;

pub mod body;

pub mod body_buffer;
