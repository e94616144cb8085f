//! A TCP proxy between one service process and one broker, through which faults of the network come.
//!
//! It forwards byte for byte. It understands so much of Kafka's framing that a [`Trap`] can be set on
//! a kind of request or on its reply; what it does not understand it forwards all the same.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::ports;

mod frames;

mod traps;

mod flow;

#[cfg(test)]
mod tests;

pub use traps::{Api, Side, Sprung, Then, Trap, Traps};

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
    fn reads(self) -> bool {
        !matches!(self, Self::Cut | Self::Stalled)
    }

    /// Whether what was read is handed to this side's receiver.
    fn writes(self, side: Side) -> bool {
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
struct State {
    link: Link,
    cuts: u64,
}

/// Listens on a port of 127.0.0.1 and forwards to a target. Dropping it resets its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

/// One thread is enough for all proxies of a process: they only copy.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Somebody else may take a port between the question whether it is free and its use.
const ATTEMPTS: usize = 20;

impl Proxy {
    /// Starts a proxy with an open link. Traps may be shared by several proxies.
    pub fn start(target: SocketAddr, traps: &Arc<Traps>) -> Result<Self> {
        let listener = listen()?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = runtime()?;
        let _entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let (state, seen) = watch::channel(State {
            link: Link::Open,
            cuts: 0,
        });
        let accepting = runtime.spawn(accept(listener, target, seen, Arc::clone(traps)));
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the link, at once and for all connections. What a stalled or half-open link held goes
    /// on when it opens; what a cut reset is gone.
    pub fn set(&self, link: Link) {
        self.state.send_modify(|state| {
            state.link = link;
            if link == Link::Cut {
                state.cuts += 1;
            }
        });
    }

    /// The link as it is now.
    pub fn link(&self) -> Link {
        self.state.borrow().link
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections see that their state has no sender any more.
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<State>,
    traps: Arc<Traps>,
) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let gate = flow::Gate::new(&state);
                tokio::spawn(flow::serve(client, target, gate, Arc::clone(&traps)));
            }
            // A connection that was reset before it was taken, or no file descriptor left for now.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn listen() -> Result<StdListener> {
    for _ in 0..ATTEMPTS {
        if let Ok(listener) = StdListener::bind(ports::local(ports::free()?)) {
            return Ok(listener);
        }
    }
    bail!("no port for a proxy after {ATTEMPTS} attempts")
}

fn runtime() -> Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("proxies")
        .enable_all()
        .build()
        .context("cannot start the proxies' thread")?;
    Ok(RUNTIME.get_or_init(|| built))
}
