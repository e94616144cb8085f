//! Clients that hold connections: that say nothing, that stop in the middle, that do not read, and that
//! say too much, or in too many pieces. A peer that went without a word is one that says nothing any more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use sluice_tests::harness::wire::{Stream, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than each of ingest's times for what is missing, which are 10 s by default, with room for a
/// busy machine.
const SHED: Duration = Duration::from_secs(25);

/// Of [`Kind::Unread`]: some megabytes of answers must pile up in the system for each before ingest
/// notices, and be made first.
const UNREAD_AT_ONCE: usize = 4;

/// Between two batches of questions, so that what is tried is the answers' way and not the questions'.
const UNREAD_PAUSE: Duration = Duration::from_millis(30);

/// Until answers have piled up.
const UNREAD: Duration = Duration::from_secs(20);

/// Of those that say too much, which cost the harness as much as the server.
const HUGE_AT_ONCE: usize = 64;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connects and says nothing.
    Silent,
    /// Stops within the head.
    HalfHead,
    /// Stops within the body.
    HalfBody,
    /// Asks and asks, and reads no answer.
    Unread,
    /// A head or a body beyond every bound.
    Huge,
    /// A body in chunks of which each costs far more than it brings.
    Crumbs,
}

impl Kind {
    /// Whether each sends what is never taken, and is to send it again and again.
    pub fn repeats(self) -> bool {
        matches!(self, Self::Huge | Self::Crumbs)
    }
}

/// What is said, made once: making it costs more than sending it.
pub struct Script {
    kind: Kind,
    /// How a head begins.
    begin: String,
    /// Of those that repeat it, in turn.
    whole: Vec<Vec<u8>>,
}

impl Script {
    /// `path` is a source's.
    pub fn new(kind: Kind, path: &str) -> Self {
        let begin = format!("POST {path} HTTP/1.1\r\nhost: h\r\n");
        let whole = match kind {
            Kind::Huge => huge(&begin),
            Kind::Crumbs => crumbs(&begin),
            _ => Vec::new(),
        };
        Self { kind, begin, whole }
    }
}

/// What came of each connection, by name, and how often.
pub type Ends = BTreeMap<String, u64>;

/// Opens connections and waits until the server has ended each.
pub async fn run(
    wire: &Wire,
    address: SocketAddr,
    script: &Arc<Script>,
    connections: usize,
) -> Result<Ends> {
    let connections = match script.kind {
        Kind::Huge | Kind::Crumbs => connections.min(HUGE_AT_ONCE),
        Kind::Unread => connections.min(UNREAD_AT_ONCE),
        _ => connections,
    };
    let patience = match script.kind {
        Kind::Unread => UNREAD + SHED,
        _ => SHED,
    };
    let mut open = JoinSet::new();
    for n in 0..connections {
        let (wire, script) = (wire.clone(), Arc::clone(script));
        open.spawn(async move {
            let end = timeout(patience, one(&wire, address, &script, n)).await;
            end.unwrap_or_else(|_| LEFT_OPEN.to_owned())
        });
    }
    let mut ends = Ends::new();
    while let Some(end) = open.join_next().await {
        *ends.entry(end?).or_default() += 1;
    }
    Ok(ends)
}

/// The name of the end that none should have.
pub const LEFT_OPEN: &str = "left open";

async fn one(wire: &Wire, address: SocketAddr, script: &Script, n: usize) -> String {
    let begin = &script.begin;
    let wire = match script.kind {
        Kind::Unread => wire.clone().receive_buffer(4096),
        _ => wire.clone(),
    };
    let Ok(mut stream) = wire.connect(address).await else {
        return "not accepted".into();
    };
    match script.kind {
        Kind::Silent => {}
        // A write that fails was refused before: the answer says so.
        Kind::HalfHead => {
            let _ = stream.write_all(begin.as_bytes()).await;
        }
        Kind::HalfBody => {
            let half = format!("{begin}content-length: 1000\r\n\r\nhalf");
            let _ = stream.write_all(half.as_bytes()).await;
        }
        Kind::Unread => return unread(stream).await,
        Kind::Huge | Kind::Crumbs => {
            let _ = stream
                .write_all(&script.whole[n % script.whole.len()])
                .await;
        }
    }
    end(stream).await
}

/// Asks for what is not there until no more can be written, and on.
async fn unread(mut stream: Box<dyn Stream>) -> String {
    let ask = "GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(64);
    while stream.write_all(ask.as_bytes()).await.is_ok() {
        tokio::time::sleep(UNREAD_PAUSE).await;
    }
    "closed".into()
}

/// A header of a megabyte, many headers, a long path, a body too long as announced and as it comes, a
/// chunk's extension of a megabyte, trailers without end, and a head that is huge and never ends.
fn huge(begin: &str) -> Vec<Vec<u8>> {
    let many = |text: &str, times: usize| text.repeat(times);
    let long = many("a", 1 << 20);
    let chunk = format!("100000\r\n{long}\r\n");
    let chunked = format!("{begin}transfer-encoding: chunked\r\n\r\n");
    let texts = [
        format!("{begin}x-long: {long}\r\ncontent-length: 0\r\n\r\n"),
        format!(
            "{begin}{}content-length: 0\r\n\r\n",
            many("x-many: 1\r\n", 10_000)
        ),
        format!("POST /v1/hooks/{long} HTTP/1.1\r\nhost: h\r\n\r\n"),
        format!("{begin}content-length: 8388608\r\n\r\n{}", many(&long, 8)),
        format!("{chunked}{}0\r\n\r\n", many(&chunk, 8)),
        format!("{chunked}1;{long}\r\nx\r\n0\r\n\r\n"),
        format!(
            "{chunked}1\r\nx\r\n0\r\n{}",
            many("x-trailer: 1\r\n", 100_000)
        ),
        format!("{begin}x-long: {long}"),
    ];
    texts.map(String::into_bytes).into()
}

/// A body of chunks of a byte, one of chunks of a byte with an extension each, and one whose first chunk
/// has an extension without end.
fn crumbs(begin: &str) -> Vec<Vec<u8>> {
    let chunked = format!("{begin}transfer-encoding: chunked\r\n\r\n");
    let texts = [
        format!("{chunked}{}", "1\r\nx\r\n".repeat((1 << 20) + 1)),
        format!("{chunked}{}", "1;a=b\r\nx\r\n".repeat(1 << 19)),
        format!("{chunked}1;{}", "a".repeat(1 << 20)),
    ];
    texts.map(String::into_bytes).into()
}

/// Reads until the server ends it; the status of its answer, or that there was none.
async fn end(mut stream: Box<dyn Stream>) -> String {
    let mut came = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        came.extend_from_slice(&buffer[..length]);
    }
    match came.get(9..12).map(str::from_utf8) {
        Some(Ok(status)) => status.to_owned(),
        _ => "closed".into(),
    }
}
