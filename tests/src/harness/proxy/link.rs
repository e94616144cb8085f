//! What a proxy's network is like.

use std::time::Duration;

use super::traps::Side;

/// What the network between the client and the broker is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Everything passes at once.
    Open,
    /// What is connected is reset, and so is what connects.
    Cut,
    /// Connections are accepted and kept, and nothing is read from either side.
    Stalled,
    /// Everything passes later, and no faster than a limit.
    Slow {
        /// How much later, in each direction.
        delay: Duration,
        /// The limit of each direction of each connection; 0 counts as 1.
        bytes_per_second: u64,
    },
    /// Half-open: requests pass, replies are kept until the link opens, at most 4 MiB a connection;
    /// after that the broker finds that nobody reads.
    ToBrokerOnly,
    /// Half-open the other way: replies pass, requests are kept, with the same limit.
    ToClientOnly,
}

impl Link {
    /// Whether what comes from this side's sender is read.
    pub(super) fn reads(self) -> bool {
        !matches!(self, Self::Cut | Self::Stalled)
    }

    /// Whether what was read is handed to this side's receiver.
    pub(super) fn writes(self, side: Side) -> bool {
        match self {
            Self::Open | Self::Slow { .. } => true,
            Self::Cut | Self::Stalled => false,
            Self::ToBrokerOnly => side == Side::Request,
            Self::ToClientOnly => side == Side::Reply,
        }
    }
}

/// A link, and how often it was cut: a cut that is mended at once still resets what was connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) link: Link,
    pub(super) cuts: u64,
}
