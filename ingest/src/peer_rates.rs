//! A rate for each peer of a source, in memory of one size however many peers there are.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http::peers::peer_key;

/// Slots, of which a source's peer has two: 512 KiB. Two bytes of a hash are an index.
const SLOTS: usize = 1 << 16;

/// What a peer may save up, in nanoseconds: one second's requests.
const BURST: u64 = 1_000_000_000;

/// The rates of all peers of all sources.
///
/// A slot is the time at which all requests that were charged to it would have come at their rate. A peer
/// passes while one of its two slots has room, and both are charged, so that it has no more than its rate;
/// up to twice of it where another peer has used up one of its slots, for the two then differ. A
/// stranger holds a peer up only where both of its slots are those of strangers that are over their rates:
/// by chance one in 260,000 with 64 of them, and nobody can choose, for the hash has a random key. A table
/// of peers would have a bound past which all others share one account, and a stranger with many addresses
/// reaches it.
#[derive(Debug)]
pub struct PeerRates {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    began: Instant,
}

impl Default for PeerRates {
    fn default() -> Self {
        Self {
            slots: std::iter::repeat_with(AtomicU64::default)
                .take(SLOTS)
                .collect(),
            hasher: RandomState::new(),
            began: Instant::now(),
        }
    }
}

impl PeerRates {
    /// Whether a peer of this source may send one more request, at so many a second.
    pub fn take_one(&self, source: &str, peer: IpAddr, rate: u32, now: Instant) -> bool {
        let hash = self.hasher.hash_one((source, peer_key(peer)));
        let [one, two, three, four, ..] = hash.to_le_bytes();
        let first = u16::from_le_bytes([one, two]);
        let second = match u16::from_le_bytes([three, four]) {
            // One slot would be charged twice.
            same if same == first => !first,
            other => other,
        };
        let now = nanos(now.saturating_duration_since(self.began));
        let each = BURST / u64::from(rate.max(1));
        [first, second]
            .map(|slot| self.charge(usize::from(slot), now, each))
            .contains(&true)
    }

    fn charge(&self, slot: usize, now: u64, each: u64) -> bool {
        let charged = |until: u64| {
            let until = until.max(now).saturating_add(each);
            (until <= now.saturating_add(BURST)).then_some(until)
        };
        let slot = self.slots.get(slot);
        slot.is_some_and(|slot| {
            slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged)
                .is_ok()
        })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_peer_has_its_rate_and_no_more() {
        let rates = PeerRates::default();
        let at = |millis| rates.began + Duration::from_millis(millis);
        let taken = |peer, at| {
            (0..50)
                .filter(|_| rates.take_one("s", peer, 10, at))
                .count()
        };
        assert_eq!(taken(peer(1), at(0)), 10);
        assert_eq!(taken(peer(1), at(500)), 5);
        assert_eq!(taken(peer(1), at(10_000)), 10);
        // A source's rate is its own.
        assert!(rates.take_one("t", peer(1), 1, at(10_000)));
        assert!(!rates.take_one("t", peer(1), 1, at(10_999)));
        assert!(rates.take_one("t", peer(1), 1, at(11_000)));
    }

    #[test]
    fn strangers_do_not_use_up_the_rate_of_others() {
        let rates = PeerRates::default();
        let now = rates.began;
        // Far over their rate, each of its own network.
        for stranger in 0..1_000 {
            while rates.take_one("s", peer(stranger), 20, now) {}
        }
        // One in 1,100 is expected to share both slots; eight in a thousand are not.
        let others = 1_000_000..1_001_000;
        let refused = others.filter(|other| !rates.take_one("s", peer(*other), 20, now));
        assert!(refused.count() < 8);
    }

    #[test]
    fn hosts_of_one_network_have_one_rate() {
        let rates = PeerRates::default();
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        assert!(rates.take_one("s", host(1), 1, rates.began));
        assert!(!rates.take_one("s", host(2), 1, rates.began));
    }
}
