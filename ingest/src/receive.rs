//! A request on its way in: whether it may pass, its body, its raw record, its answer.

use std::net::IpAddr;
use std::sync::Arc;

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
use crate::open_request::OpenRequest;
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
    pub fn configure(&self, mut config: Config) {
        config.auth.inherit(&self.config.load().auth);
        self.budget.resize(config.max_buffered);
        begin_series(&self.metrics, &config);
        self.config.store(Arc::new(config));
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one request, and counts the answer. What the head decides is decided in the call, so that the
    /// future holds no head. A future is moved as a whole for each request, to memory of its connection: its
    /// size counts.
    pub fn receive<'a, B>(
        &'a self,
        config: &'a Config,
        request: Request<B>,
        origin: &'a Origin,
    ) -> impl Future<Output = Answer> + 'a
    where
        B: Body<Data = Bytes, Error = Unread> + Unpin + 'a,
    {
        let (head, mut body) = request.into_parts();
        let authorized = authorize(config, &head, origin);
        let route = authorized
            .as_ref()
            .map_or_else(|(route, _)| *route, |route| Some(*route));
        let mut open = OpenRequest::new(&self.metrics, route);
        // A sender that asks before sending has sent nothing yet, and sees the answer without reading.
        let asks = head.headers.contains_key(EXPECT);
        let http2 = head.version == Version::HTTP_2;
        let admitted = authorized
            .map_err(|(_, answer)| answer)
            .and_then(|route| self.admit(config, &head, &body, (route, origin), &mut open));
        async move {
            let answer = match admitted {
                Ok(admitted) => {
                    let log = open.log();
                    self.work(config, admitted, &mut body, origin, &mut open)
                        .instrument(log)
                        .await
                }
                Err(answer) => answer,
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
    }

    /// Brings the gauge of held bytes up to date: some are given back after their sender was answered.
    pub fn count_buffered(&self) {
        self.metrics.buffered(self.budget.held());
    }

    /// Admits a request that passed authentication, or refuses it by its head and by what its body
    /// announces. Its span begins, where it is sampled.
    fn admit<'a>(
        &self,
        config: &Config,
        head: &Parts,
        body: &impl Body,
        (route, origin): (&'a Route, &Origin),
        open: &mut OpenRequest<'_>,
    ) -> Result<Admitted<'a>, Answer> {
        let Ok(ids) = Ids::new(&self.random, config.trace_ratio) else {
            return Err(Answer::Unavailable(UnavailableReason::Broker));
        };
        let scheme = if origin.secure { "https" } else { "http" };
        let asked = (head.version, &head.headers);
        open.span = ServerSpan::start(&self.traces, &ids, asked, (route, scheme));
        if origin.over {
            return Err(Answer::TooManyRequests(Limit::PeerBytes));
        }
        if !route.takes_one(origin.peer) {
            return Err(Answer::TooManyRequests(Limit::Rate));
        }
        if is_encoded(&head.headers) {
            return Err(Answer::UnsupportedEncoding);
        }
        if body.size_hint().lower() > route.max_body {
            return Err(Answer::TooLarge(Limit::MaxBody));
        }
        if !self.durable.is_open() {
            return Err(Answer::Unavailable(UnavailableReason::Starting));
        }
        Ok(Admitted {
            route,
            ids,
            version: head.version,
            head: Head::new(head, route),
        })
    }

    /// Reads the body of a request, and makes the request durable.
    async fn work(
        &self,
        config: &Config,
        admitted: Admitted<'_>,
        body: &mut (impl Body<Data = Bytes, Error = Unread> + Unpin),
        origin: &Origin,
        open: &mut OpenRequest<'_>,
    ) -> Answer {
        let read = self.read(&admitted, body, origin);
        let (body, permit) = match tokio::time::timeout(config.body_timeout, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(answer)) => return answer,
            Err(_) => return Answer::RequestTimeout(Limit::BodyTimeout),
        };
        open.waits_for = Part::Answer;
        let length = body.len();
        let mut request = build_record(admitted, body, permit, origin.peer);
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
        admitted: &Admitted<'_>,
        body: &mut (impl Body<Data = Bytes, Error = Unread> + Unpin),
        origin: &Origin,
    ) -> Result<(Bytes, Permit), Answer> {
        let Admitted { route, head, .. } = admitted;
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
        let open = admitted.version == Version::HTTP_2 && !body.is_end_stream();
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

/// Begins the series of all sources that are answered.
fn begin_series(metrics: &Metrics, config: &Config) {
    for route in config.auth.routes() {
        metrics.source(&route.name);
    }
}

/// A request that was not refused before its body.
struct Admitted<'a> {
    route: &'a Route,
    ids: Ids,
    version: Version,
    head: Head,
}

/// Makes the raw record.
fn build_record(
    admitted: Admitted<'_>,
    body: Bytes,
    permit: Permit,
    peer: IpAddr,
) -> AcceptedRequest {
    let Admitted {
        route, ids, head, ..
    } = admitted;
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
