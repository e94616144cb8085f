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

mod link;

mod flow;

#[cfg(test)]
mod tests;

use link::State;

pub use link::Link;
pub use traps::{Api, Side, Sprung, Then, Trap, Traps};

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
