//! `ingest.limits`: what one connection, peer or source may take of what there is. Every limit has its
//! default and the reason for it here.

use std::time::Duration;

use super::peer::PeerFrom;
use super::values::{bytes, count, fitting, is_set, within};
use crate::settings::reader::Node;

/// `ingest.limits`
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Connections at once of one peer; more are closed. `None`: no bound.
    pub peer_connections: Option<usize>,
    /// For how long no connection is taken of a peer that flooded one, where `peer_connections` tells peers
    /// apart. 0: it is not made to wait.
    pub peer_pause: Duration,
    /// Bytes a second that are read of one peer. `None`: no bound.
    pub peer_bytes: Option<u64>,
    /// Headers of one request.
    pub headers: usize,
    /// Bytes of the head of an HTTP/1.1 request.
    pub header_bytes: usize,
    /// How long the PROXY header and the TLS handshake may take, each.
    pub handshake_timeout: Duration,
    /// How long a connection may be open without a byte.
    pub first_byte_timeout: Duration,
    /// How long a connection may be open between requests.
    pub idle_timeout: Duration,
    /// How long an answer may wait for its sender to read.
    pub write_timeout: Duration,
    /// After this, a connection is ended with the answer that is due.
    pub connection_age: Duration,
    /// The bytes a second that a body must have on average; 0: none.
    pub body_rate: u64,
    /// For how long a body may be slower than that.
    pub body_rate_after: Duration,
    /// How long an answer waits that refuses a request: 4xx. 0: not at all.
    pub refusal_delay: Duration,
    /// So many requests of a connection are refused one after the other, then it is ended.
    pub refusals: usize,
    /// The share of `max_buffered` that one source may hold, 0 to 1, where there are several.
    pub source_buffered: f64,
    /// HTTP/2: requests at once on a connection.
    pub h2_streams: u32,
    /// HTTP/2: requests that a connection may take back before it is closed.
    pub h2_resets: usize,
    /// HTTP/2: bytes of a request's head as the protocol counts them, 32 a header besides its text.
    pub h2_header_bytes: u32,
    /// HTTP/2: bytes that a connection may send besides what its requests are reckoned at.
    pub h2_overhead: u64,
}

/// With the files that the process needs besides, under the usual limit of 1024 open ones.
const CONNECTIONS: i64 = 960;

/// A provider sends from few addresses and keeps some connections to each of us; a fifteenth of all
/// is more than it needs and leaves room for the others.
const PEER_CONNECTIONS: i64 = 64;

/// A flood ends within thousandths of a second, and is made anew as quickly; nobody else notices a second.
const PEER_PAUSE: Duration = Duration::from_secs(1);

/// A thousand requests of 8 KiB a second from one address, and some 700 GB a day on the brokers'
/// disks at most by one who floods.
const PEER_BYTES: u64 = 8 << 20;

/// hyper's own number: room for what a provider, a balancer and a tracer add, and no more.
const HEADERS: i64 = 100;

/// What is kept of a head must fit the raw record beside the largest body, JSON's escapes included, so
/// this is the most too.
const HEADER_BYTES: u64 = 64 << 10;

/// The least that hyper takes for its buffer.
const LEAST_HEADER_BYTES: u64 = 8 << 10;

/// Three round trips around the world, one of them lost.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who opens a connection has something to say; one lost packet is made good within 3 s.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longer than the 60 s after which the usual balancers give up an idle connection: the side that
/// sends must be the first to close it, or a request meets a closed door.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Answers are some hundred bytes, so that a sender which takes none in this time reads no more.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections spread anew over the pods after each roll, and a certificate that is no longer trusted
/// is asked for again.
const CONNECTION_AGE: Duration = Duration::from_secs(600);

/// Far below any line that carries webhooks: whoever is slower is there to hold a connection.
const BODY_RATE: u64 = 1 << 10;

/// As long as one lost packet may take.
const BODY_RATE_AFTER: Duration = Duration::from_secs(3);

/// Refusing costs next to nothing, so that whoever asks for nothing but refusals asks as often as the
/// processor can answer; who waits for each asks ten times a second. To a person it is at once.
const REFUSAL_DELAY: Duration = Duration::from_millis(100);

/// A sender whose token is wrong sends this much in a quarter of an hour or so, and then connects anew.
const REFUSALS: i64 = 100;

/// One noisy source leaves as much for all others together.
const SOURCE_BUFFERED: f64 = 0.5;

/// A connection's worth of heads stays under 512 KiB.
const H2_STREAMS: i64 = 32;

