//! Where requests break off, and why connections are ended: closed lists.

/// The part of a request that was waited for when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The connection ended within the head. HTTP/1.1 alone.
    Head,
    /// The body is not whole: the connection ended, or an HTTP/2 stream was reset.
    Body,
    /// The request was whole and an HTTP/2 stream was reset, or a limit or the shutdown ended the
    /// connection, before the answer. It may be on raw.
    Answer,
}

impl Part {
    /// Those of a request whose source is known.
    pub const OF_SOURCES: [Self; 2] = [Self::Body, Self::Answer];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Body => "body",
            Self::Answer => "answer",
        }
    }
}

/// Why ingest ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// Its peer has as many as it may.
    PeerConnections,
    /// The header of the PROXY protocol is missing, malformed or late.
    ProxyHeader,
    /// The TLS handshake failed or is late.
    TlsHandshake,
    /// It said nothing.
    FirstByte,
    /// The head of a request is late.
    SlowHead,
    /// What is there for it is not read.
    SlowRead,
    /// HTTP/2: too many requests were reset, or useless frames came.
    Resets,
    /// HTTP/2: far more was sent than its requests account for.
    Overhead,
    /// Too many of its requests were refused one after the other.
    Refusals,
    /// No request came for long.
    Idle,
    /// It had no request, and there are as many connections as may be: it ended for another one.
    Evicted,
    /// HTTP/2: it was open for as long as it should be.
    Age,
}

impl Shed {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::PeerConnections,
        Self::ProxyHeader,
        Self::TlsHandshake,
        Self::FirstByte,
        Self::SlowHead,
        Self::SlowRead,
        Self::Resets,
        Self::Overhead,
        Self::Refusals,
        Self::Idle,
        Self::Evicted,
        Self::Age,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerConnections => "peer_connections",
            Self::ProxyHeader => "proxy_header",
            Self::TlsHandshake => "tls_handshake",
            Self::FirstByte => "first_byte",
            Self::SlowHead => "slow_head",
            Self::SlowRead => "slow_read",
            Self::Resets => "resets",
            Self::Overhead => "overhead",
            Self::Refusals => "refusals",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Age => "age",
        }
    }
}
