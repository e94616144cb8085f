//! Which requests are sent: events of every provider, and what is made of them to end otherwise.

use anyhow::{Context as _, Result};
use fastrand::Rng;
use sluice_schemas::providers::testing::Unsigned;

use crate::harness::client::Outgoing;
use crate::harness::deployment::{Site, Source, now};

pub mod cases;

pub mod numbered;

/// Requests that are sent again and again.
const REQUESTS: u64 = 2_000;

/// What a stranger signs with: the form of every provider's secrets, and nobody's.
pub fn foreign_secret(secret: &[u8]) -> Vec<u8> {
    match secret.strip_prefix(b"whsec_") {
        // Base64 of 32 bytes of 0.
        Some(_) => b"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec(),
        None => b"a stranger's guess".to_vec(),
    }
}

/// Requests of every provider, signed now, each in its turn.
pub fn events(site: &Site) -> Result<Vec<Outgoing>> {
    let at = now();
    let sources = site.sources.iter().cycle();
    (0..REQUESTS)
        .zip(sources)
        .map(|(n, source)| {
            let events = source.samples()?;
            let event = events[usize::try_from(n)? % events.len()];
            source.signed(event, n, at)
        })
        .collect()
}

/// An event signed with a guess; `None` where the source does not sign.
pub fn forged(source: &Source, event: &str, n: u64, at: i64) -> Result<Option<Outgoing>> {
    let sender = source.provider()?.sender();
    let unsigned = sender.sample(event, n, at);
    let guess = foreign_secret(&source.secret);
    if sender.sign(&unsigned, &guess, at).is_empty() {
        return Ok(None);
    }
    source.sign_with(&unsigned, &guess, at).map(Some)
}

/// A request whose JSON has each key twice, and is an object all the same: what is none may count as a
/// forgery.
pub fn broken(source: &Source, event: &str, n: u64, at: i64) -> Result<Unsigned> {
    let mut unsigned = source.provider()?.sender().sample(event, n, at);
    let members = unsigned.body.strip_prefix(b"{").context("an object")?;
    let members = members.strip_suffix(b"}").context("an object")?;
    unsigned.body = [b"{".as_slice(), members, b",", members, b"}"].concat();
    Ok(unsigned)
}

/// A signed body that is no event: broken JSON, no UTF-8, nothing at all, or large and of another shape.
pub fn unreadable(
    source: &Source,
    event: &str,
    n: u64,
    at: i64,
    random: &mut Rng,
) -> Result<Outgoing> {
    let mut unsigned = source.provider()?.sender().sample(event, n, at);
    unsigned.body.pop();
    match random.u64(..4) {
        0 => {}
        1 => unsigned.body.extend([0xff, 0xfe, 0x00]),
        2 => unsigned.body.clear(),
        _ => unsigned.body = format!("[{n},{}0]", "1,".repeat(20_000)).into_bytes(),
    }
    source.sign(&unsigned, at)
}
