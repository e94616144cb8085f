//! The answers to senders: a closed list, each with its status and a stable word.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use uuid::Uuid;

use crate::byte_budget;

/// For how many seconds a sender is asked to wait after 503: long enough for a leader election.
const RETRY_AFTER_SECONDS: &str = "2";

/// The same after 429: the bound is one on a second.
const RATE_RETRY_AFTER_SECONDS: &str = "1";

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 200: durable, under this id.
    Accepted(Uuid),
    /// 400: the request is malformed, or cannot be separated from what follows.
    BadRequest,
    /// 400: the sender ended the body before it was whole, and may be gone.
    BrokenOff,
    /// 404: no such source, or not the token or headers that it requires. Never more than that.
    NotFound,
    /// 405: anything but POST.
    MethodNotAllowed,
    /// 408: the body took too long, or came too slowly.
    RequestTimeout(Limit),
    /// 413: the body or the record is too large.
    TooLarge(Limit),
    /// 415: a body in a registered content coding.
    UnsupportedEncoding,
    /// 429: more than the settings let this source or this peer send.
    TooManyRequests(Limit),
    /// 431: too many or too large headers.
    HeadTooLarge,
    /// 503: the fault is ours, and the sender must send again.
    Unavailable(UnavailableReason),
}

/// A limit that refuses requests. Its label is its name in the settings, where it is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// A source's requests a second.
    Rate,
    /// A peer's bytes a second.
    PeerBytes,
    /// The bytes of a source's body.
    MaxBody,
    /// The chunks of a body.
    BodyChunks,
    /// The bytes of a record of the raw topic.
    MaxRecord,
    /// The time of a body.
    BodyTimeout,
    /// The least bytes a second of a body.
    BodyRate,
    /// The bytes of a head, or the number of its headers.
    HeaderBytes,
    /// The bytes of all bodies that are held.
    MaxBuffered,
    /// One source's share of them.
    SourceBuffered,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rate,
        Self::PeerBytes,
        Self::MaxBody,
        Self::BodyChunks,
        Self::MaxRecord,
        Self::BodyTimeout,
        Self::BodyRate,
        Self::HeaderBytes,
        Self::MaxBuffered,
        Self::SourceBuffered,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::PeerBytes => "peer_bytes",
            Self::MaxBody => "max_body",
            Self::BodyChunks => "body_chunks",
            Self::MaxRecord => "max_record",
            Self::BodyTimeout => "body_timeout",
            Self::BodyRate => "body_rate",
            Self::HeaderBytes => "header_bytes",
            Self::MaxBuffered => "max_buffered",
            Self::SourceBuffered => "source_buffered",
        }
    }
}

/// Why Ingest answers 503. For metrics and the log: the sender sees 503 and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnavailableReason {
    /// The topics are not verified yet.
    Starting,
    /// `max_buffered` is used up.
    Buffers,
    /// The source's share of it is used up, or what the heads of an HTTP/2 connection may take.
    SourceBuffers,
    /// The producer's queue takes no more.
    Queue,
    /// The brokers did not acknowledge in time.
    Acknowledgement,
    /// The brokers refused, or the producer is broken.
    Broker,
    /// Raw takes no record of this size, though the settings do: `max.message.bytes` of the topic is too
    /// small.
    TopicLimit,
    /// The spool is full or broken.
    Spool,
    /// The source's share of the spool is used up.
    SpoolShare,
}

impl UnavailableReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Buffers,
        Self::SourceBuffers,
        Self::Queue,
        Self::Acknowledgement,
        Self::Broker,
        Self::TopicLimit,
        Self::Spool,
        Self::SpoolShare,
    ];

    /// The limit that was met, if it was one.
    fn limit(self) -> Option<Limit> {
        match self {
            Self::Buffers => Some(Limit::MaxBuffered),
            Self::SourceBuffers => Some(Limit::SourceBuffered),
            Self::Starting
            | Self::Queue
            | Self::Acknowledgement
            | Self::Broker
            | Self::TopicLimit
            | Self::Spool
            | Self::SpoolShare => None,
        }
    }

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Buffers => "buffers",
            Self::SourceBuffers => "source_buffers",
            Self::Queue => "queue",
            Self::Acknowledgement => "acknowledgement",
            Self::Broker => "broker",
            Self::TopicLimit => "topic_limit",
            Self::Spool => "spool",
            Self::SpoolShare => "spool_share",
        }
    }
}

impl From<byte_budget::Full> for Answer {
    fn from(full: byte_budget::Full) -> Self {
        use byte_budget::Full;
        Self::Unavailable(match full {
            Full::All => UnavailableReason::Buffers,
            // The connection's part is one of the source's.
            Full::Source | Full::Connection => UnavailableReason::SourceBuffers,
        })
    }
}

impl Answer {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Accepted(_) => StatusCode::OK,
            Self::BadRequest | Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// In one word, why it is not 200: for spans. What was lacking where the fault is ours.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::BadRequest => "bad_request",
            Self::BrokenOff => "broken_off",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout(_) => "request_timeout",
            Self::TooLarge(_) => "too_large",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::TooManyRequests(_) => "too_many_requests",
            Self::HeadTooLarge => "head_too_large",
            Self::Unavailable(reason) => reason.label(),
        }
    }

    /// Whether there was no memory for the request.
    pub fn is_full(self) -> bool {
        matches!(
            self,
            Self::Unavailable(UnavailableReason::Buffers | UnavailableReason::SourceBuffers)
        )
    }

    /// The limit that refused the request, if one did.
    pub fn limit(self) -> Option<Limit> {
        match self {
            Self::TooLarge(limit) | Self::RequestTimeout(limit) | Self::TooManyRequests(limit) => {
                Some(limit)
            }
            Self::HeadTooLarge => Some(Limit::HeaderBytes),
            Self::Unavailable(reason) => reason.limit(),
            Self::Accepted(_)
            | Self::BadRequest
            | Self::BrokenOff
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::UnsupportedEncoding => None,
        }
    }

    fn body(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Accepted(id) => return format!(r#"{{"id":"{id}"}}"#).into(),
            Self::BadRequest | Self::BrokenOff => br#"{"error":"bad_request"}"#,
            Self::NotFound => br#"{"error":"not_found"}"#,
            Self::MethodNotAllowed => br#"{"error":"method_not_allowed"}"#,
            Self::RequestTimeout(_) => br#"{"error":"request_timeout"}"#,
            Self::TooLarge(_) => br#"{"error":"too_large"}"#,
            Self::UnsupportedEncoding => br#"{"error":"unsupported_encoding"}"#,
            Self::TooManyRequests(_) => br#"{"error":"too_many_requests"}"#,
            Self::HeadTooLarge => br#"{"error":"head_too_large"}"#,
            Self::Unavailable(_) => br#"{"error":"unavailable"}"#,
        })
    }

    /// The response. `last` closes the connection after it.
    pub fn response(self, last: bool) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            Self::TooManyRequests(_) => {
                let seconds = HeaderValue::from_static(RATE_RETRY_AFTER_SECONDS);
                headers.insert(RETRY_AFTER, seconds);
            }
            Self::Unavailable(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        // After these, what is left of the body may still be coming.
        let unread = matches!(
            self,
            Self::BadRequest
                | Self::BrokenOff
                | Self::RequestTimeout(_)
                | Self::TooLarge(_)
                | Self::HeadTooLarge
        );
        if last || unread {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
