//! A request on its way in: whether it may pass, its body, its raw record, its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use hyper::{Method, Request, Version};
use sluice_schemas::providers::partition_key;
use sluice_schemas::raw::{Ack, RawRequest};
use sluice_service::telemetry::Traces;
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::answer::{Answer, Limit, UnavailableReason};
use crate::auth::{AuthorityId, Route};
use crate::byte_budget::{ByteBudget, Permit};
use crate::clock;
use crate::config::Config;
use crate::encoding::is_encoded;
use crate::head::Head;
use crate::http::body::Unread;
use crate::http::body_buffer::{BodyBuffer, discard, max_chunks};
use crate::ids::{Ids, Random};
use crate::metrics::{Metrics, Part};
use crate::path::{self, Named};
use crate::persist::{AcceptedRequest, Durable};
use crate::publish::Publish;
use crate::spans::ServerSpan;

/// How many requests over HTTP/2 that find memory full have their bodies discarded at once: each holds a task
/// of some 10 KiB meanwhile. Those beyond are answered without, and many of them end their connection.
const DISCARDS: usize = 32;

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The sender's address.
    pub peer: IpAddr,
    /// The authorities that the client's certificate proves.
    pub certified: Arc<[AuthorityId]>,
    /// It came by TLS.
    pub secure: bool,
    /// It has sent more than it may.
    pub over: bool,
    /// One permit a byte of the heads of its HTTP/2 connection.
    pub heads: Option<Arc<Semaphore>>,
}

/// What receiving a request needs.
#[derive(Debug)]
pub struct Receiver<P> {
    config: ArcSwap<Config>,
    durable: Arc<Durable<P>>,
    metrics: Metrics,
    traces: Traces,
    budget: ByteBudget,
    /// Permits to discard bodies over HTTP/2 while memory is full.
    discards: Semaphore,
    random: Random,
}

impl<P: Publish> Receiver<P> {
    /// Answers 503 as long as nothing can be made durable.
    pub fn new(config: Config, durable: Arc<Durable<P>>, metrics: Metrics, traces: Traces) -> Self {
        let budget = ByteBudget::new(config.max_buffered);
        begin_series(&metrics, &config);
        Self {
            config: ArcSwap::from_pointee(config),
            durable,
            metrics,
            traces,
            budget,
            discards: Semaphore::new(DISCARDS),
            random: Random::new(),
        }
    }