/// Senders take back next to none; who floods takes back thousands a second.
const H2_RESETS: i64 = 100;

/// A quarter of what HTTP/1.1 may have, for every stream of a connection may hold one at once.
const H2_HEADER_BYTES: u64 = 16 << 10;

/// A balancer that asks every second whether we are there sends 17 bytes each time and is done after
/// 16 minutes, when its connection is too old anyway; who floods with such frames sends as much within
/// a thousandth of a second.
const H2_OVERHEAD: u64 = 16 << 10;

/// Reads `ingest.limits`.
pub(super) fn limits(mut node: Node, from: PeerFrom) -> Limits {
    // Without a word on who sends, all may come from one balancer, and a bound on it is one on all.
    // With X-Forwarded-For, connections are the balancer's and bytes the sender's.
    let own_connections = from == PeerFrom::ProxyProtocol;
    let own_bytes = from != PeerFrom::Connection;
    let peer_connections = if is_set(&mut node, "peer_connections") || own_connections {
        Some(count(
            &mut node,
            "peer_connections",
            PEER_CONNECTIONS,
            1,
            65_536,
        ))
    } else {
        None
    };
    if peer_connections.is_some() && matches!(from, PeerFrom::ForwardedFor { .. }) {
        node.fault(
            "peer_connections",
            "cannot be told with peer.from: forwarded_for, for connections are the proxy's",
        );
    }
    let peer_bytes = if is_set(&mut node, "peer_bytes") || own_bytes {
        Some(bytes(
            &mut node,
            "peer_bytes",
            PEER_BYTES,
            64 << 10,
            1 << 40,
        ))
    } else {
        None
    };
    let limits = Limits {
        connections: count(&mut node, "connections", CONNECTIONS, 1, 65_536),
        peer_connections,
        peer_pause: within(
            &mut node,
            "peer_pause",
            PEER_PAUSE,
            Duration::ZERO..=Duration::from_secs(3_600),
            "must be from 0s to 1h",
        ),
        peer_bytes,
        headers: count(&mut node, "headers", HEADERS, 8, 1_000),
        header_bytes: fitting(bytes(
            &mut node,
            "header_bytes",
            HEADER_BYTES,
            LEAST_HEADER_BYTES,
            HEADER_BYTES,
        )),
        handshake_timeout: wait(&mut node, "handshake_timeout", HANDSHAKE_TIMEOUT),
        first_byte_timeout: wait(&mut node, "first_byte_timeout", FIRST_BYTE_TIMEOUT),
        idle_timeout: wait(&mut node, "idle_timeout", IDLE_TIMEOUT),
        write_timeout: wait(&mut node, "write_timeout", WRITE_TIMEOUT),
        connection_age: within(
            &mut node,
            "connection_age",
            CONNECTION_AGE,
            Duration::from_secs(1)..=Duration::from_secs(86_400),
            "must be from 1s to 24h",
        ),
        body_rate: body_rate(&mut node),
        body_rate_after: wait(&mut node, "body_rate_after", BODY_RATE_AFTER),
        refusal_delay: within(
            &mut node,
            "refusal_delay",
            REFUSAL_DELAY,
            Duration::ZERO..=Duration::from_secs(10),
            "must be from 0s to 10s",
        ),
        refusals: count(&mut node, "refusals", REFUSALS, 1, 100_000),
        source_buffered: node.number("source_buffered", SOURCE_BUFFERED, 0.01, 1.0),
        h2_streams: fitting(node.integer("h2_streams", H2_STREAMS, 1, 1_000)),
        h2_resets: count(&mut node, "h2_resets", H2_RESETS, 1, 100_000),
        h2_header_bytes: fitting(bytes(
            &mut node,
            "h2_header_bytes",
            H2_HEADER_BYTES,
            1 << 10,
            HEADER_BYTES,
        )),
        h2_overhead: bytes(&mut node, "h2_overhead", H2_OVERHEAD, 4 << 10, 1 << 30),
    };
    node.finish();
    limits
}

/// A size, or 0 for none.
fn body_rate(node: &mut Node) -> u64 {
    if node.peek("body_rate").and_then(serde_json::Value::as_u64) == Some(0) {
        node.value("body_rate");
        return 0;
    }
    bytes(node, "body_rate", BODY_RATE, 1, 1 << 20)
}

fn wait(node: &mut Node, key: &str, default: Duration) -> Duration {
    let range = Duration::from_millis(100)..=Duration::from_secs(3_600);
    within(node, key, default, range, "must be from 100ms to 1h")
}
