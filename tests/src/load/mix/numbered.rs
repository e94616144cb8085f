//! The mix whose every request is known by its number: what the audit counts on.

use anyhow::Result;
use serde::Serialize;

use crate::expected::Expected;
use crate::harness::client::Outgoing;
use crate::harness::deployment::Site;

use super::{broken, forged};

/// How many of each fate there must be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Events.
    pub events: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Rejected records.
    pub rejected: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// What a request of the mix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    /// The same bytes as the request of this number.
    Again(u64),
    Forged,
    Broken,
}

/// Of every hundred: five repetitions, a forgery, a broken one. A repetition is of a request of at
/// least half a hundred before; in the first hundred, of one to come: whichever is first is the event.
fn kind(n: u64) -> Kind {
    match n % 100 {
        slot @ 0..5 => {
            let spread = (n / 100) % 37 * 100;
            let before = n.saturating_sub(50 + spread);
            Kind::Again(before / 100 * 100 + 50 + slot)
        }
        5 => Kind::Forged,
        6 => Kind::Broken,
        _ => Kind::Event,
    }
}

/// What must become of requests 0 to this number.
pub fn expected(requests: u64) -> Sums {
    let mut sums = Sums::default();
    for n in 0..requests {
        match kind(n) {
            Kind::Event => sums.events += 1,
            Kind::Again(_) => sums.duplicates += 1,
            Kind::Forged => sums.rejected += 1,
            Kind::Broken => sums.dead_letters += 1,
        }
    }
    sums
}

/// What must become of request `n`.
pub fn must_become(n: u64) -> Expected {
    match kind(n) {
        Kind::Event | Kind::Again(_) => Expected::Authentic,
        Kind::Forged => Expected::Forged,
        Kind::Broken => Expected::Unreadable,
    }
}

/// Makes request `n`: the same `n` gives the same bytes.
pub fn request(site: &Site, n: u64, at: i64) -> Result<Outgoing> {
    let count = u64::try_from(site.sources.len())?;
    // Sources whose requests carry no signature cannot be forged by a wrong one: the next is asked.
    let mut place = n / 100 + n;
    loop {
        let source = &site.sources[usize::try_from(place % count)?];
        let events = source.samples()?;
        let event = events[usize::try_from(n / count)? % events.len()];
        match kind(n) {
            Kind::Again(other) => return request(site, other, at),
            Kind::Event => return source.signed(event, n, at),
            Kind::Broken => return source.sign(&broken(source, event, n, at)?, at),
            Kind::Forged => {
                if let Some(forged) = forged(source, event, n, at)? {
                    return Ok(forged);
                }
                place += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_as_said_and_repetitions_are_of_events() {
        let sums = expected(100_000);
        assert_eq!(
            (
                sums.events,
                sums.duplicates,
                sums.rejected,
                sums.dead_letters
            ),
            (93_000, 5_000, 1_000, 1_000)
        );
        for n in 0..10_000 {
            if let Kind::Again(other) = kind(n) {
                assert_eq!(kind(other), Kind::Event, "{n} repeats {other}");
            }
        }
    }
}
