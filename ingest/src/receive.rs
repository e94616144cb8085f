//! A request on its way in: whether it may pass, its body, its raw record, its answer.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{CONTENT_ENCODING, EXPECT, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Request, Version};
use ring::rand::{SecureRandom, SystemRandom};
use sluice_schemas::providers::partition_key;
use sluice_schemas::raw::{Ack, RawRequest};
use uuid::Uuid;

use crate::answer::{Answer, UnavailableReason};
use crate::auth::{AuthorityId, Route};
use crate::byte_budget::{ByteBudget, Full, Permit};
use crate::clock;
use crate::config::Config;
use crate::headers;
use crate::http::body::{Inbound, Unread};
use crate::http::body_buffer::{BodyBuffer, discard, max_chunks};
use crate::metrics::{Metrics, Part};
use crate::path::{self, Named};
use crate::persist::{AcceptedRequest, Durable};
use crate::publish::Publish;

/// The content codings that are registered at IANA, `identity` apart. A body in one of them is refused,
/// for none is decoded.
const CODINGS: [&str; 12] = [
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "exi",
    "gzip",
    "pack200-gzip",
    "x-compress",
    "x-gzip",
    "zstd",
];

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The sender's address.
    pub peer: IpAddr,
    /// The authorities that the client's certificate proves.
    pub certified: Arc<[AuthorityId]>,
    /// It has sent more than it may.
    pub over: bool,
}

/// What receiving a request needs.
#[derive(Debug)]
pub struct Receiver<P> {
    config: ArcSwap<Config>,
    durable: Arc<Durable<P>>,
    metrics: Metrics,
    budget: ByteBudget,
    random: SystemRandom,
}

impl<P: Publish> Receiver<P> {
    /// Answers 503 as long as nothing can be made durable.
    pub fn new(config: Config, durable: Arc<Durable<P>>, metrics: Metrics) -> Self {
        let budget = ByteBudget::new(config.max_buffered);
        Self {
            config: ArcSwap::from_pointee(config),
            durable,
            metrics,
            budget,
            random: SystemRandom::new(),
        }
    }

    /// Ingest's part of the settings, as it is now. A request keeps the part that it began with.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// From the next request on, this part of the settings is in force.
    pub fn configure(&self, config: Config) {
        self.budget.resize(config.max_buffered);
        self.config.store(Arc::new(config));
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one request, and counts the answer.
    pub async fn receive(&self, request: Request<Inbound>, origin: &Origin) -> Answer {
        let (head, mut body) = request.into_parts();
        let config = self.config();
        let authorized = authorize(&config, &head, origin);
        let route = authorized
            .as_ref()
            .map_or_else(|(route, _)| *route, |route| Some(*route));
        let mut open = Open::new(&self.metrics, route);
        let answer = match authorized {
            Ok(route) => {
                self.accept(&config, &head, &mut body, (route, origin), &mut open)
                    .await
            }
            Err((_, answer)) => answer,
        };
        // A sender that asks before sending has sent nothing yet, and sees the answer without reading.
        let asks = head.headers.contains_key(EXPECT);
        if answer != Answer::RequestTimeout && !asks && !body.is_end_stream() {
            discard(body).await;
        }
        open.answered(answer);
        self.count_buffered();
        answer
    }

    /// Brings the gauge of held bytes up to date: some are given back after their sender was answered.
    pub fn count_buffered(&self) {
        self.metrics.buffered(self.budget.held());
    }

    async fn accept(
        &self,
        config: &Config,
        head: &Parts,
        body: &mut Inbound,
        (route, origin): (&Route, &Origin),
        open: &mut Open<'_>,
    ) -> Answer {
        if origin.over || !route.takes_one() {
            return Answer::TooManyRequests;
        }
        if is_encoded(&head.headers) {
            return Answer::UnsupportedEncoding;
        }
        if body.size_hint().lower() > route.max_body {
            return Answer::TooLarge;
        }
        if !self.durable.is_open() {
            return Answer::Unavailable(UnavailableReason::Starting);
        }
        let read = self.read(head.version, body, route);
        let (body, permit) = match tokio::time::timeout(config.body_timeout, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(answer)) => return answer,
            Err(_) => return Answer::RequestTimeout,
        };
        open.waits_for = Part::Answer;
        match self.build_record(config, head, body, permit, (route, origin.peer)) {
            Ok(request) => self.durable.persist(request).await,
            Err(answer) => answer,
        }
    }

