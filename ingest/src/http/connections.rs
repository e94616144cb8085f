//! The connections of a server together: how many there are, and what they share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::eviction::{Eviction, Standing, reserve};
use super::peers::Peers;
use super::tls::Tls;
use crate::publish::Publish;
use crate::receive::Receiver;

/// After so long without a connection, senders have gone elsewhere: between two of many requests there may be
/// a moment without a connection.
pub const QUIET: Duration = Duration::from_secs(1);

/// How often the end of connections is polled.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The pause before connections that all had requests are looked at again for one that may end.
const EVICTION_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What all connections share.
pub struct Server<P> {
    pub(super) receiver: Arc<Receiver<P>>,
    pub(super) tls: Option<Arc<Tls>>,
    lanes: Vec<Lane>,
    pub(super) peers: Peers,
    pub(super) open: AtomicUsize,
    /// The activity of each, by the number of its acceptance.
    activities: Mutex<HashMap<usize, Arc<Activity>>>,
    /// All connections accepted so far.
    pub(super) accepted: AtomicUsize,
    /// Notified when a connection has ended.
    pub(super) ended: Notify,
    /// Set while draining: connections end with the answer that is due.
    pub(super) leaving: AtomicBool,
    /// Requested when idle connections must end too.
    pub(super) closing: CancellationToken,
}

/// A thread that serves, and what its connections share.
struct Lane {
    runtime: Handle,
    open: AtomicUsize,
    /// The permit to compute a handshake.
    handshakes: Semaphore,
}

impl Lane {
    fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            open: AtomicUsize::new(0),
            handshakes: Semaphore::new(1),
        }
    }
}

impl<P: Publish> Server<P> {
    /// A server that has accepted nothing yet, and serves in these runtimes.
    pub(super) fn new(
        receiver: Arc<Receiver<P>>,
        tls: Option<Arc<Tls>>,
        runtimes: Vec<Handle>,
    ) -> Self {
        Self {
            lanes: runtimes.into_iter().map(Lane::new).collect(),
            receiver,
            tls,
            peers: Peers::default(),
            open: AtomicUsize::new(0),
            activities: Mutex::default(),
            accepted: AtomicUsize::new(0),
            ended: Notify::new(),
            leaving: AtomicBool::new(false),
            closing: CancellationToken::new(),
        }
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The thread with the fewest connections.
    fn least_loaded(&self) -> usize {
        let open = |number: &usize| self.lanes[*number].open.load(Ordering::Relaxed);
        (0..self.lanes.len()).min_by_key(open).unwrap_or_default()
    }

    /// Whether seven of eight connections are taken.
    pub(super) fn near_capacity(&self) -> bool {
        let most = self.receiver.config().limits.connections;
        self.open() > most - most / 8
    }

    /// Waits until there is room for one more, for which another one ends where there are too many.
    pub(super) async fn room(&self) {
        loop {
            let most = self.receiver.config().limits.connections;
            if self.open() >= most - reserve(most) {
                self.make_room(most);
            }
            if self.open() < most {
                return;
            }
            // Where all have requests, one may end without an end of its connection.
            let _ = tokio::time::timeout(EVICTION_POLL_INTERVAL, self.ended.notified()).await;
        }
    }

    /// Asks the idle connection whose turn it is to end, unless as many as must are ending already.
    fn make_room(&self, most: usize) {
        let (mut leaving, mut arriving, mut first) = (0, 0, None);
        let activities = self.activities.lock();
        for activity in activities.values() {
            match activity.standing() {
                Standing::Busy => {}
                Standing::Arriving => arriving += 1,
                Standing::Leaving => leaving += 1,
                Standing::Idle(rank) => {
                    if first.as_ref().is_none_or(|(least, _)| rank < *least) {
                        first = Some((rank, activity));
                    }
                }
            }
        }
        let staying = activities.len() - leaving;
        // One of those that arrive may be a stranger's, which is known in a moment.
        let first = first.filter(|(rank, _)| arriving == 0 || !rank.is_known());
        // Those that are ending may take longer than their places are kept.
        let is_due = activities.len() >= most || staying >= most - reserve(most);
        if let Some((_, activity)) = first.filter(|_| is_due) {
            activity.evict(if leaving < reserve(most) {
                Eviction::Gently
            } else {
                Eviction::AtOnce
            });
        }
    }

    /// Waits until no connection was open or made for [`QUIET`], for so long at most.
    pub(super) async fn quiet(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut since = Instant::now();
        let mut accepted = self.accepted.load(Ordering::Relaxed);
        while since.elapsed() < QUIET && Instant::now() < until {
            tokio::time::sleep(DRAIN_POLL_INTERVAL).await;
            let now = self.accepted.load(Ordering::Relaxed);
            if self.open() > 0 || now != accepted {
                since = Instant::now();
            }
            accepted = now;
        }
    }

    /// Waits until no connection is open, for so long at most.
    pub(super) async fn emptied(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.open() > 0 && Instant::now() < until {
            tokio::time::sleep(DRAIN_POLL_INTERVAL).await;
        }
    }
}

/// A connection that counts until it is dropped, however its task ends.
pub(super) struct Slot<P: Publish> {
    pub(super) server: Arc<Server<P>>,
    pub(super) activity: Arc<Activity>,
    number: usize,
    lane: usize,
}

impl<P: Publish> Slot<P> {
    /// One of the thread that has the fewest.
    pub(super) fn new(server: &Arc<Server<P>>) -> Self {
        let number = server.accepted.fetch_add(1, Ordering::Relaxed);
        server.open.fetch_add(1, Ordering::Relaxed);
        let lane = server.least_loaded();
        server.lanes[lane].open.fetch_add(1, Ordering::Relaxed);
        server.receiver.metrics().connected();
        let activity = Arc::new(Activity::new());
        let mut activities = server.activities.lock();
        activities.insert(number, Arc::clone(&activity));
        drop(activities);
        Self {
            server: Arc::clone(server),
            activity,
            number,
            lane,
        }
    }

    /// The runtime of its thread, where that is not the one that accepts.
    pub(super) fn other_runtime(&self) -> Option<Handle> {
        let lane = self.server.lanes.get(self.lane);
        lane.filter(|_| self.lane > 0)
            .map(|lane| lane.runtime.clone())
    }

    /// The permit to compute a handshake on its thread.
    pub(super) fn handshakes(&self) -> &Semaphore {
        &self.server.lanes[self.lane].handshakes
    }
}

impl<P: Publish> Drop for Slot<P> {
    fn drop(&mut self) {
        let server = &self.server;
        server.activities.lock().remove(&self.number);
        server.lanes[self.lane].open.fetch_sub(1, Ordering::Relaxed);
        server.open.fetch_sub(1, Ordering::Relaxed);
        server.receiver.metrics().disconnected();
        server.ended.notify_one();
    }
}
