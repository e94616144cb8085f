//! Clients that break HTTP/2 on purpose, from frames of our own making: no library would send them.
//!
//! They run in a process of their own at the lowest priority, as if they were on another machine: what
//! they cost in processor time must not look like what they cost the server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sluice_tests::harness::wire::{Stream, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::time::{Instant, timeout_at};

use super::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM,
    SETTINGS, frame,
};

/// What is sent without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Requests, each taken back at once.
    Reset,
    /// A request whose head never ends.
    Continuation,
    /// Questions whether the server is there.
    Ping,
    /// News of settings, each of which must be acknowledged.
    Settings,
    /// A body of nothing but empty pieces.
    EmptyData,
    /// Requests whose answers may not be sent.
    Unread,
}

/// What a flood is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    pub kind: Kind,
    #[arg(long)]
    pub address: SocketAddr,
    #[arg(long)]
    pub seconds: u64,
    /// The server's certificate; without it, no TLS.
    #[arg(long)]
    pub certificate: Option<PathBuf>,
}

/// What came of it: the child's only line.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Account {
    /// Connections that could be made.
    pub connections: u64,
    /// Connections on which the server spoke HTTP/2.
    pub spoken: u64,
    /// Frames that were sent, less those that a closed connection swallowed.
    pub frames: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// Those for which it said so in a frame.
    pub goaways: u64,
    /// Frames that came back.
    pub answers: u64,
}

/// Connections at once.
const CONNECTIONS: usize = 8;

/// Frames of one write.
const BATCH: u32 = 64;

/// Before a connection that was ended is made again: what is flooded is not the listener.
const AGAIN: Duration = Duration::from_millis(20);

/// Requests of [`Kind::Unread`], more than any server answers at once.
const UNREAD: u32 = 500;

/// Runs in the child.
pub fn run(options: &Options) -> Result<bool> {
    let wire = match &options.certificate {
        Some(certificate) => Wire::tls(certificate, "h2")?,
        None => Wire::plain(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let counts = Arc::new(Counts::default());
    runtime.block_on(async {
        let until = Instant::now() + Duration::from_secs(options.seconds);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (wire, counts, options) = (wire.clone(), Arc::clone(&counts), options.clone());
            tasks.spawn(async move {
                while Instant::now() < until {
                    // A connection that could not be made is one that the server shed.
                    let connected = timeout_at(until, wire.connect(options.address)).await;
                    if let Ok(Ok(stream)) = connected {
                        counts.connections.fetch_add(1, Relaxed);
                        connection(stream, options.kind, &counts, until).await;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    });
    println!("{}", serde_json::to_string(&counts.account())?);
    Ok(true)
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    spoken: AtomicU64,
    frames: AtomicU64,
    ended: AtomicU64,
    goaways: AtomicU64,
    answers: AtomicU64,
}

impl Counts {
    fn account(&self) -> Account {
        Account {
            connections: self.connections.load(Relaxed),
            spoken: self.spoken.load(Relaxed),
            frames: self.frames.load(Relaxed),
            ended: self.ended.load(Relaxed),
            goaways: self.goaways.load(Relaxed),
            answers: self.answers.load(Relaxed),
        }
    }
}

/// Floods one connection until the server ends it or time is over.
async fn connection(stream: Box<dyn Stream>, kind: Kind, counts: &Counts, until: Instant) {
    let (reader, mut writer) = tokio::io::split(stream);
    let flood = async {
        let mut bytes = PREFACE.to_vec();
        begin(&mut bytes, kind);
        let mut stream = 1;
        loop {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
            bytes.clear();
            let frames = batch(&mut bytes, kind, &mut stream);
            counts.frames.fetch_add(u64::from(frames), Relaxed);
            if frames == 0 {
                // Nothing more to say: what was said stays as it is.
                tokio::time::sleep_until(until).await;
                return;
            }
            // One connection must not keep the others from their turn.
            tokio::task::yield_now().await;
        }
    };
    let reading = read(reader, counts);
    tokio::pin!(flood, reading);
    let ended = async {
        tokio::select! {
            () = &mut reading => {}
            // A reader of a closed connection learns why.
            () = &mut flood => reading.await,
        }
    };
    if timeout_at(until, ended).await.is_ok() {
        counts.ended.fetch_add(1, Relaxed);
    }
}

/// What a connection begins with, behind the preface.
fn begin(bytes: &mut Vec<u8>, kind: Kind) {
    // With no window for its answers, a server holds them.
    let window = [0, 4, 0, 0, 0, 0];
    let settings: &[u8] = if kind == Kind::Unread { &window } else { &[] };
    frame(bytes, SETTINGS, 0, 0, settings);
    match kind {
        Kind::Continuation => frame(bytes, HEADERS, END_STREAM, 1, &head()),
        Kind::EmptyData => frame(bytes, HEADERS, END_HEADERS, 1, &head()),
        _ => {}
    }
}

/// The next frames; how many.
fn batch(bytes: &mut Vec<u8>, kind: Kind, stream: &mut u32) -> u32 {
    let ended = END_STREAM | END_HEADERS;
    match kind {
        Kind::Unread if *stream > 2 * UNREAD => return 0,
        _ => {}
    }
    for _ in 0..BATCH {
        match kind {
            Kind::Reset => {
                frame(bytes, HEADERS, ended, *stream, &head());
                frame(bytes, RST_STREAM, 0, *stream, &[0, 0, 0, 8]);
                *stream += 2;
            }
            Kind::Unread => {
                frame(bytes, HEADERS, ended, *stream, &head());
                *stream += 2;
            }
            // A header without a name in the tables: it grows the head, and nothing refers to it.
            Kind::Continuation => frame(bytes, CONTINUATION, 0, 1, b"\x00\x03x-a\x05aaaaa"),
            Kind::Ping => frame(bytes, PING, 0, 0, &[0; 8]),
            Kind::Settings => frame(bytes, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            Kind::EmptyData => frame(bytes, DATA, 0, 1, &[]),
        }
    }
    BATCH
}

/// A head for a source that is none.
fn head() -> Vec<u8> {
    frames::head("/v1/hooks/none/x")
}

/// Reads frames until the connection ends.
async fn read(mut reader: ReadHalf<Box<dyn Stream>>, counts: &Counts) {
    let mut head = [0; 9];
    let mut payload = Vec::new();
    let mut spoken = false;
    while reader.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        // Bytes that are no frames: another protocol.
        if !spoken && head[3] != SETTINGS {
            return;
        }
        payload.resize(length, 0);
        if reader.read_exact(&mut payload).await.is_err() {
            return;
        }
        if !spoken {
            spoken = true;
            counts.spoken.fetch_add(1, Relaxed);
        }
        counts.answers.fetch_add(1, Relaxed);
        if head[3] == GOAWAY {
            counts.goaways.fetch_add(1, Relaxed);
        }
    }
}
