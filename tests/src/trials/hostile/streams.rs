//! Requests that promise much and bring little: bodies announced and never brought, and heads as large as
//! they may be. They come from many addresses, over connections that stay.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use sluice_tests::harness::wire::{Stream, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::frames::{
    ACK, DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, head, header, status,
};
use super::peers::attacker;

/// What a stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Announces a body of 1 MiB and brings it at little more than the least rate.
    Announced,
    /// Has a head of nearly 16 KiB, and its body never comes.
    Heads,
}

/// Streams at once on a connection: as many as ingest takes by default.
const STREAMS: usize = 32;

/// The connections of [`Kind::Announced`]: over HTTP/2, each of which announces as much as one source may
/// hold by default, and over HTTP/1.1, which together announce as much.
const ANNOUNCED: (usize, usize) = (2, 34);

/// The connections of [`Kind::Heads`]: as many as leave room for good ones by default.
const HEADS: usize = 900;

/// Ingest demands 1 KiB a second on average.
const TRICKLE: usize = 1_400;

/// Before a connection whose large heads were answered sends them again: what is tried is what they hold, and
/// not how fast they are read.
const HEADS_AGAIN: u32 = 4;

/// Between two new connections: all at once, with their heads of hundreds of MiB, are a flood of handshakes
/// and bytes, and what is tried is what they hold.
const ONE_BY_ONE: Duration = Duration::from_millis(2);

/// Before a connection that was ended is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// Requests by their answer.
pub type Answers = BTreeMap<String, u64>;

/// Requests that were open when their connection ended.
pub const CUT: &str = "cut off";

/// Those that were open at the attack's end.
pub const OPEN: &str = "open at the end";

struct Script {
    kind: Kind,
    address: SocketAddr,
    /// The head in HPACK.
    head: Vec<u8>,
    /// The head over HTTP/1.1.
    text: String,
    until: Instant,
    answers: Mutex<Answers>,
}

