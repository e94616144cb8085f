//! The spans of a request that is sampled, while spans go somewhere. Of all others there is nothing here, so
//! that they cost nothing.
//!
//! Names and attributes are those of OpenTelemetry's conventions for HTTP servers and for messaging. Nothing
//! of what a sender sent is in them: no path, token, header or body.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::Version;
use hyper::header::{HeaderMap, HeaderName};
use sluice_schemas::trace::TraceContext;
use sluice_service::telemetry::{KeyValue, Kind, Span, Traces};
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::Route;
use crate::ids::Ids;
use crate::metrics::TraceId;
use crate::publish::Delivered;

/// The route of all webhooks.
const ROUTE: &str = "/v1/hooks/{source}";

/// The span of a request: its method, which is always the same, and its route.
const SERVER: &str = "POST /v1/hooks/{source}";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The span of a request that has no answer yet.
#[derive(Debug)]
pub struct ServerSpan {
    traces: Traces,
    context: TraceContext,
    producer: TraceContext,
    start: SystemTime,
    /// What the sender says that the request belongs to. It may say what it likes, so this is no parent.
    link: Option<TraceContext>,
    attributes: Vec<KeyValue>,
    /// What log lines of the request carry.
    log: tracing::Span,
}

impl ServerSpan {
    /// Of a request whose head just came. `None` where nothing is to be exported.
    pub fn start(
        traces: &Traces,
        ids: &Ids,
        (version, headers): (Version, &HeaderMap),
        (route, scheme): (&Route, &'static str),
    ) -> Option<Box<Self>> {
        if !traces.is_on() || !ids.is_sampled() {
            return None;
        }
        let version = if version == Version::HTTP_2 {
            "2"
        } else if version == Version::HTTP_10 {
            "1.0"
        } else {
            "1.1"
        };
        let attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", ROUTE),
            KeyValue::new("url.scheme", scheme),
            KeyValue::new("network.protocol.version", version),
            KeyValue::new("sluice.source", Arc::clone(&route.name)),
            KeyValue::new("sluice.provider", route.provider),
        ];
        let context = ids.server_span();
        Some(Box::new(Self {
            traces: traces.clone(),
            context,
            producer: ids.producer_span(),
            start: SystemTime::now(),
            link: link(headers),
            attributes,
            log: tracing::error_span!(
                "request",
                trace_id = hex::encode(context.trace_id),
                span_id = hex::encode(context.span_id)
            ),
        }))
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.context.trace_id
    }

    /// What log lines of the request carry.
    pub fn log(&self) -> tracing::Span {
        self.log.clone()
    }

    /// The request has an id, by which its record can be found.
    pub fn identified(&mut self, id: Uuid) {
        let id = KeyValue::new("sluice.request_id", id.to_string());
        self.attributes.push(id);
    }

    /// The span of making the request durable, which begins now. The body has so many bytes.
    pub fn send(&self, topic: &str, body: usize) -> Box<SendSpan> {
        Box::new(SendSpan {
            traces: self.traces.clone(),
            context: self.producer,
            parent: self.context.span_id,
            start: SystemTime::now(),
            topic: topic.to_owned(),
            body,
            log: self.log.clone(),
            sent: None,
        })
    }

    /// The request is answered. `None`: it broke off.
    pub fn end(self, answer: Option<Answer>) {
        let Self {
            traces,
            context,
            start,
            link,
            mut attributes,
            ..
        } = self;
        let error = if let Some(answer) = answer {
            let status = answer.status();
            let code = i64::from(status.as_u16());
            attributes.push(KeyValue::new("http.response.status_code", code));
            status.is_server_error().then(|| {
                attributes.push(KeyValue::new("error.type", code.to_string()));
                Cow::Borrowed(answer.cause())
            })
        } else {
            attributes.push(KeyValue::new("error.type", "broken_off"));
            Some(Cow::Borrowed("broken_off"))
        };
        traces.emit(Span {
            context,
            parent: None,
            kind: Kind::Server,
            name: Cow::Borrowed(SERVER),
            start,
            end: SystemTime::now(),
            attributes,
            links: link.into_iter().collect(),
            error,
        });
    }
}

/// The trace context of a sender: exactly one header, and a well-formed one. What else it says of its trace
/// is not read.
fn link(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, another) = (values.next()?, values.next());
    match another {
        None => TraceContext::parse(value.as_bytes()),
        Some(_) => None,
    }
}

/// Where a request became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// In the raw topic.
    Broker(Delivered),
    /// In the spool, which brings it there later.
    Spool,
}

/// The span of making a request durable. Exported when it is dropped: where its sender is gone, the outcome
/// may not be known, and the record has its parent all the same.
#[derive(Debug)]
pub struct SendSpan {
    traces: Traces,
    context: TraceContext,
    parent: [u8; 8],
    start: SystemTime,
    topic: String,
    body: usize,
    log: tracing::Span,
    sent: Option<Result<Stored, Answer>>,
}

impl SendSpan {
    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.context.trace_id
    }

    /// What log lines of the request carry.
    pub fn log(&self) -> tracing::Span {
        self.log.clone()
    }

    /// The request is durable, or is durable nowhere as far as is known.
    pub fn end(mut self, sent: Result<Stored, Answer>) {
        self.sent = Some(sent);
    }
}

impl Drop for SendSpan {
    fn drop(&mut self) {
        let topic = std::mem::take(&mut self.topic);
        let name = format!("send {topic}");
        let body = i64::try_from(self.body).unwrap_or(i64::MAX);
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.destination.name", topic),
            KeyValue::new("messaging.message.body.size", body),
        ];
        let mut error = None;
        match self.sent {
            Some(Ok(Stored::Broker(at))) => {
                let partition = at.partition.to_string();
                let partition = KeyValue::new("messaging.destination.partition.id", partition);
                attributes.push(partition);
                attributes.push(KeyValue::new("messaging.kafka.offset", at.offset));
                attributes.push(KeyValue::new("sluice.ack", "broker"));
            }
            Some(Ok(Stored::Spool)) => attributes.push(KeyValue::new("sluice.ack", "spool")),
            Some(Err(answer)) => {
                attributes.push(KeyValue::new("error.type", answer.cause()));
                error = Some(Cow::Borrowed(answer.cause()));
            }
            None => {}
        }
        self.traces.emit(Span {
            context: self.context,
            parent: Some(self.parent),
            kind: Kind::Producer,
            name: Cow::Owned(name),
            start: self.start,
            end: SystemTime::now(),
            attributes,
            links: Vec::new(),
            error,
        });
    }
}
