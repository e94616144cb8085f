//! `ingest.limits`: what one connection, peer or source may take. Each limit has its default and the reason
//! for it here; the limits that are no settings are constants next to the code of ingest that applies them.

use std::time::Duration;

use super::peer::PeerFrom;
use super::values::{bytes, count, fitting, is_set, within};
use crate::settings::reader::Node;

/// `ingest.limits`
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections at once; for one more, one without a request ends. Any client that reaches the port can
    /// use them up, and all other senders wait where each of them has a request.
    pub connections: usize,
    /// Connections at once of one peer; more are closed. `None`: no bound. A peer can use up its own, and
    /// then its other connections are closed; senders behind one NAT are one peer.
    pub peer_connections: Option<usize>,
    /// Bytes a second that are read of one peer. `None`: no bound. A peer can use up its own, and then it is
    /// read slower (`proxy_protocol`) or answered 429 (`forwarded_for`), with all senders of its address.
    pub peer_bytes: Option<u64>,
    /// Bytes of the head of an HTTP/1.1 request. A sender exceeds it for its own request alone: 431.
    pub header_bytes: usize,
    /// How long the PROXY header and the TLS handshake may take, each. A client, or a slow network, exceeds
    /// it for its own connection alone.
    pub handshake_timeout: Duration,
    /// How long a connection may be open without a byte, or over HTTP/2 without a request. A client exceeds
    /// it for its own connection; where connections are scarce because of other clients, a quarter of it is
    /// left.
    pub first_byte_timeout: Duration,
    /// How long a connection may be open between requests. A client exceeds it for its own connection alone.
    pub idle_timeout: Duration,
    /// How long an answer may wait for its sender to read. A sender exceeds it for its own connection, with
    /// all HTTP/2 requests on it.
    pub write_timeout: Duration,
    /// After this, a connection is ended with the answer that is due. It ends each sender's connection.
    pub connection_age: Duration,
    /// The bytes a second that a body must have on average; 0: none. A sender, or a slow network, falls
    /// below it for its own request alone: 408.
    pub body_rate: u64,
    /// The share of `max_buffered` that one source may hold, 0 to 1, where there are several. Any sender
    /// that the source accepts can use it up, and then all senders of that source are answered 503.
    pub source_buffered: f64,
    /// HTTP/2: requests at once on a connection. A sender reaches it for its own connection, and then its
    /// further requests wait.
    pub h2_streams: u32,
}

/// With the other files that the process needs, under the usual limit of 1024 open ones.
const CONNECTIONS: i64 = 960;

/// A provider sends from few addresses and keeps some connections to each process; a fifteenth of all
/// is more than it needs and leaves room for the others.
const PEER_CONNECTIONS: i64 = 64;

/// A thousand requests of 8 KiB a second from one address, and some 700 GB a day on the brokers'
/// disks at most by one peer that floods.
const PEER_BYTES: u64 = 8 << 20;

/// What is kept of a head must fit the raw record with the largest body, JSON's escapes included, so
/// this is the most too.
const HEADER_BYTES: u64 = 64 << 10;

/// The least that hyper takes for its buffer.
const LEAST_HEADER_BYTES: u64 = 8 << 10;

/// Three round trips around the world, one of them lost.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that opens a connection has a request to send; one lost packet is sent again within 3 s.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longer than the 60 s after which the usual balancers give up an idle connection: the side that
/// sends must be the first to close it, or a request meets a closed connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Answers are some hundred bytes, so that a sender which takes none in this time reads no more.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// After a roll, connections spread over the pods again within this time, and a certificate that is no
/// longer trusted is checked again.
const CONNECTION_AGE: Duration = Duration::from_secs(600);

/// Far below any line that carries webhooks: a slower body serves to hold a connection.
const BODY_RATE: u64 = 1 << 10;

/// One noisy source leaves as much for all others together.
const SOURCE_BUFFERED: f64 = 0.5;

/// A connection's worth of heads stays under 512 KiB.
const H2_STREAMS: i64 = 32;

/// Keys that were settings, and what holds now: each is a fault, so that no file promises what is not done.
const REMOVED: [(&str, &str); 8] = [
    ("headers", "at most 100 headers are taken"),
    (
        "body_rate_after",
        "body_rate holds from 3 s after the head on",
    ),
    (
        "refusals",
        "100 refusals one after the other end a connection",
    ),
    (
        "refusal_delay",
        "a refusal is answered at once; let the balancer slow down floods",
    ),
    (
        "peer_pause",
        "a peer that flooded a connection may connect again; let the balancer block it",
    ),
    (
        "h2_resets",
        "more than 100 requests that are taken back close a connection",
    ),
    (
        "h2_header_bytes",
        "the head of an HTTP/2 request may have 16 KiB",
    ),
    (
        "h2_overhead",
        "an HTTP/2 connection may send 16 KiB that no request accounts for",
    ),
];

/// Reads `ingest.limits`.
pub(super) fn limits(mut node: Node, from: PeerFrom) -> Limits {
    let limits = Limits {
        connections: count(&mut node, "connections", CONNECTIONS, 1, 65_536),
        peer_connections: peer_connections(&mut node, from),
        peer_bytes: peer_bytes(&mut node, from),
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
        source_buffered: node.number("source_buffered", SOURCE_BUFFERED, 0.01, 1.0),
        h2_streams: fitting(node.integer("h2_streams", H2_STREAMS, 1, 1_000)),
    };
    for (key, now) in REMOVED {
        if node.has(key) {
            node.value(key);
            node.fault(key, format!("is no setting any more: {now}"));
        }
    }
    node.finish();
    limits
}

/// By default in force with the PROXY protocol alone. Where the peer is the other end of the connection, all
/// senders may come from one balancer, and a bound on it would be one on all.
fn peer_connections(node: &mut Node, from: PeerFrom) -> Option<usize> {
    if !is_set(node, "peer_connections") && from != PeerFrom::ProxyProtocol {
        return None;
    }
    let bound = count(node, "peer_connections", PEER_CONNECTIONS, 1, 65_536);
    if matches!(from, PeerFrom::ForwardedFor { .. }) {
        node.fault(
            "peer_connections",
            "means nothing with peer.from: forwarded_for, where connections are the proxy's",
        );
    }
    Some(bound)
}

/// By default in force where peers are distinguished: with `X-Forwarded-For` connections are the proxy's, and
/// bytes the sender's.
fn peer_bytes(node: &mut Node, from: PeerFrom) -> Option<u64> {
    let in_force = is_set(node, "peer_bytes") || from != PeerFrom::Connection;
    in_force.then(|| bytes(node, "peer_bytes", PEER_BYTES, 64 << 10, 1 << 40))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::reader::Faults;

    #[test]
    fn each_removed_key_is_a_fault_that_says_what_holds_now() {
        for (key, now) in REMOVED {
            let faults = Faults::default();
            let mut root = Node::root(json!({"limits": {key: "100"}}), &faults);
            limits(root.child("limits"), PeerFrom::Connection);
            let found = faults.take();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].path, format!("limits.{key}"));
            assert!(found[0].message.ends_with(now), "{found:?}");
        }
    }
}