/// Runs them for so long, on connections over `http2` and `http1`.
pub async fn run(
    kind: Kind,
    (http2, http1): (&Wire, &Wire),
    address: SocketAddr,
    path: &str,
    time: Duration,
) -> Result<Answers> {
    let mut block = head(path);
    match kind {
        Kind::Announced => header(&mut block, "content-length", b"1048576"),
        Kind::Heads => {
            header(&mut block, "content-length", b"1000");
            for name in ["x-a", "x-b", "x-c"] {
                header(&mut block, name, &[b'x'; 5_000]);
            }
        }
    }
    let script = Arc::new(Script {
        kind,
        address,
        head: block,
        text: format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 1048576\r\n\r\n"),
        until: Instant::now() + time,
        answers: Mutex::default(),
    });
    let (two, one) = match kind {
        Kind::Announced => ANNOUNCED,
        Kind::Heads => (HEADS, 0),
    };
    let mut tasks = JoinSet::new();
    for n in 0..two + one {
        let script = Arc::clone(&script);
        let wire = if n < two { http2 } else { http1 };
        let wire = wire.clone().from(attacker(n));
        sleep(ONE_BY_ONE).await;
        tasks.spawn(async move {
            while Instant::now() < script.until {
                let connected = timeout_at(script.until, wire.connect(script.address)).await;
                match connected {
                    Ok(Ok(stream)) if n < two => script.streams(stream).await,
                    Ok(Ok(stream)) => script.trickle(stream).await,
                    Ok(Err(_)) | Err(_) => {}
                }
                sleep(AGAIN).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    Ok(std::mem::take(&mut *script.answers.lock()))
}

/// What a server said.
enum Word {
    Settings,
    Answer(u32, String),
}

impl Script {
    fn count(&self, answer: &str, n: usize) {
        if n > 0 {
            let n = u64::try_from(n).unwrap_or(u64::MAX);
            *self.answers.lock().entry(answer.to_owned()).or_default() += n;
        }
    }

    /// One connection over HTTP/2.
    async fn streams(&self, stream: Box<dyn Stream>) {
        let (reader, mut writer) = tokio::io::split(stream);
        let (said, words) = unbounded_channel();
        let reading = tokio::spawn(read(reader, said));
        let mut open = HashSet::new();
        let writing = self.write(&mut writer, words, &mut open);
        let ended = timeout_at(self.until, writing).await.is_ok();
        self.count(if ended { CUT } else { OPEN }, open.len());
        reading.abort();
    }

    /// Sends until the connection ends.
    async fn write(
        &self,
        writer: &mut (impl AsyncWriteExt + Unpin),
        mut words: UnboundedReceiver<Word>,
        open: &mut HashSet<u32>,
    ) {
        let mut bytes = PREFACE.to_vec();
        // No table for heads of answers, whose statuses are then there to read.
        frame(&mut bytes, SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        let (mut next, mut ticks) = (1, 0u32);
        self.open(&mut bytes, open, &mut next);
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
            bytes.clear();
            tokio::select! {
                word = words.recv() => match word {
                    None => return,
                    Some(Word::Settings) => frame(&mut bytes, SETTINGS, ACK, 0, &[]),
                    Some(Word::Answer(stream, status)) => {
                        // The body's end has no status, and is no other answer.
                        if open.remove(&stream) {
                            self.count(&status, 1);
                        }
                        if self.kind == Kind::Announced {
                            self.open(&mut bytes, open, &mut next);
                        }
                    }
                },
                _ = tick.tick() => {
                    ticks += 1;
                    if self.kind == Kind::Announced {
                        for stream in open.iter() {
                            frame(&mut bytes, DATA, 0, *stream, &[b'x'; TRICKLE]);
                        }
                    } else if ticks.is_multiple_of(HEADS_AGAIN) {
                        self.open(&mut bytes, open, &mut next);
                    }
                }
            }
        }
    }

    /// Opens as many streams as there may be.
    fn open(&self, bytes: &mut Vec<u8>, open: &mut HashSet<u32>, next: &mut u32) {
        while open.len() < STREAMS {
            frame(bytes, HEADERS, END_HEADERS, *next, &self.head);
            open.insert(*next);
            *next += 2;
        }
    }

    /// One request over HTTP/1.1, the body of which comes slowly.
    async fn trickle(&self, mut stream: Box<dyn Stream>) {
        if stream.write_all(self.text.as_bytes()).await.is_err() {
            return self.count(CUT, 1);
        }
        let mut tick = interval(Duration::from_secs(1));
        let mut came = [0; 64];
        loop {
            tokio::select! {
                length = stream.read(&mut came) => {
                    let status = came.get(9..12).filter(|_| matches!(length, Ok(12..)));
                    let status = status.and_then(|status| str::from_utf8(status).ok());
                    return self.count(status.unwrap_or(CUT), 1);
                }
                _ = tick.tick() => {
                    // What the server says is read next.
                    let _ = stream.write_all(&[b'x'; TRICKLE]).await;
                }
                () = tokio::time::sleep_until(self.until) => return self.count(OPEN, 1),
            }
        }
    }
}

/// Reads frames until the connection ends.
async fn read(mut reader: ReadHalf<Box<dyn Stream>>, said: UnboundedSender<Word>) {
    let mut head = [0; 9];
    let mut payload = Vec::new();
    while reader.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        payload.resize(length, 0);
        if reader.read_exact(&mut payload).await.is_err() {
            return;
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let word = match head[3] {
            SETTINGS if head[4] & ACK == 0 => Word::Settings,
            HEADERS => {
                let status = status(&payload).map(|status| status.to_string());
                Word::Answer(stream, status.unwrap_or_else(|| "not understood".into()))
            }
            _ => continue,
        };
        if said.send(word).is_err() {
            return;
        }
    }
}
