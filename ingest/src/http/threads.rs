//! The threads that serve. Each has a runtime of its own, and a connection stays on the thread that it was
//! given to, with all its requests.

use std::io;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::publish::Handover;

/// The most threads where the settings do not say how many: what serves is seldom short of more.
const MOST: usize = 4;

/// tokio's `event_interval`: the sockets are polled every 8 task polls, so that a new connection does not
/// wait for dozens of connections that have data.
const EVENT_INTERVAL: u32 = 8;

/// How often the end of threads is polled.
const END_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The runtime of a thread that serves.
///
/// # Errors
/// There are no files left for its sockets.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
}

/// How many threads serve: as many as the settings say, else one for each core that the process may use.
pub fn count(configured: Option<NonZeroUsize>) -> NonZeroUsize {
    configured.unwrap_or_else(|| {
        // Of the quota of a cgroup, whole cores.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        NonZeroUsize::new(cores.min(MOST)).unwrap_or(NonZeroUsize::MIN)
    })
}

/// The threads that serve, the one that made them among them.
#[derive(Debug)]
pub struct Threads {
    runtimes: Vec<Handle>,
    others: Vec<JoinHandle<()>>,
    ending: CancellationToken,
}

impl Threads {
    /// So many, of which the first is this one with the runtime that this is called in.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        Handover::begin();
        let mut threads = Self {
            runtimes: vec![Handle::current()],
            others: Vec::new(),
            ending: CancellationToken::new(),
        };
        for number in 1..count.get() {
            let runtime = runtime()?;
            threads.runtimes.push(runtime.handle().clone());
            let ending = threads.ending.clone();
            let thread = std::thread::Builder::new().name(format!("serving-{number}"));
            threads.others.push(thread.spawn(move || {
                runtime.block_on(async {
                    Handover::begin();
                    ending.cancelled().await;
                });
                // What is left of its connections is dropped with it.
                runtime.shutdown_background();
            })?);
        }
        Ok(threads)
    }

    /// Their runtimes.
    pub fn runtimes(&self) -> Vec<Handle> {
        self.runtimes.clone()
    }

    /// Ends all but this one, with what is left of their connections. A thread that is stuck is waited for so
    /// long at most.
    pub async fn end(&mut self, patience: Duration) {
        self.ending.cancel();
        let until = Instant::now() + patience;
        while self.others.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            tokio::time::sleep(END_POLL_INTERVAL).await;
        }
        for thread in self.others.drain(..).filter(JoinHandle::is_finished) {
            if thread.join().is_err() {
                tracing::error!("a serving thread panicked: report this");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// A connection that goes to another thread, whose sockets another runtime polls.
pub struct Moved(std::net::TcpStream);

impl Moved {
    /// It leaves the runtime of this thread.
    pub fn from(stream: TcpStream) -> io::Result<Self> {
        stream.into_std().map(Self)
    }

    /// It has come to the runtime of this thread.
    pub fn arrive(self) -> io::Result<TcpStream> {
        TcpStream::from_std(self.0)
    }
}