    /// The whole body, and the permit to hold it. What its length announces is asked for before any
    /// of it is read.
    async fn read(
        &self,
        version: Version,
        body: &mut Inbound,
        route: &Route,
    ) -> Result<(Bytes, Permit), Answer> {
        let bytes = |count| usize::try_from(count).unwrap_or(usize::MAX);
        let max_body = bytes(route.max_body);
        let announced = body.size_hint();
        let permit = self.permit(route, bytes(announced.lower()))?;
        let most = announced.upper().map_or(max_body, bytes).min(max_body);
        let mut buffer = BodyBuffer::new(permit, most);
        let mut chunks = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|unread| match unread {
                Unread::Slow => Answer::RequestTimeout,
                Unread::Broken => Answer::BadRequest,
                // The sender may be gone and not read the answer.
                Unread::Ended => Answer::BrokenOff,
            })?;
            let Ok(data) = frame.into_data() else {
                // Trailers are no part of the body.
                continue;
            };
            chunks += 1;
            if chunks > max_chunks(max_body) || buffer.length() + data.len() > max_body {
                return Err(Answer::TooLarge);
            }
            buffer.push(data, |more| self.permit(route, more))?;
        }
        // hyper ends a body in good order where its HTTP/2 stream is reset with NO_ERROR.
        let open = version == Version::HTTP_2 && !body.is_end_stream();
        let cut = announced
            .exact()
            .is_some_and(|length| bytes(length) != buffer.length());
        if open || cut {
            return Err(Answer::BrokenOff);
        }
        Ok(buffer.into_body())
    }

    fn permit(&self, route: &Route, bytes: usize) -> Result<Permit, Answer> {
        Permit::take(&self.budget, &route.buffers, bytes).map_err(|full| {
            Answer::Unavailable(match full {
                Full::All => UnavailableReason::Buffers,
                Full::Source => UnavailableReason::SourceBuffers,
            })
        })
    }

    /// Makes the raw record, and measures it before anything is promised.
    fn build_record(
        &self,
        config: &Config,
        head: &Parts,
        body: Bytes,
        permit: Permit,
        (route, peer): (&Route, IpAddr),
    ) -> Result<AcceptedRequest, Answer> {
        let mut random = [0; 34];
        // The system's generator does not fail once it has started; if it does, no id is unique.
        self.random
            .fill(&mut random)
            .map_err(|_| Answer::Unavailable(UnavailableReason::Broker))?;
        let received_at = clock::now();
        let raw = RawRequest {
            id: request_id(received_at, &random),
            source: route.name.to_string(),
            provider: route.provider.to_owned(),
            received_at,
            method: head.method.as_str().to_owned(),
            target: path::target_without_token(&head.uri, &route.name),
            peer,
            token: route.guarded,
            ack: Ack::Broker,
            headers: headers::kept(&head.headers, &route.required),
        };
        let key = partition_key(route.verifier.as_ref(), &raw.headers, &body);
        let traceparent = traceparent(&random, config.trace_ratio);
        let request = AcceptedRequest::new(raw, key, traceparent, body, permit);
        if request.record().size() > config.max_record {
            return Err(Answer::TooLarge);
        }
        Ok(request)
    }
}

/// A request that has no answer yet. Where the work on it is dropped, its sender reset it or its connection
/// was ended, which is counted.
struct Open<'a> {
    metrics: &'a Metrics,
    source: Option<&'a Arc<str>>,
    waits_for: Part,
    answered: bool,
}

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics, route: Option<&'a Route>) -> Self {
        Self {
            metrics,
            source: route.map(|route| &route.name),
            waits_for: Part::Body,
            answered: false,
        }
    }

    fn answered(mut self, answer: Answer) {
        self.answered = true;
        self.metrics.answered(self.source, answer);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.metrics.broken_off(self.source, self.waits_for);
        }
    }
}

/// What is decided by method, path and required headers.
fn authorize<'c>(
    config: &'c Config,
    head: &Parts,
    origin: &Origin,
) -> Result<&'c Route, (Option<&'c Route>, Answer)> {
    let Named { source, token } = path::named(head.uri.path());
    let authenticated = config.auth.authenticate(
        source.as_deref(),
        token.as_deref(),
        &head.headers,
        &origin.certified,
    );
    if head.method != Method::POST {
        return Err((
            authenticated.map_or_else(|route| route, Some),
            Answer::MethodNotAllowed,
        ));
    }
    authenticated.map_err(|route| (route, Answer::NotFound))
}

/// Whether the body is in one of [`CODINGS`]. Any other name is a sender's mistake, such as `utf-8`, and
/// the body is not coded.
fn is_encoded(headers: &HeaderMap) -> bool {
    let known = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        CODINGS
            .iter()
            .any(|known| coding.eq_ignore_ascii_case(known.as_bytes()))
    };
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(known)
}

/// `UUIDv7` of a time in microseconds, from the first ten random bytes.
fn request_id(micros: i64, random: &[u8; 34]) -> Uuid {
    let millis = u64::try_from(micros / 1000).unwrap_or(0);
    let mut own = [0; 10];
    own.copy_from_slice(&random[..10]);
    uuid::Builder::from_unix_timestamp_millis(millis, &own).into_uuid()
}

/// A new trace (W3C, version 00), from the last 24 random bytes. Whether it is sampled follows from
/// its id alone, as OpenTelemetry's ratio sampler decides it, so that later services agree.
fn traceparent(random: &[u8; 34], ratio: f64) -> String {
    let (trace, span) = (hex::encode(&random[10..26]), hex::encode(&random[26..]));
    let mut last = [0; 8];
    last.copy_from_slice(&random[18..26]);
    let position = u64::from_be_bytes(last) >> 1;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of requests needs no exact bound"
    )]
    let sampled = ratio >= 1.0 || (position as f64) < ratio * (1_u64 << 63) as f64;
    let flags = if sampled { "01" } else { "00" };
    format!("00-{trace}-{span}-{flags}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_traces_have_their_form() {
        let mut random = [0xab; 34];
        let id = request_id(1_700_000_000_123_456, &random);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.to_string(), "018bcfe5-687b-7bab-abab-abababababab");
        random[18..26].fill(0);
        let trace = "00-abababababababab0000000000000000-abababababababab-";
        assert_eq!(traceparent(&random, 0.01), format!("{trace}01"));
        assert_eq!(traceparent(&random, 0.0), format!("{trace}00"));
        assert!(traceparent(&[0xff; 34], 1.0).ends_with("-01"));
        assert!(traceparent(&[0xff; 34], 0.99).ends_with("-00"));
    }
}
