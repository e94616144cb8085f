//! One connection: its requests, and its end.

use std::convert::Infallible;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use sluice_schemas::settings::{Limits, PeerFrom};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use self::errors::{find, is_enhance_your_calm};
use self::violation::{MAX_HEADERS, protocol_violation};
use super::activity::{Activity, H2_HEADER_BYTES, H2_RESETS, RequestGuard, Verdict};
use super::begin::{Stream, begin};
use super::connections::{Server, Slot};
use super::eviction::{ARRIVAL, Ending, LINGER};
use super::hangup::{HangUp, Input, Spawn};
use super::peers;
use super::yielding::YieldingStream;
use crate::answer::Answer;
use crate::auth::AuthorityId;
use crate::byte_budget::heads;
use crate::http::body::Inbound;
use crate::metrics::{Part, Shed};
use crate::publish::Publish;
use crate::receive::Origin;

#[cfg(any(test, feature = "testing"))]
pub mod in_memory;

mod errors;

mod violation;

#[cfg(test)]
mod tests;

/// The window of all bodies of an HTTP/2 connection, in bytes: hyper holds it uncounted
/// until it is read, as it holds as much of an HTTP/1.1 connection.
const H2_WINDOW: u32 = 64 << 10;

/// HTTP/2 requests that were reset before they are accepted, at once: more is an attack.
const H2_PENDING_RESETS: usize = 20;

/// The longest time between two checks of a connection.
const ACTIVITY_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Serves a connection until it ends.
pub(super) async fn connection<P: Publish>(slot: &Slot<P>, stream: TcpStream, from: SocketAddr) {
    // It has no request before it has begun, and may end for another one.
    let beginning = begin(slot, stream, from);
    tokio::pin!(beginning);
    let begun = tokio::select! {
        begun = &mut beginning => begun,
        () = slot.activity.evicted() => return slot.server.receiver.metrics().shed(Shed::Evicted),
    };
    let Some(begun) = begun else {
        return;
    };
    let session = Session {
        server: Arc::clone(&slot.server),
        activity: Arc::clone(&slot.activity),
        input: Arc::default(),
        heads: heads(begun.limits.h2_streams),
        limits: begun.limits,
        peer: begun.peer,
        certified: begun.certified,
    };
    match begun.stream {
        Stream::Clear(stream) => session.serve(stream, None).await,
        Stream::Secure(stream, http2) => session.serve(stream, Some(http2)).await,
    }
    drop(begun.guard);
}

/// What all requests of a connection have in common.
struct Session<P> {
    server: Arc<Server<P>>,
    activity: Arc<Activity>,
    input: Arc<Input>,
    /// One permit a byte of the heads that its HTTP/2 requests hold.
    heads: Arc<Semaphore>,
    limits: Limits,
    peer: IpAddr,
    certified: Arc<[AuthorityId]>,
}

