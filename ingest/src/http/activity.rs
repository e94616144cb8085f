//! The activity of a connection at its socket and in its requests, and the limits on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Version;
use parking_lot::{Mutex, MutexGuard};
use sluice_schemas::settings::Limits;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::eviction::{ARRIVAL, Eviction, Rank, Standing, YOUTH};
use super::peers::PeerConnections;
use crate::metrics::Shed;

/// Bytes that a request accounts for in addition to its body: its head, twice the window of bodies that are
/// not read any more, and frames.
const REQUEST_OVERHEAD: u64 = 160 << 10;

/// HTTP/2: the most bytes of a request's head as the protocol counts them, 32 a header and its text. A
/// quarter of what HTTP/1.1 may have, because each stream of a connection may hold one at once. A sender
/// exceeds it for its own request alone: 431.
pub const H2_HEADER_BYTES: u32 = 16 << 10;

/// HTTP/2: the most bytes of a connection that no request accounts for: its own frames (a balancer that sends
/// a ping of 17 bytes every second has sent as much after 16 minutes, when its connection is too old anyway),
/// and the head of a request that is not whole yet, twice for small frames and small records of TLS. A sender
/// exceeds it for its own connection, with all requests on it; a flood does so within a millisecond.
const H2_OVERHEAD: u64 = (16 << 10) + 2 * (H2_HEADER_BYTES as u64);

/// HTTP/2: the most requests of a connection that its sender may reset. Senders reset next to none, a
/// flood thousands a second. A sender exceeds it for its own connection, with all requests on it.
pub const H2_RESETS: usize = 100;

/// The most requests of a connection that are refused one after the other: it is then ended. A sender reaches
/// it for its own connection, with a wrong token for example, and may connect again.
const REFUSALS: usize = 100;

/// How HTTP/2 begins where nothing was agreed on before.
const PREFACE: &[u8] = b"PRI";

/// What a connection did last. Shared by its socket, its requests and its task.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
    limit_exceeded: Notify,
    eviction: Notify,
    /// Bytes of bodies that were read.
    bodies: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    opened: Instant,
    /// The handshake is done: bytes are HTTP.
    http: bool,
    /// HTTP/2 sends frames at any time, so that bytes are not yet a head.
    http2: bool,
    in_flight: usize,
    /// When the last request ended, or the connection began.
    quiet: Instant,
    /// When the first byte came of a head that is not whole yet.
    head: Option<Instant>,
    /// Since when the other end reads less than there is to send.
    stalled: Option<Instant>,
    resets: usize,
    requests: u64,
    /// Refused one after the other, up to now.
    refused: usize,
    /// Bytes that came since the handshake.
    bytes_in: u64,
    exceeded: Option<Shed>,
    /// A request of it was not refused: it is no stranger's.
    accepted: bool,
    /// Its peer's connections, where peers are distinguished.
    peer: Option<PeerConnections>,
    eviction: Option<Eviction>,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// No new requests are accepted, and those in flight are answered.
    Drain(Shed),
    /// It is closed at once.
    Close(Shed),
}

