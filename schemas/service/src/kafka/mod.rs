//! What both services do with Kafka: the properties that every client has, and the topics.

pub mod client;

pub mod topics;
