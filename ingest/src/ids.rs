//! The ids of a request: its own, and those of its trace and spans. All are random.

use parking_lot::Mutex;
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use sluice_schemas::trace::{TraceContext, is_sampled};
use uuid::Uuid;

/// Ten bytes for the request's id, sixteen for its trace, eight for each of two spans.
const BYTES: usize = 42;

/// How many requests a block of random bytes serves. A call of the system for each one would cost more than
/// all else that is done for its ids.
const BLOCK: usize = 64;

/// Random bytes of the system's generator, fetched in blocks. Each byte is given out once.
#[derive(Debug)]
pub struct Random {
    system: SystemRandom,
    block: Mutex<Block>,
}

#[derive(Debug)]
struct Block {
    bytes: [[u8; BYTES]; BLOCK],
    left: usize,
}

impl Random {
    /// Fetches nothing yet.
    pub fn new() -> Self {
        Self {
            system: SystemRandom::new(),
            block: Mutex::new(Block {
                bytes: [[0; BYTES]; BLOCK],
                left: 0,
            }),
        }
    }

    fn next(&self) -> Result<[u8; BYTES], Unspecified> {
        let mut block = self.block.lock();
        if block.left == 0 {
            self.system.fill(block.bytes.as_flattened_mut())?;
            block.left = BLOCK;
        }
        block.left -= 1;
        Ok(block.bytes[block.left])
    }
}

/// The ids of one request.
#[derive(Debug)]
pub struct Ids {
    random: [u8; BYTES],
    sampled: bool,
}

impl Ids {
    /// New ones. Whether the trace is sampled follows from its id alone.
    ///
    /// # Errors
    /// The system's generator does not fail once it has started; if it does, no id is unique.
    pub fn new(random: &Random, ratio: f64) -> Result<Self, Unspecified> {
        Ok(Self::from_random(random.next()?, ratio))
    }

    fn from_random(random: [u8; BYTES], ratio: f64) -> Self {
        let mut ids = Self {
            random,
            sampled: false,
        };
        ids.sampled = is_sampled(ids.producer_span().trace_id, ratio);
        ids
    }

    /// Whether the spans of this request are exported.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// `UUIDv7` of a time in microseconds, from the first ten random bytes.
    pub fn request_id(&self, micros: i64) -> Uuid {
        let millis = u64::try_from(micros / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &self.part(0)).into_uuid()
    }

    /// The span of handing the record over, which the record names.
    pub fn producer_span(&self) -> TraceContext {
        TraceContext {
            trace_id: self.part(10),
            span_id: self.part(26),
            sampled: self.sampled,
        }
    }

    /// The span of the request, above that one.
    pub fn server_span(&self) -> TraceContext {
        self.producer_span().with_span(self.part(34))
    }

    fn part<const N: usize>(&self, from: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.random[from..from + N]);
        part
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_random_bytes_are_given_out_twice() {
        let random = Random::new();
        let one = || random.next().expect("the system's generator");
        let count = 3 * BLOCK + 1;
        let distinct: BTreeSet<[u8; BYTES]> = (0..count).map(|_| one()).collect();
        assert_eq!(distinct.len(), count);
        assert!(!distinct.contains(&[0; BYTES]));
    }

    #[test]
    fn ids_and_traces_have_their_form() {
        let mut random = [0xab; 42];
        let ids = Ids::from_random(random, 0.01);
        let id = ids.request_id(1_700_000_000_123_456);
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.to_string(), "018bcfe5-687b-7bab-abab-abababababab");
        random[18..26].fill(0);
        random[34..].fill(0xcd);
        let trace = "00-abababababababab0000000000000000-abababababababab-";
        for (ratio, flags) in [(0.01, "01"), (0.0, "00")] {
            let ids = Ids::from_random(random, ratio);
            assert_eq!(ids.producer_span().to_string(), format!("{trace}{flags}"));
            assert_eq!(ids.server_span().trace_id, ids.producer_span().trace_id);
            assert_eq!(ids.server_span().span_id, [0xcd; 8]);
            assert_eq!(ids.is_sampled(), ratio > 0.0);
        }
        assert!(Ids::from_random([0xff; 42], 1.0).is_sampled());
        assert!(!Ids::from_random([0xff; 42], 0.99).is_sampled());
    }
}
