//! Which connection ends for the one that comes, where there are as many as may be.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;

/// For so long a connection may be open before it is taken for a stranger's: the round trips of a handshake
/// and of a first request. Where connections come so fast that all are younger, the oldest of them ends.
pub const YOUTH: Duration = Duration::from_secs(1);

/// For so long after its opening and after its handshake a connection that has made no request never ends for
/// another one: its request may be at our socket already. In between, where it has begun a handshake, it has
/// [`YOUTH`]: it may be waiting for us. Those that come wait for as long.
pub const ARRIVAL: Duration = Duration::from_millis(100);

/// The most connections that end in good order at once; those beyond end at once. Their places are taken out
/// of `connections`, a sixteenth of it at most.
const LEAVING: usize = 16;

/// How long a connection that is not used may take to end in good order: the round trip after which an HTTP/2
/// sender knows which of its requests were not served.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long the announcement of an end may take to be written.
const ANNOUNCEMENT: Duration = Duration::from_millis(1);

/// How a connection ends for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// A request that is on its way is answered.
    Gently,
    /// As soon as the end is announced.
    AtOnce,
}

impl Eviction {
    /// How long it may take where no request comes.
    pub fn linger(self) -> Duration {
        match self {
            Self::Gently => LINGER,
            Self::AtOnce => ANNOUNCEMENT,
        }
    }
}

/// What a connection is doing, where one must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is ending for another one.
    Leaving,
    /// It has a request, and stays.
    Busy,
    /// Its first request may be at our socket: see [`ARRIVAL`].
    Arriving,
    /// It has none. The least ends first.
    Idle(Rank),
}

/// The turn in which idle connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: Class,
    /// The connections of its peer; 0 where peers are not distinguished.
    peer: Reverse<usize>,
    quiet: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// All its requests were refused, or it made none in [`YOUTH`].
    Stranger,
    /// It had little time to make one.
    Young,
    /// A request of it was accepted: its sender may be writing the next.
    Known,
}

impl Rank {
    /// `connections` are those of its peer, `requests` those that it made.
    pub fn new(
        (accepted, requests): (bool, u64),
        opened: Instant,
        connections: usize,
        quiet: Instant,
    ) -> Self {
        let class = if accepted {
            Class::Known
        } else if requests == 0 && opened.elapsed() < YOUTH {
            Class::Young
        } else {
            Class::Stranger
        };
        Self {
            class,
            peer: Reverse(connections),
            quiet,
        }
    }

    /// Whether a request of it was accepted. It ends only where no other one may end soon.
    pub fn is_known(&self) -> bool {
        self.class == Class::Known
    }
}

/// How many of so many places are kept free for those that come while others end.
pub fn reserve(connections: usize) -> usize {
    (connections / 16).min(LEAVING)
}

/// The end of a connection that takes no new requests.
pub struct Ending {
    /// When it ends, unless a request comes.
    pub at: Instant,
    /// The number of its requests when it began to end, where none was being answered.
    pub idle: Option<u64>,
    /// The latest that `at` may be.
    pub last: Instant,
}

impl Ending {
    /// Returns when it has come, where there is one.
    pub async fn come(ending: Option<&Self>) {
        match ending {
            Some(ending) => tokio::time::sleep_until(ending.at).await,
            None => std::future::pending().await,
        }
    }
}
