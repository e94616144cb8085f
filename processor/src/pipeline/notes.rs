//! What is known of a record apart from what becomes of it: for metrics and spans, never for judging.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use sluice_schemas::raw::{RawRequest, TRACEPARENT};
use sluice_schemas::trace::TraceContext;
use uuid::Uuid;

use crate::record::Record;

/// What was seen on the way of one record. Texts are kept where they are there anyway, and those of a record
/// that is no event only if its trace is sampled.
#[derive(Debug, Default)]
pub struct Notes {
    /// When ingest received the request, microseconds since 1970.
    pub received_at: Option<i64>,
    /// Ingest's name of the request.
    pub request_id: Option<Uuid>,
    /// The event type.
    pub r#type: Option<String>,
    /// The name of the secret that verified it.
    pub key_id: Option<String>,
    /// The event has a type without a topic of its own.
    pub unknown_type: bool,
}

impl Notes {
    /// The request is known.
    pub fn request(&mut self, request: &RawRequest) {
        self.received_at = Some(request.received_at);
        self.request_id = Some(request.id);
    }
}

/// The trace that ingest began for a record.
pub fn trace(record: &Record) -> Option<TraceContext> {
    TraceContext::parse(record.header(TRACEPARENT)?)
}

/// Whether that trace is sampled. Most are not, which their last flags say at once.
pub fn is_sampled(record: &Record) -> bool {
    let value = record.header(TRACEPARENT).unwrap_or_default();
    !value.ends_with(b"-00") && trace(record).is_some_and(|context| context.sampled)
}
