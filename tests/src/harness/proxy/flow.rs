//! One connection: two directions, each a reader and a writer with a queue between them.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio::try_join;

use super::frames::{Frames, Unanswered};
use super::link::{Link, State};
use super::traps::{Side, Traps, Verdict};

/// What one read takes at most.
const READ: usize = 64 * 1024;

/// What is held between reader and writer: 64 reads, so at most 4 MiB a direction.
const QUEUE: usize = 64;

/// A slow link gives its bytes in portions of so much time.
const PORTION: Duration = Duration::from_millis(10);

/// What was read at once, and when.
struct Chunk {
    bytes: Bytes,
    taken: Instant,
}

/// The link as one connection sees it.
#[derive(Clone)]
pub(super) struct Gate {
    state: watch::Receiver<State>,
    /// How often the link had been cut when the connection was accepted.
    cuts: u64,
}

impl Gate {
    /// The link as it is for a connection that was accepted now.
    pub fn new(state: &watch::Receiver<State>) -> Self {
        let state = state.clone();
        let cuts = state.borrow().cuts;
        Self { state, cuts }
    }

    /// Waits until the link allows it. Fails once the link was cut.
    async fn until(&mut self, allowed: impl Fn(Link) -> bool) -> io::Result<Link> {
        loop {
            let State { link, cuts } = *self.state.borrow_and_update();
            if link == Link::Cut || cuts != self.cuts {
                return Err(reset());
            }
            if allowed(link) {
                return Ok(link);
            }
            self.changed().await?;
        }
    }

    /// Does what is to be done, whatever becomes of the link, unless it is cut meanwhile.
    async fn unless_cut<T>(&mut self, work: impl Future<Output = T>) -> io::Result<T> {
        let mut work = pin!(work);
        loop {
            self.until(|_| true).await?;
            tokio::select! {
                biased;
                changed = self.changed() => changed?,
                done = &mut work => return Ok(done),
            }
        }
    }

    /// Waits for a change. A proxy that was dropped is as good as cut.
    async fn changed(&mut self) -> io::Result<()> {
        self.state.changed().await.map_err(|_| reset())
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Forwards until both sides have ended, or resets both.
pub(super) async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    mut gate: Gate,
    traps: Arc<Traps>,
) {
    // A link that is cut already, and a broker that is not there, look the same to the client.
    if gate.until(|_| true).await.is_err() {
        let _ = client.set_zero_linger();
        return;
    }
    let mut connecting = pin!(TcpStream::connect(target));
    let mut broker = match gate.unless_cut(connecting.as_mut()).await {
        Ok(Ok(broker)) => broker,
        Ok(Err(_)) => {
            let _ = client.set_zero_linger();
            return;
        }
        Err(_) => {
            let _ = client.set_zero_linger();
            drop(client);
            // Cut in the middle of it; the broker may have accepted already.
            if let Ok(broker) = connecting.await {
                let _ = broker.set_zero_linger();
            }
            return;
        }
    };
    let ended = forward(&mut client, &mut broker, &gate, &traps).await;
    if ended.is_err() {
        // Closed like this, both sides see a reset and no orderly end.
        let _ = client.set_zero_linger();
        let _ = broker.set_zero_linger();
    }
}

async fn forward(
    client: &mut TcpStream,
    broker: &mut TcpStream,
    gate: &Gate,
    traps: &Traps,
) -> io::Result<()> {
    // A frame leaves when it is there: waiting for more would be a fault nobody asked for.
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let unanswered = Arc::new(Unanswered::default());
    let (from_client, to_client) = client.split();
    let (from_broker, to_broker) = broker.split();
    let requests = Frames::new(Side::Request, Arc::clone(&unanswered));
    let replies = Frames::new(Side::Reply, unanswered);
    let (asking, to_ask) = mpsc::channel(QUEUE);
    let (answering, to_answer) = mpsc::channel(QUEUE);
    try_join!(
        read(from_client, asking, requests, Side::Request, gate, traps),
        write(to_broker, to_ask, Side::Request, gate),
        read(from_broker, answering, replies, Side::Reply, gate, traps),
        write(to_client, to_answer, Side::Reply, gate),
    )?;
    Ok(())
}

/// Reads as the link allows it, and stops where a trap holds.
async fn read(
    mut from: ReadHalf<'_>,
    queue: mpsc::Sender<Chunk>,
    mut frames: Frames,
    side: Side,
    gate: &Gate,
    traps: &Traps,
) -> io::Result<()> {
    let mut gate = gate.clone();
    let mut buffer = vec![0; READ];
    loop {
        gate.until(Link::reads).await?;
        let n = tokio::select! {
            // First, so that nothing is read any more once the link has been changed.
            biased;
            changed = gate.changed() => {
                changed?;
                continue;
            }
            n = from.read(&mut buffer) => n?,
        };
        let taken = Instant::now();
        let mut input = Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
        let mut ready = BytesMut::with_capacity(n);
        while let Some(piece) = frames.next(&mut input) {
            match piece.api.map(|api| traps.judge(api, side)) {
                None | Some(Verdict::Pass) => {}
                Some(Verdict::Hold(release)) => {
                    // What stands before the frame is not held.
                    hand_over(&queue, ready.split().freeze(), taken, &mut gate).await?;
                    gate.unless_cut(release.wait()).await?;
                }
                Some(Verdict::Lose) => return Err(reset()),
            }
            ready.extend_from_slice(&piece.bytes);
        }
        if n == 0 {
            ready.extend_from_slice(&frames.rest());
        }
        hand_over(&queue, ready.freeze(), taken, &mut gate).await?;
        if n == 0 {
            // The queue ends with its sender, and the writer closes the other side.
            return Ok(());
        }
    }
}

async fn hand_over(
    queue: &mpsc::Sender<Chunk>,
    bytes: Bytes,
    taken: Instant,
    gate: &mut Gate,
) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let sent = gate.unless_cut(queue.send(Chunk { bytes, taken })).await?;
    sent.map_err(|_| reset())
}

