//! Peers: what one peer may take, and which address is trusted to be the sender's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use sluice_schemas::settings::Limits;

use crate::metrics::Shed;
use crate::token_bucket::TokenBucket;

/// Peers that are distinguished at once; those beyond share one account. Some 3 MiB.
const MAX_PEERS: usize = 16 * 1024;

/// For how many seconds a peer may save up what it did not send.
const BURST_SECONDS: u64 = 4;

/// The pause before a full table is looked through again for peers that can be forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// All peers that have a connection, or sent of late.
#[derive(Debug, Default)]
pub struct Peers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// `peer_bytes`, as the accounts are.
    peer_bytes: Option<u64>,
    known: HashMap<IpAddr, Arc<Peer>>,
    overflow: Option<Arc<Peer>>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    connections: AtomicUsize,
    bytes: Mutex<Option<Arc<TokenBucket>>>,
}

/// How many connections a peer has.
#[derive(Debug)]
pub struct PeerConnections(Arc<Peer>);

/// A peer's connection, which counts until it is dropped.
#[derive(Debug)]
pub struct PeerGuard(Arc<Peer>);

impl Peers {
    /// A connection of this peer.
    ///
    /// # Errors
    /// It has as many as it may.
    pub fn admit(&self, address: IpAddr, limits: &Limits) -> Result<PeerGuard, Shed> {
        let (peer, counts) = self.find(address, limits);
        let open = peer.connections.fetch_add(1, Ordering::Relaxed);
        // Dropped where it is one too many, so that it counts no longer.
        let guard = PeerGuard(peer);
        match limits.peer_connections {
            Some(most) if counts && open >= most => Err(Shed::PeerConnections),
            _ => Ok(guard),
        }
    }

    /// What this peer's bytes are charged to, where there is a bound on them.
    pub fn account(&self, address: IpAddr, limits: &Limits) -> Option<Arc<TokenBucket>> {
        limits.peer_bytes?;
        self.find(address, limits).0.bytes.lock().clone()
    }

    /// The peer, and whether it has this entry for itself.
    fn find(&self, address: IpAddr, limits: &Limits) -> (Arc<Peer>, bool) {
        let mut table = self.0.lock();
        table.follow(limits.peer_bytes);
        let key = peer_key(address);
        if let Some(peer) = table.known.get(&key) {
            return (Arc::clone(peer), true);
        }
        let now = Instant::now();
        table.make_room(now);
        let peer = || {
            Arc::new(Peer {
                connections: AtomicUsize::new(0),
                bytes: Mutex::new(bucket(limits.peer_bytes, now)),
            })
        };
        if table.known.len() >= MAX_PEERS {
            let overflow = table.overflow.get_or_insert_with(peer);
            return (Arc::clone(overflow), false);
        }
        let peer = peer();
        table.known.insert(key, Arc::clone(&peer));
        (peer, true)
    }
}

/// A peer's account under this bound.
fn bucket(peer_bytes: Option<u64>, now: Instant) -> Option<Arc<TokenBucket>> {
    let rate = peer_bytes?;
    let burst = rate.saturating_mul(BURST_SECONDS);
    Some(Arc::new(TokenBucket::new(rate, burst, now)))
}

impl Table {
    /// Where the bound has changed, each peer begins again under the new one. An account of before ends with
    /// the connection that has it.
    fn follow(&mut self, peer_bytes: Option<u64>) {
        if self.peer_bytes == peer_bytes {
            return;
        }
        self.peer_bytes = peer_bytes;
        let now = Instant::now();
        for peer in self.known.values().chain(&self.overflow) {
            *peer.bytes.lock() = bucket(peer_bytes, now);
        }
    }

    /// Removes peers without a connection and without a debt, where the table is full.
    fn make_room(&mut self, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < SWEEP_INTERVAL;
        if self.known.len() < MAX_PEERS || self.swept.is_some_and(lately) {
            return;
        }
        self.swept = Some(now);
        self.known.retain(|_, peer| {
            let bytes = peer.bytes.lock();
            let idle_or_unlimited = || bytes.as_ref().is_none_or(|bytes| bytes.is_full(now));
            // Another thread may have found it, and not counted its connection yet.
            Arc::strong_count(peer) > 1 || !idle_or_unlimited()
        });
    }
}

