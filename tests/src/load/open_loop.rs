//! Good traffic at a steady pace, whatever else happens: an open loop. A request is sent when it is due,
//! not when the one before was answered, and its time runs from then.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::client::{Client, Outgoing};
use crate::harness::wait::{PATIENCE, wait_for};
use crate::harness::wire::Wire;
use crate::load::window::{Closed, Sample, slow, window};
use anyhow::{Context, Result};
use tokio::sync::oneshot;

pub use crate::load::window::Window;

/// Every so many requests one comes on a connection of its own, as from a sender that keeps none. Odd:
/// where requests go to an even number of sources in turn, each source gets some of these.
const FRESH_EVERY: usize = 9;

/// Failures that are kept as text.
const FAILURES_KEPT: usize = 5;

/// The traffic, on a thread of its own. Dropping it ends it.
pub struct OpenLoop {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

struct Shared {
    servers: Vec<Server>,
    requests: Mutex<Arc<Vec<Outgoing>>>,
    samples: Mutex<Vec<Sample>>,
    failures: Mutex<Vec<String>>,
}

/// Where traffic goes, and the kept connections to there.
struct Server {
    address: std::net::SocketAddr,
    wire: Wire,
    kept: Client,
    /// Cleared while nothing is to be sent to it.
    up: AtomicBool,
}

impl OpenLoop {
    /// Starts sending to these addresses in turn, `rate` a second in all.
    pub fn start(
        addresses: &[std::net::SocketAddr],
        wire: &Wire,
        requests: Vec<Outgoing>,
        rate: u32,
    ) -> Result<Self> {
        let server = |address: &std::net::SocketAddr| Server {
            address: *address,
            wire: wire.clone(),
            kept: Client::over(wire.clone(), *address),
            up: AtomicBool::new(true),
        };
        let shared = Arc::new(Shared {
            servers: addresses.iter().map(server).collect(),
            requests: Mutex::new(Arc::new(requests)),
            samples: Mutex::default(),
            failures: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let sending = Arc::clone(&shared);
        let thread = std::thread::Builder::new().spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(send(sending, rate, stopped))
        })?;
        Ok(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Who decides where requests go, for a balancer on another thread.
    pub fn rotation(&self) -> Rotation {
        Rotation(Arc::clone(&self.shared))
    }

    /// What was due between two moments and has ended by now.
    pub fn window(&self, from: Instant, to: Instant) -> Window {
        window(&lock(&self.shared.samples), from, to, |_| true)
    }

    /// How many connections are kept open, for requests to come.
    pub fn kept(&self) -> usize {
        let servers = self.shared.servers.iter();
        servers.map(|server| server.kept.kept()).sum()
    }

    /// From now on sends these. Returns when none of those before is on its way any more.
    pub fn replace(&self, requests: Vec<Outgoing>) -> Result<()> {
        let before = std::mem::replace(&mut *lock(&self.shared.requests), Arc::new(requests));
        // The sender of one of them holds them all.
        wait_for("the requests before to end", PATIENCE, || {
            Ok((Arc::strong_count(&before) == 1).then_some(()))
        })
    }

    /// Ends it, once every request that is on its way has ended.
    pub fn finish(mut self) -> Result<Sent> {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        }
        let samples = std::mem::take(&mut *lock(&self.shared.samples));
        let failures = std::mem::take(&mut *lock(&self.shared.failures));
        Ok(Sent { samples, failures })
    }
}

impl Drop for OpenLoop {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // finish() returns its error.
            let _ = thread.join();
        }
    }
}

/// Where requests go.
pub struct Rotation(Arc<Shared>);

impl Rotation {
    /// From now on the address of this place gets requests, or none where another one does.
    pub fn set(&self, place: usize, up: bool) {
        if let Some(server) = self.0.servers.get(place) {
            server.up.store(up, Relaxed);
        }
    }
}

impl Shared {
    /// Whose turn it is, of those that get requests; of all where none does.
    fn server(&self, n: usize) -> &Server {
        let count = self.servers.len();
        let mut turn = (n..n + count).map(|n| &self.servers[n % count]);
        let first = &self.servers[n % count];
        turn.find(|server| server.up.load(Relaxed)).unwrap_or(first)
    }
}

/// All that was sent.
pub struct Sent {
    samples: Vec<Sample>,
    /// The first failures, in words.
    pub failures: Vec<String>,
}

impl Sent {
    /// What was due between two moments.
    pub fn window(&self, from: Instant, to: Instant) -> Window {
        window(&self.samples, from, to, |_| true)
    }

    /// The same of the requests of these places in the list of requests alone.
    pub fn window_of(&self, from: Instant, to: Instant, which: impl Fn(usize) -> bool) -> Window {
        window(&self.samples, from, to, which)
    }