    /// Ingest's part of the settings, as it is now. A request keeps the part that it began with.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// From the next request on, this part of the settings is in force.
    pub fn configure(&self, config: Config) {
        self.budget.resize(config.max_buffered);
        begin_series(&self.metrics, &config);
        self.config.store(Arc::new(config));
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one request, and counts the answer.
    pub async fn receive<B>(&self, request: Request<B>, origin: &Origin) -> Answer
    where
        B: Body<Data = Bytes, Error = Unread> + Unpin,
    {
        let (head, mut body) = request.into_parts();
        let config = self.config();
        let authorized = authorize(&config, &head, origin);
        let route = authorized
            .as_ref()
            .map_or_else(|(route, _)| *route, |route| Some(*route));
        let mut open = Open::new(&self.metrics, route);
        // A sender that asks before sending has sent nothing yet, and sees the answer without reading.
        let asks = head.headers.contains_key(EXPECT);
        let http2 = head.version == Version::HTTP_2;
        let answer = match authorized {
            Ok(route) => {
                self.accept(&config, head, &mut body, (route, origin), &mut open)
                    .await
            }
            Err((_, answer)) => {
                // Not held while its body is discarded.
                drop(head);
                answer
            }
        };
        let timed_out = matches!(answer, Answer::RequestTimeout(_));
        if !timed_out && !asks && !body.is_end_stream() {
            if http2 && answer.is_full() {
                // What its stream holds meanwhile is in no budget.
                if let Ok(_permit) = self.discards.try_acquire() {
                    discard(body, true).await;
                }
            } else {
                discard(body, false).await;
            }
        }
        open.answered(answer);
        self.count_buffered();
        answer
    }

    /// Brings the gauge of held bytes up to date: some are given back after their sender was answered.
    pub fn count_buffered(&self) {
        self.metrics.buffered(self.budget.held());
    }

    /// Works on a request that passed authentication, in its span where it is sampled.
    async fn accept(
        &self,
        config: &Config,
        head: Parts,
        body: &mut (impl Body<Data = Bytes, Error = Unread> + Unpin),
        (route, origin): (&Route, &Origin),
        open: &mut Open<'_>,
    ) -> Answer {
        let Ok(ids) = Ids::new(&self.random, config.trace_ratio) else {
            return Answer::Unavailable(UnavailableReason::Broker);
        };
        let scheme = if origin.secure { "https" } else { "http" };
        let asked = (head.version, &head.headers);
        open.span = ServerSpan::start(&self.traces, &ids, asked, (route, scheme));
        let log = log_of(open.span.as_deref());
        self.work(config, head, body, (route, origin), (&ids, open))
            .instrument(log)
            .await
    }

    async fn work(
        &self,
        config: &Config,
        head: Parts,
        body: &mut (impl Body<Data = Bytes, Error = Unread> + Unpin),
        (route, origin): (&Route, &Origin),
        (ids, open): (&Ids, &mut Open<'_>),
    ) -> Answer {
        if origin.over {
            return Answer::TooManyRequests(Limit::PeerBytes);
        }
        if !route.takes_one(origin.peer) {
            return Answer::TooManyRequests(Limit::Rate);
        }
        if is_encoded(&head.headers) {
            return Answer::UnsupportedEncoding;
        }
        if body.size_hint().lower() > route.max_body {
            return Answer::TooLarge(Limit::MaxBody);
        }
        if !self.durable.is_open() {
            return Answer::Unavailable(UnavailableReason::Starting);
        }
        let (version, kept) = (head.version, Head::new(&head, route));
        drop(head);
        let read = self.read(version, &kept, body, (route, origin));
        let (body, permit) = match tokio::time::timeout(config.body_timeout, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(answer)) => return answer,
            Err(_) => return Answer::RequestTimeout(Limit::BodyTimeout),
        };
        open.waits_for = Part::Answer;
        let length = body.len();
        let mut request = build_record(kept, body, permit, (route, origin.peer), ids);
        if let Some(span) = &mut open.span {
            span.identified(request.id());
        }
        // Measured before anything is promised.
        if request.record().size() > config.max_record {
            return Answer::TooLarge(Limit::MaxRecord);
        }
        if let Some(span) = &open.span {
            request.traced_by(span.send(&config.raw_topic, length));
        }
        self.durable.persist(request).await
    }

    /// The whole body, and the permit to hold the request. The head's part is asked for before any of the
    /// body is read.
    async fn read(
        &self,
        version: Version,
        head: &Head,
        body: &mut (impl Body<Data = Bytes, Error = Unread> + Unpin),
        (route, origin): (&Route, &Origin),
    ) -> Result<(Bytes, Permit), Answer> {
        let bytes = |count| usize::try_from(count).unwrap_or(usize::MAX);
        let max_body = bytes(route.max_body);
        let announced = body.size_hint();
        let mut permit = self.permit(route, head.bytes())?;
        if let Some(heads) = &origin.heads {
            permit = permit.of_connection(heads, head.bytes())?;
        }
        let most = announced.upper().map_or(max_body, bytes).min(max_body);
        let mut buffer = BodyBuffer::new(permit, most);
        let mut chunks = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|unread| match unread {
                Unread::Slow => Answer::RequestTimeout(Limit::BodyRate),
                Unread::Broken => Answer::BadRequest,
                // The sender may be gone and not read the answer.
                Unread::Ended => Answer::BrokenOff,
            })?;
            let Ok(data) = frame.into_data() else {
                // Trailers are no part of the body.
                continue;
            };
            chunks += 1;
            if chunks > max_chunks(max_body) {
                return Err(Answer::TooLarge(Limit::BodyChunks));
            }
            if buffer.length() + data.len() > max_body {
                return Err(Answer::TooLarge(Limit::MaxBody));
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
        Ok(Permit::take(&self.budget, &route.buffers, bytes)?)
    }
}

/// What log lines of a request carry: nothing, where it is not traced.
fn log_of(span: Option<&ServerSpan>) -> tracing::Span {
    span.map_or_else(tracing::Span::none, ServerSpan::log)
}

/// Begins the series of all sources that are answered.
fn begin_series(metrics: &Metrics, config: &Config) {
    for route in config.auth.routes() {
        metrics.source(&route.name);
    }
}

/// Makes the raw record.
fn build_record(
    head: Head,
    body: Bytes,
    permit: Permit,
    (route, peer): (&Route, IpAddr),
    ids: &Ids,
) -> AcceptedRequest {
    let received_at = clock::now();
    let raw = RawRequest {
        id: ids.request_id(received_at),
        source: route.name.as_ref().to_owned(),
        provider: route.provider.to_owned(),
        received_at,
        method: head.method,
        target: head.target,
        peer,
        token: route.guarded,
        ack: Ack::Broker,
        headers: head.headers,
    };
    let key = partition_key(route.verifier.as_ref(), &raw.headers, &body);
    let traceparent = ids.producer_span().to_string();
    AcceptedRequest::new(raw, key, traceparent, body, permit)
}

/// A request that has no answer yet. Where the work on it is dropped, its sender reset it or its connection
/// was ended, which is counted.
struct Open<'a> {
    metrics: &'a Metrics,
    source: Option<&'a Arc<str>>,
    /// When its head was there.
    since: Instant,
    waits_for: Part,
    answered: bool,
    /// Where one is to be exported.
    span: Option<Box<ServerSpan>>,
}

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics, route: Option<&'a Route>) -> Self {
        Self {
            metrics,
            source: route.map(|route| &route.name),
            since: Instant::now(),
            waits_for: Part::Body,
            answered: false,
            span: None,
        }
    }

    fn answered(mut self, answer: Answer) {
        self.answered = true;
        let span = self.span.take();
        let log = log_of(span.as_deref());
        log.in_scope(|| self.metrics.answered(self.source, answer));
        let is_whole = answer != Answer::BrokenOff;
        if let Some(source) = self.source.filter(|_| is_whole) {
            let trace = span.as_ref().map(|span| span.trace_id());
            self.metrics.took(source, self.since.elapsed(), trace);
        }
        if let Some(span) = span {
            span.end(is_whole.then_some(answer));
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.metrics.broken_off(self.source, self.waits_for);
            if let Some(span) = self.span.take() {
                span.end(None);
            }
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
        (&origin.certified, origin.peer),
    );
    if head.method != Method::POST {
        return Err((
            authenticated.map_or_else(|route| route, Some),
            Answer::MethodNotAllowed,
        ));
    }
    authenticated.map_err(|route| (route, Answer::NotFound))
}
