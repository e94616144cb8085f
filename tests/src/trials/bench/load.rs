//! Keep-alive connections that cost as little as they can: requests are laid out beforehand, answers are read
//! as far as their length. The load has its core in common with the brokers, so it is not the open loop of
//! `sluice_tests::load`, which parses each answer and keeps a sample of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sluice_tests::load::times::Times;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::pace::pace;

/// Before the clock runs: every connection has a request on the way.
const RAMP: Duration = Duration::from_millis(300);

/// Before the first request of an open loop is due.
const LEAD: Duration = Duration::from_millis(100);

/// Requests as they go over the wire, which are sent again and again.
pub type Requests = Arc<Vec<Vec<u8>>>;

/// What a closed loop did.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Answers while the clock ran.
    pub answered: u64,
    /// For how long it ran.
    pub time: Duration,
    /// What the measured process used of its processor meanwhile.
    pub cpu: Duration,
    /// Answers in all, those before and after included.
    pub all: u64,
}

/// Connections to one address, kept from one run to the next.
pub struct Load {
    runtime: Runtime,
    connections: Vec<Connection>,
    requests: Requests,
}

struct Closed {
    requests: Requests,
    connections: usize,
    answered: AtomicU64,
    ended: AtomicBool,
}

impl Load {
    /// Connects.
    pub fn connect(address: SocketAddr, connections: usize, requests: &Requests) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connections = runtime.block_on(async {
            let mut all = Vec::new();
            for _ in 0..connections.max(1) {
                all.push(Connection::open(address).await?);
            }
            anyhow::Ok(all)
        })?;
        Ok(Self {
            runtime,
            connections,
            requests: Arc::clone(requests),
        })
    }

    /// Each connection sends as soon as it has its answer, which must be 200. `cpu` is what the measured
    /// process has used so far.
    pub fn closed(&mut self, time: Duration, cpu: impl Fn() -> Result<Duration>) -> Result<Window> {
        let connections = std::mem::take(&mut self.connections);
        let closed = Arc::new(Closed {
            requests: Arc::clone(&self.requests),
            connections: connections.len(),
            answered: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let look = || anyhow::Ok((closed.answered.load(Relaxed), cpu()?, Instant::now()));
        let (window, connections) = self.runtime.block_on(async {
            let turns = connections.into_iter().enumerate();
            let turns = turns.map(|(n, c)| tokio::spawn(c.turns(n, Arc::clone(&closed))));
            let turns: Vec<_> = turns.collect();
            tokio::time::sleep(RAMP).await;
            let before = look()?;
            tokio::time::sleep(time).await;
            let after = look()?;
            closed.ended.store(true, Relaxed);
            let mut connections = Vec::new();
            for turn in turns {
                connections.push(turn.await??);
            }
            let window = Window {
                answered: after.0 - before.0,
                time: after.2 - before.2,
                cpu: after.1.saturating_sub(before.1),
                all: closed.answered.load(Relaxed),
            };
            anyhow::Ok((window, connections))
        })?;
        self.connections = connections;
        Ok(window)
    }

    /// Requests are due at an even pace, however long their answers take: the times run from when each was
    /// due.
    pub fn open(&mut self, rate: u32, time: Duration) -> Result<Times> {
        let count = rate.saturating_mul(u32::try_from(time.as_secs())?).max(1);
        let connections = std::mem::take(&mut self.connections);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            connections.iter().map(|_| unbounded_channel()).unzip();
        let start = Instant::now() + LEAD;
        // It has its own clock: tokio's timers have a step of a millisecond.
        let pacer = std::thread::spawn(move || {
            pace(start, rate, count, |n, due| {
                let place = n as usize;
                // A connection that failed says so itself.
                let _ = senders[place % senders.len()].send((place, due));
            });
        });
        let requests = &self.requests;
        let (times, connections) = self.runtime.block_on(async {
            let each = connections.into_iter().zip(receivers);
            let each = each.map(|(c, dues)| tokio::spawn(c.in_time(dues, Arc::clone(requests))));
            let each: Vec<_> = each.collect();
            let (mut times, mut connections) = (Vec::new(), Vec::new());
            for one in each {
                let (took, connection) = one.await??;
                times.extend(took);
                connections.push(connection);
            }
            anyhow::Ok((times, connections))
        })?;
        self.connections = connections;
        let ended = pacer.join();
        ended.map_err(|_| anyhow::anyhow!("the pacer panicked"))?;
        Ok(times.into_iter().collect())
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 4096],
        })
    }

    async fn turns(mut self, place: usize, closed: Arc<Closed>) -> Result<Self> {
        let mut next = place;
        while !closed.ended.load(Relaxed) {
            let request = &closed.requests[next % closed.requests.len()];
            self.exchange(request).await?;
            closed.answered.fetch_add(1, Relaxed);
            next += closed.connections;
        }
        Ok(self)
    }

    async fn in_time(
        mut self,
        mut dues: UnboundedReceiver<(usize, Instant)>,
        requests: Requests,
    ) -> Result<(Vec<Duration>, Self)> {
        let mut took = Vec::new();
        while let Some((place, due)) = dues.recv().await {
            self.exchange(&requests[place % requests.len()]).await?;
            took.push(due.elapsed());
        }
        Ok((took, self))
    }

    /// Sends a request and reads its answer.
    async fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        let mut read = 0;
        loop {
            let more = self.stream.read(&mut self.buffer[read..]).await?;
            if more == 0 {
                bail!("the connection was closed");
            }
            read += more;
            let answer = &self.buffer[..read];
            let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&answer[..head])?;
            if !text.starts_with("HTTP/1.1 200") {
                bail!("answered {}", text.lines().next().unwrap_or_default());
            }
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .context("no content-length")?
                .parse()?;
            if read >= head + 4 + length {
                return Ok(());
            }
        }
    }
}