    /// How many took longer than `bound` while all of `other` took less than `calm` in the same seconds.
    pub fn slow(
        &self,
        (from, to): (Instant, Instant),
        bound: Duration,
        (other, calm): (&Self, Duration),
        which: impl Fn(usize) -> bool,
    ) -> usize {
        slow(
            &self.samples,
            (from, to),
            bound,
            (&other.samples, calm),
            which,
        )
    }
}

async fn send(shared: Arc<Shared>, rate: u32, mut stopped: oneshot::Receiver<()>) -> Result<()> {
    let period = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now();
    let mut open = tokio::task::JoinSet::new();
    for n in 0.. {
        tokio::select! {
            biased;
            // The other end is only ever dropped.
            _ = &mut stopped => break,
            () = tokio::time::sleep_until(due.into()) => {}
        }
        let shared = Arc::clone(&shared);
        open.spawn(async move { one(&shared, n, due).await });
        while open.try_join_next().is_some() {}
        due += period;
    }
    while let Some(ended) = open.join_next().await {
        ended.context("a request panicked")?;
    }
    Ok(())
}

/// Sends one request. As every HTTP client does, it sends it once more where the connection was closed
/// under it, to the next server where there is one.
async fn one(shared: &Shared, n: usize, due: Instant) {
    let requests = Arc::clone(&lock(&shared.requests));
    let request = &requests[n % requests.len()];
    let fresh = n.is_multiple_of(FRESH_EVERY);
    let mut resent = None;
    let answer = loop {
        // The other one, where there are two and both are up.
        let server = shared.server(n + usize::from(resent.is_some()));
        let answer = if fresh {
            let own = Client::over(server.wire.clone(), server.address);
            own.post(request).await
        } else {
            server.kept.post(request).await
        };
        match answer {
            Err(error) if resent.is_none() && was_closed(&error).is_some() => {
                resent = was_closed(&error);
            }
            other => break other,
        }
    };
    let failure = match answer {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            Some(format!("answered {}: {text}", answer.status))
        }
        Err(error) => Some(format!("{error:#}")),
    };
    lock(&shared.samples).push(Sample {
        place: n % requests.len(),
        due,
        took: due.elapsed(),
        fresh,
        resent,
        good: failure.is_none(),
    });
    let mut failures = lock(&shared.failures);
    if failures.len() < FAILURES_KEPT {
        failures.extend(failure);
    }
}

/// How a connection went, where it did, rather than that no answer came in time.
fn was_closed(error: &anyhow::Error) -> Option<Closed> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            let refused = error.kind() == ErrorKind::ConnectionRefused;
            return Some(if refused {
                Closed::Refused
            } else {
                Closed::Broken
            });
        }
        let error = cause.downcast_ref::<hyper::Error>()?;
        let broken = error.is_canceled() || error.is_incomplete_message();
        broken.then_some(Closed::Broken)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_what_was_due_in_it() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let sample = |due: u64, took: u64, good: bool| Sample {
            place: 0,
            due: at(due),
            took: Duration::from_millis(took),
            fresh: due.is_multiple_of(2),
            resent: (due == 120).then_some(Closed::Refused),
            good,
        };
        let sent = Sent {
            samples: (0..200).map(|n| sample(n, n, n != 150)).collect(),
            failures: Vec::new(),
        };
        let window = sent.window(at(100), at(200));
        assert_eq!((window.requests, window.failed), (100, 1));
        assert_eq!((window.resent, window.refused), (0, 1));
        assert!((window.p50_ms - 149.0).abs() < 0.2 && (window.p99_ms - 198.0).abs() < 0.2);
        assert_eq!(sent.window(at(500), at(600)).requests, 0);
    }

    #[test]
    fn a_slow_request_counts_only_where_the_other_traffic_was_calm() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let sent = |samples: &[(u64, u64)]| Sent {
            samples: samples
                .iter()
                .map(|&(due, took)| Sample {
                    place: usize::try_from(due / 1_000).expect("small"),
                    due: at(due),
                    took: Duration::from_millis(took),
                    fresh: false,
                    resent: None,
                    good: true,
                })
                .collect(),
            failures: Vec::new(),
        };
        // The second of these lasts into a second in which the other is not calm, and the last into one of
        // which nothing is known.
        let slow = sent(&[(0, 1_200), (1_500, 1_200), (4_500, 1_200), (5_000, 999)]);
        let other = sent(&[
            (100, 20),
            (1_100, 20),
            (2_100, 600),
            (3_100, 20),
            (4_100, 20),
        ]);
        let count = |which: fn(usize) -> bool| {
            let (second, calm) = (Duration::from_secs(1), Duration::from_millis(500));
            slow.slow((start, at(9_000)), second, (&other, calm), which)
        };
        assert_eq!(count(|_| true), 1);
        assert_eq!(count(|place| place > 0), 0);
        let one = slow.window_of(start, at(9_000), |place| place == 1);
        assert_eq!(one.requests, 1);
    }
}