impl Activity {
    /// The activity of a connection that begins now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                opened: now,
                http: false,
                http2: false,
                in_flight: 0,
                quiet: now,
                head: None,
                stalled: None,
                resets: 0,
                requests: 0,
                refused: 0,
                bytes_in: 0,
                exceeded: None,
                accepted: false,
                peer: None,
                eviction: None,
            }),
            limit_exceeded: Notify::new(),
            eviction: Notify::new(),
            bodies: Arc::default(),
        }
    }

    /// The counter of bytes of bodies that were read.
    pub fn bodies(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bodies)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The handshake is done: from here on bytes are HTTP.
    pub fn handshaken(&self, http2: bool) {
        let mut state = self.state();
        state.http = true;
        state.http2 = http2;
        state.quiet = Instant::now();
        state.head = None;
        state.bytes_in = 0;
    }

    /// Whether HTTP/2 is spoken.
    pub fn is_http2(&self) -> bool {
        self.state().http2
    }

    /// A request has begun; it ends when the guard is dropped.
    pub fn request(self: &Arc<Self>, version: Version) -> RequestGuard {
        let mut state = self.state();
        state.http2 = version == Version::HTTP_2;
        state.in_flight += 1;
        state.requests += 1;
        state.head = None;
        RequestGuard {
            activity: Arc::clone(self),
            answered: false,
        }
    }

    /// Returns once more requests were reset, or more bytes came that no request accounts for, than may.
    pub async fn limit_exceeded(&self) -> Shed {
        self.limit_exceeded.notified().await;
        self.state().exceeded.unwrap_or(Shed::Resets)
    }

    /// A request has its answer.
    pub fn answered(&self, refused: bool) {
        let mut state = self.state();
        state.refused = if refused { state.refused + 1 } else { 0 };
        state.accepted |= !refused;
    }

    /// It counts as one of these.
    pub fn of_peer(&self, peer: PeerConnections) {
        self.state().peer = Some(peer);
    }

    /// Whether it may end for another one, and in which turn.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        if state.eviction.is_some() {
            Standing::Leaving
        } else if state.is_busy() {
            Standing::Busy
        } else if state.is_arriving() {
            Standing::Arriving
        } else {
            let connections = state.peer.as_ref().map_or(0, PeerConnections::open);
            Standing::Idle(Rank::new(
                (state.accepted, state.requests),
                state.opened,
                connections,
                state.quiet,
            ))
        }
    }

    /// Its task is asked to end it, unless a request has begun by then.
    pub fn evict(&self, eviction: Eviction) {
        self.state().eviction = Some(eviction);
        self.eviction.notify_one();
    }

    /// Returns once it is asked to end.
    pub async fn evicted(&self) {
        self.eviction.notified().await;
    }

    /// How it ends for another one; `None` where a request has begun and it stays.
    pub fn leave(&self) -> Option<Eviction> {
        let mut state = self.state();
        if state.is_busy() {
            state.eviction = None;
        }
        state.eviction
    }

    /// The number of its requests so far, where none is being answered and no answer is being read.
    pub fn idle_after(&self) -> Option<u64> {
        let state = self.state();
        (state.in_flight == 0 && state.stalled.is_none()).then_some(state.requests)
    }

    /// Whether a request may be on its way: the first one, or the rest of a head over HTTP/1.1.
    pub fn may_have_begun(&self) -> bool {
        let state = self.state();
        let arriving = !state.http2 && state.head.is_some();
        state.in_flight == 0 && (state.requests == 0 || arriving)
    }

    /// Why the answer that is due must be the connection's last, if there is a reason.
    pub fn over(&self, limits: &Limits) -> Option<Shed> {
        let state = self.state();
        if state.refused >= REFUSALS {
            return Some(Shed::Refusals);
        }
        past(limits.connection_age)(state.opened).then_some(Shed::Age)
    }

    /// What is to be done now. `ended`: the input has ended. `near_capacity`: connections are
    /// getting scarce, and those that have said nothing of use get a quarter of their time.
    pub fn verdict(
        &self,
        limits: &Limits,
        head_time: Duration,
        ended: bool,
        near_capacity: bool,
    ) -> Verdict {
        let over = self.over(limits);
        let state = self.state();
        let scarce = |time: Duration| if near_capacity { time / 4 } else { time };
        if state.stalled.is_some_and(past(limits.write_timeout)) {
            return Verdict::Close(Shed::SlowRead);
        }
        if state.in_flight == 0 {
            // Over HTTP/2 an answer may wait for a window, and no window comes after the end.
            if ended && past(limits.write_timeout)(state.quiet) {
                return Verdict::Close(Shed::SlowRead);
            }
            if !state.spoke() && past(scarce(limits.first_byte_timeout))(state.quiet) {
                return Verdict::Close(Shed::FirstByte);
            }
            let late_head = state.head.is_some_and(past(scarce(head_time)));
            if !state.http2 && late_head {
                return Verdict::Close(Shed::SlowHead);
            }
            // Over HTTP/2 any frames may have come, and they are no request.
            let late = late_head && past(scarce(limits.first_byte_timeout))(state.quiet);
            if state.requests == 0 && late {
                return Verdict::Drain(Shed::FirstByte);
            }
            if past(limits.idle_timeout)(state.quiet) {
                return Verdict::Drain(Shed::Idle);
            }
        }
        // Over HTTP/1.1 an answer must announce the end, else a request in flight may meet a closed
        // connection.
        match over {
            Some(reason) if state.http2 => Verdict::Drain(reason),
            _ => Verdict::Keep,
        }
    }

    /// These bytes came.
    pub(super) fn read(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.http2 |= !state.spoke() && bytes.starts_with(PREFACE);
        if state.in_flight == 0 && state.head.is_none() {
            state.head = Some(Instant::now());
        }
        state.bytes_in += bytes.len() as u64;
        // A body may come in small frames and small records of TLS, which double it.
        let bodies = self.bodies.load(Ordering::Relaxed);
        let accounted = state.requests * REQUEST_OVERHEAD + 2 * bodies;
        if state.http2 && state.bytes_in > accounted.saturating_add(H2_OVERHEAD) {
            state.exceeded = Some(Shed::Overhead);
            self.limit_exceeded.notify_one();
        }
    }

    /// Bytes were written: all that there were, or not.
    pub(super) fn wrote(&self, all: bool) {
        let mut state = self.state();
        if all {
            state.stalled = None;
        } else if state.stalled.is_none() {
            state.stalled = Some(Instant::now());
        }
    }
}

impl State {
    /// Whether anything came. The bytes of a request may have come with the last of the handshake.
    fn spoke(&self) -> bool {
        self.bytes_in > 0 || self.requests > 0
    }

    /// Whether its first request may be at our socket, or it waits for us to compute its handshake.
    fn is_arriving(&self) -> bool {
        let time = match (self.http, self.bytes_in) {
            (false, 1..) => YOUTH,
            (false, 0) | (true, _) => ARRIVAL,
        };
        // Before the first request it has been quiet since it was opened, or since its handshake.
        self.requests == 0 && self.quiet.elapsed() < time
    }

    /// Whether a request is answered or arriving, or an answer is read. Over HTTP/2 an arriving head cannot
    /// be seen, and an end in good order waits for it.
    fn is_busy(&self) -> bool {
        let arriving = self.http && !self.http2 && self.head.is_some();
        self.in_flight > 0 || arriving || self.stalled.is_some()
    }
}

/// Whether so much time has passed since a moment.
fn past(time: Duration) -> impl Fn(Instant) -> bool {
    move |since| since.elapsed() >= time
}

/// A request that is being answered.
#[derive(Debug)]
pub struct RequestGuard {
    activity: Arc<Activity>,
    answered: bool,
}

impl RequestGuard {
    /// It has its answer.
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.quiet = Instant::now();
            state.head = None;
        }
        if !self.answered {
            state.resets += 1;
            if state.resets > H2_RESETS {
                state.exceeded = Some(Shed::Resets);
                self.activity.limit_exceeded.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests;
