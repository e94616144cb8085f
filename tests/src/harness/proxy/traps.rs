//! Traps: a frame of a kind is waited for, and reported, held or lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::watch;

use crate::harness::wait::wait_for;

/// A kind of request, by its key in Kafka's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum Api {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    ApiVersions = 18,
    InitProducerId = 22,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    TxnOffsetCommit = 28,
    ConsumerGroupHeartbeat = 68,
}

/// Which of the two frames of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From the client to the broker.
    Request,
    /// From the broker to the client.
    Reply,
}

/// What becomes of the frame that springs a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It waits for the release, and so does everything behind it in its direction of its connection.
    Hold,
    /// It passes: the trap only reports it.
    Pass,
    /// It is dropped, and its connection is reset.
    Lose,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// The kind of request.
    pub api: Api,
    /// The request itself, or its reply.
    pub side: Side,
    /// So many frames of that kind pass first, over all connections.
    pub skip: usize,
    /// What becomes of the next.
    pub then: Then,
}

/// How often [`Sprung::wait_at_once`] looks.
const AT_ONCE: Duration = Duration::from_micros(100);

/// The traps that are set on some proxies.
#[derive(Debug, Default)]
pub struct Traps(Mutex<Vec<Set>>);

#[derive(Debug)]
struct Set {
    trap: Trap,
    progress: Arc<watch::Sender<Progress>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    sprung: bool,
    released: bool,
}

/// What the proxy is to do with a frame.
#[derive(Debug)]
pub(super) enum Verdict {
    Pass,
    Hold(Release),
    Lose,
}

/// The end of a hold.
#[derive(Debug)]
pub(super) struct Release(watch::Receiver<Progress>);

impl Release {
    /// Returns when the frame may go on.
    pub async fn wait(mut self) {
        // An error means that nobody is left who could release it.
        let _ = self.0.wait_for(|progress| progress.released).await;
    }
}

impl Traps {
    /// Sets a trap. It springs once.
    pub fn set(self: &Arc<Self>, trap: Trap) -> Sprung {
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        self.list().push(Set {
            trap,
            progress: Arc::clone(&progress),
        });
        Sprung {
            trap,
            traps: Arc::clone(self),
            progress,
        }
    }

    /// Shows a frame to all traps. The first that springs decides; the others count it only if they
    /// were set before.
    pub(super) fn judge(&self, api: i16, side: Side) -> Verdict {
        let mut list = self.list();
        let mut sprung = None;
        for (n, set) in list.iter_mut().enumerate() {
            if set.trap.api as i16 != api || set.trap.side != side {
                continue;
            }
            if set.trap.skip == 0 {
                sprung = Some(n);
                break;
            }
            set.trap.skip -= 1;
        }
        let Some(n) = sprung else {
            return Verdict::Pass;
        };
        let set = list.remove(n);
        let release = Release(set.progress.subscribe());
        set.progress.send_modify(|progress| progress.sprung = true);
        match set.trap.then {
            Then::Hold => Verdict::Hold(release),
            Then::Pass => Verdict::Pass,
            Then::Lose => Verdict::Lose,
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Set>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A trap that was set. Dropping it removes the trap and releases what it holds.
#[derive(Debug)]
pub struct Sprung {
    trap: Trap,
    traps: Arc<Traps>,
    progress: Arc<watch::Sender<Progress>>,
}

impl Sprung {
    /// Waits until it has sprung.
    pub fn wait(&self, patience: Duration) -> Result<()> {
        let Trap { api, side, .. } = self.trap;
        let what = format!("the trap on {api:?} ({side:?}) to spring");
        wait_for(&what, patience, || Ok(self.has_sprung().then_some(())))
    }

    /// The same, and returns within a fraction of a millisecond after it has sprung.
    pub fn wait_at_once(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        while !self.has_sprung() {
            if Instant::now() >= until {
                let Trap { api, side, .. } = self.trap;
                bail!("waited {patience:?} for the trap on {api:?} ({side:?}) to spring, in vain");
            }
            std::thread::sleep(AT_ONCE);
        }
        Ok(())
    }

    /// Whether it has sprung.
    pub fn has_sprung(&self) -> bool {
        self.progress.borrow().sprung
    }

    /// Lets a held frame go on. A trap that has not sprung is removed.
    pub fn release(&self) {
        // Under the lock, so that it does not spring between the two.
        let mut list = self.traps.list();
        list.retain(|set| !Arc::ptr_eq(&set.progress, &self.progress));
        self.progress
            .send_modify(|progress| progress.released = true);
    }
}

impl Drop for Sprung {
    fn drop(&mut self) {
        self.release();
    }
}