impl<P: Publish> Session<P> {
    /// Speaks HTTP/2 or HTTP/1.1, as was agreed on, else as the other end begins. In the clear, HTTP/2 is
    /// for balancers, which know beforehand that we speak it.
    async fn serve<I>(self, io: I, http2: Option<bool>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let session = Arc::new(self);
        let service = service_fn({
            let session = Arc::clone(&session);
            move |request: Request<Incoming>| {
                // Counted from here on, though it may be reset before it is accepted.
                let guard = session.activity.request(request.version());
                Arc::clone(&session).answer(request, guard)
            }
        });
        let builder = match http2 {
            None => session.builder(),
            Some(true) => session.builder().http2_only(),
            Some(false) => session.builder().http1_only(),
        };
        let stream = HangUp::new(YieldingStream::new(io), Arc::clone(&session.input));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let server = &session.server;
        let metrics = server.receiver.metrics();
        let mut look = tokio::time::interval(session.look());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ending: Option<Ending> = None;
        let mut closing = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return session.ended(ended),
                reason = session.activity.limit_exceeded() => {
                    return metrics.shed(reason);
                }
                () = session.activity.evicted() => {
                    // What has come is read before it ends.
                    if let Some(ended) = until(connection.as_mut(), tokio::task::yield_now()).await {
                        return session.ended(ended);
                    }
                    if let Some(evicted) = session.evicted() {
                        ending = Some(evicted);
                        connection.as_mut().graceful_shutdown();
                    }
                }
                () = Ending::come(ending.as_ref()) => {
                    ending = ending.and_then(|ending| session.not_yet(&ending));
                    if ending.is_none() {
                        return;
                    }
                }
                () = server.closing.cancelled(), if !closing => {
                    closing = true;
                    // The same. Its first request, or the rest of a head, may be on its way.
                    if let Some(ended) = until(connection.as_mut(), session.arrival()).await {
                        return session.ended(ended);
                    }
                    connection.as_mut().graceful_shutdown();
                }
                _ = look.tick() => match session.verdict() {
                    Verdict::Close(reason) => return metrics.shed(reason),
                    Verdict::Drain(reason) if ending.is_none() => {
                        metrics.shed(reason);
                        let linger = if reason == Shed::Age { Duration::MAX } else { LINGER };
                        ending = Some(session.ending(linger));
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Drain(_) | Verdict::Keep => {}
                },
            }
        }
    }

    /// Until what lies at the socket can have been read, and a request that is on its way can have come.
    async fn arrival(&self) {
        tokio::task::yield_now().await;
        if self.activity.may_have_begun() {
            tokio::time::sleep(ARRIVAL).await;
        }
    }

    /// The end for another connection; `None` where a request has begun.
    fn evicted(&self) -> Option<Ending> {
        let linger = self.activity.leave()?.linger();
        self.server.receiver.metrics().shed(Shed::Evicted);
        // Where nothing was served there is nothing to announce.
        let served = self.activity.idle_after() != Some(0);
        Some(self.ending(if served { linger } else { Duration::ZERO }))
    }

    /// When a connection that begins to end now does so, where it is not used any more for this long.
    fn ending(&self, linger: Duration) -> Ending {
        let now = Instant::now();
        let last = now + self.patience();
        let idle = self.activity.idle_after();
        let unused = idle.map_or(last, |_| now.checked_add(linger).unwrap_or(last));
        Ending {
            at: unused.min(last),
            idle,
            last,
        }
    }

    /// A request that came meanwhile has its time, and ends with the answer: more may follow it.
    fn not_yet(&self, ending: &Ending) -> Option<Ending> {
        let idle = self.activity.idle_after();
        let unused = ending.idle.is_some() && ending.idle == idle;
        (!unused && ending.at < ending.last).then(|| Ending {
            at: (Instant::now() + LINGER).min(ending.last),
            idle,
            last: ending.last,
        })
    }

    fn ended(&self, ended: Result<(), Box<dyn Error + Send + Sync>>) {
        if let Err(error) = ended {
            self.broken(error.as_ref());
        }
    }

    /// Counts the connection's last request by the connection's error: those before it were answered.
    fn broken(&self, error: &(dyn Error + 'static)) {
        let metrics = self.server.receiver.metrics();
        if is_enhance_your_calm(error) {
            return metrics.shed(Shed::Resets);
        }
        // Over HTTP/2, a head that is not whole is not seen, and one that is malformed ends its stream.
        let http1 = !self.activity.is_http2();
        let Some(error) = find::<hyper::Error>(error).filter(|_| http1) else {
            return;
        };
        if error.is_parse_too_large() {
            metrics.answered(None, Answer::HeadTooLarge);
        } else if error.is_parse() && !error.is_parse_version_h2() {
            metrics.answered(None, Answer::BadRequest);
        } else if !error.is_shutdown() {
            // Bodies have their own errors, writes have none, and an end between requests is no error.
            metrics.broken_off(None, Part::Head);
        }
    }

    fn builder(&self) -> auto::Builder<Spawn> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(Spawn(Arc::clone(&self.input)));
        builder
            .http1()
            .timer(TokioTimer::new())
            // A sender that half-closes behind a request is answered; a request whose sender has gone is
            // served.
            .half_close(true)
            // Our own limits distinguish a slow head from an idle connection.
            .header_read_timeout(None)
            .max_headers(MAX_HEADERS)
            .max_buf_size(limits.header_bytes);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_connection_window_size(H2_WINDOW)
            .initial_stream_window_size(H2_WINDOW)
            .max_concurrent_streams(limits.h2_streams)
            .max_header_list_size(H2_HEADER_BYTES)
            .max_pending_accept_reset_streams(H2_PENDING_RESETS)
            .max_local_error_reset_streams(H2_RESETS);
        builder
    }

    fn verdict(&self) -> Verdict {
        let head_time = self.server.receiver.config().header_timeout;
        let (ended, near_capacity) = (self.input.has_ended(), self.server.near_capacity());
        self.activity
            .verdict(&self.limits, head_time, ended, near_capacity)
    }

    /// How often the connection is checked: often enough for the shortest of its times.
    fn look(&self) -> Duration {
        let times = [
            self.limits.first_byte_timeout,
            self.limits.idle_timeout,
            self.limits.write_timeout,
            self.server.receiver.config().header_timeout,
        ];
        times
            .into_iter()
            .map(|time| time / 4)
            .fold(ACTIVITY_POLL_INTERVAL, Duration::min)
    }

    /// How long a draining connection may take for its last answers.
    fn patience(&self) -> Duration {
        let config = self.server.receiver.config();
        config.body_timeout + config.ack_timeout + self.limits.write_timeout
    }

    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        guard: RequestGuard,
    ) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> {
        let http2 = request.version() == Version::HTTP_2;
        let asked = match protocol_violation(&request, &self.limits) {
            Some(answer) => Err(answer),
            None => Ok(self.origin(request)),
        };
        async move {
            let receiver = &self.server.receiver;
            let config = receiver.config();
            let answer = match asked {
                Ok((request, origin)) => receiver.receive(&config, request, &origin).await,
                Err(answer) => {
                    receiver.metrics().answered(None, answer);
                    answer
                }
            };
            Ok(self.respond(answer, http2, guard))
        }
    }

    /// The response, which counts as the end of its request.
    fn respond(&self, answer: Answer, http2: bool, guard: RequestGuard) -> Response<Full<Bytes>> {
        let refused = answer.status().is_client_error();
        self.activity.answered(refused);
        let over = self.activity.over(&self.limits);
        if over == Some(Shed::Refusals) && !http2 {
            self.server.receiver.metrics().shed(Shed::Refusals);
        }
        let last = self.server.leaving.load(Ordering::Relaxed)
            || over.is_some()
            || (!http2 && self.input.has_two_ends());
        let mut response = answer.response(last);
        if http2 {
            // HTTP/2 has no such header: a connection ends by GOAWAY.
            response.headers_mut().remove(CONNECTION);
        }
        // A reset within the body ends the body before hyper looks for one. It counts like any
        // other reset.
        let reset = http2 && answer == Answer::BrokenOff && !self.input.has_ended();
        if !reset {
            guard.answered();
        }
        response
    }

    /// The origin of a request, and its body with its limits.
    fn origin(&self, request: Request<Incoming>) -> (Request<Inbound>, Origin) {
        let limits = &self.limits;
        let (mut peer, mut account) = (self.peer, None);
        let config = self.server.receiver.config();
        if let PeerFrom::ForwardedFor { depth } = config.peer_from {
            // A request without the header is the balancer's own.
            peer = peers::forwarded_for(request.headers(), depth).unwrap_or(peer);
            // A balancer's connection is older than the limits of its requests' senders.
            account = self.server.peers.account(peer, &config.limits);
        }
        let origin = Origin {
            peer,
            certified: Arc::clone(&self.certified),
            secure: self.server.tls.is_some(),
            over: account
                .as_ref()
                .is_some_and(|account| account.in_debt(std::time::Instant::now())),
            heads: (request.version() == Version::HTTP_2).then(|| Arc::clone(&self.heads)),
        };
        (
            request.map(|body| {
                let input = Arc::clone(&self.input);
                Inbound::new(
                    body,
                    limits.body_rate,
                    account,
                    self.activity.bodies(),
                    input,
                )
            }),
            origin,
        )
    }
}

/// Serves a connection until this is over; how the connection ended, where it did.
async fn until<C: Future>(
    connection: Pin<&mut C>,
    over: impl Future<Output = ()>,
) -> Option<C::Output> {
    tokio::select! {
        biased;
        ended = connection => Some(ended),
        () = over => None,
    }
}