/// Writes as the link allows it.
async fn write(
    mut to: WriteHalf<'_>,
    mut queue: mpsc::Receiver<Chunk>,
    side: Side,
    gate: &Gate,
) -> io::Result<()> {
    let mut gate = gate.clone();
    while let Some(Chunk { mut bytes, taken }) = gate.unless_cut(queue.recv()).await? {
        while !bytes.is_empty() {
            let link = gate.until(|link| link.writes(side)).await?;
            let Link::Slow {
                delay,
                bytes_per_second,
            } = link
            else {
                gate.unless_cut(to.write_all(&bytes)).await??;
                break;
            };
            if pause_until(taken + delay, &mut gate).await? {
                continue;
            }
            let (n, time) = portion(bytes_per_second, bytes.len());
            let begun = Instant::now();
            gate.unless_cut(to.write_all(&bytes.split_to(n))).await??;
            pause_until(begun + time, &mut gate).await?;
        }
    }
    // The end of the stream passes where its bytes would.
    gate.until(|link| link.writes(side)).await?;
    to.shutdown().await
}

/// Waits until then, or until the link has changed; whether it has.
async fn pause_until(then: Instant, gate: &mut Gate) -> io::Result<bool> {
    tokio::select! {
        biased;
        changed = gate.changed() => changed.map(|()| true),
        () = sleep_until(then) => Ok(false),
    }
}

/// How many of so many bytes are written at once at a rate, and the time that this stands for.
fn portion(bytes_per_second: u64, len: usize) -> (usize, Duration) {
    let rate = bytes_per_second.max(1);
    let portions = u64::try_from(Duration::from_secs(1).as_millis() / PORTION.as_millis());
    let wanted = usize::try_from(rate / portions.unwrap_or(100)).unwrap_or(usize::MAX);
    let n = wanted.clamp(1, len);
    let nanos = u64::try_from(n)
        .unwrap_or(u64::MAX)
        .saturating_mul(1_000_000_000);
    (n, Duration::from_nanos(nanos / rate))
}