impl PeerConnections {
    /// Those that are open now.
    pub fn open(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }
}

impl PeerGuard {
    /// The connections of this peer.
    pub fn connections(&self) -> PeerConnections {
        PeerConnections(Arc::clone(&self.0))
    }

    /// What the bytes of this connection are charged to, where there is a bound on them.
    pub fn account(&self) -> Option<Arc<TokenBucket>> {
        self.0.bytes.lock().clone()
    }
}

impl Drop for PeerGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Of IPv6 the network: one host has as many addresses in it as it likes.
pub(crate) fn peer_key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
    }
}

/// The address that stands `depth` places from the right in `X-Forwarded-For`, over all its lines;
/// what stands further left may be forged by the sender. `None` where there is none.
pub fn forwarded_for(headers: &HeaderMap, depth: usize) -> Option<IpAddr> {
    let place = depth.checked_sub(1)?;
    let entry = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
        .nth(place)?;
    address(std::str::from_utf8(entry).ok()?.trim())
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    let found = bare.parse().or_else(|_| with_port()).ok()?;
    Some(IpAddr::to_canonical(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_counted_from_the_right_over_all_lines() {
        let mut headers = HeaderMap::new();
        for value in ["6.6.6.6, 1.1.1.1", "2.2.2.2 ,[2001:db8::1]:443"] {
            headers.append(X_FORWARDED_FOR, value.parse().expect("a value"));
        }
        let found = |depth| forwarded_for(&headers, depth).map(|address| address.to_string());
        assert_eq!(found(1).as_deref(), Some("2001:db8::1"));
        assert_eq!(found(2).as_deref(), Some("2.2.2.2"));
        assert_eq!(found(3).as_deref(), Some("1.1.1.1"));
        assert_eq!(found(5), None);
        assert_eq!(found(0), None);
    }

    #[test]
    fn addresses_as_proxies_write_them() {
        for (text, expected) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4:80", Some("1.2.3.4")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:80", Some("2001:db8::1")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("unknown", None),
            ("_hidden", None),
            ("", None),
        ] {
            let found = address(text).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_changed_bound_on_bytes_holds_for_peers_that_are_known() {
        let settings = crate::fuzz::server::settings();
        let limits = |peer_bytes| Limits {
            peer_bytes,
            ..settings.ingest.limits.clone()
        };
        let (peers, peer) = (Peers::default(), IpAddr::from([192, 0, 2, 1]));
        let account = |peer_bytes| {
            let guard = peers.admit(peer, &limits(peer_bytes)).expect("it may");
            let of_a_request = peers.account(peer, &limits(peer_bytes));
            (guard.account(), of_a_request)
        };
        let now = Instant::now();
        assert!(matches!(account(None), (None, None)));
        let (Some(first), Some(again)) = account(Some(10)) else {
            panic!("no account");
        };
        first.charge(1_000, now);
        assert!(again.in_debt(now), "it is another account");
        let (second, _) = account(Some(10));
        assert!(second.is_some_and(|second| second.in_debt(now)));
        let (raised, _) = account(Some(1_000_000));
        assert!(raised.is_some_and(|raised| !raised.in_debt(now)));
        assert!(matches!(account(None), (None, None)));
    }

    #[test]
    fn hosts_of_one_network_are_one_peer() {
        let one: IpAddr = "2001:db8:1:2:3:4:5:6".parse().expect("an address");
        let other: IpAddr = "2001:db8:1:2::9".parse().expect("an address");
        let stranger: IpAddr = "2001:db8:1:3::9".parse().expect("an address");
        assert_eq!(peer_key(one), peer_key(other));
        assert_ne!(peer_key(one), peer_key(stranger));
    }
}
