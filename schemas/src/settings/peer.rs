//! `ingest.peer`: which address is trusted to be the sender's.

use crate::settings::reader::Node;

/// `ingest.peer.from`: which address is trusted to be the sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerFrom {
    /// The other end of the connection, which behind a balancer is the balancer.
    Connection,
    /// The PROXY protocol's version 2: every connection must begin with its header.
    ProxyProtocol,
    /// The address that stands so many places from the right in `X-Forwarded-For`: one for each proxy
    /// that is ours.
    ForwardedFor {
        /// Counted from 1.
        depth: usize,
    },
}

/// Reads `ingest.peer`.
pub(super) fn peer(mut node: Node) -> PeerFrom {
    let depth = node.integer("depth", 1, 1, 16);
    // Within 1 and 16, so it fits.
    let depth = usize::try_from(depth).unwrap_or(1);
    let choices = [
        ("connection", PeerFrom::Connection),
        ("proxy_protocol", PeerFrom::ProxyProtocol),
        ("forwarded_for", PeerFrom::ForwardedFor { depth }),
    ];
    let from = node.choice("from", &choices, PeerFrom::Connection);
    node.finish();
    from
}
