//! Files that are watched by their content while the process runs.
//!
//! The settings file, the secrets and the certificate have one machine. Its user reads the files by their
//! paths, so that a directory swapped by symlink is seen, and hashes what they hold. [`Watched`] decides when
//! a content is tried, counts the failures and logs a fault once. The user keeps the last good value.

use std::fmt::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use sluice_schemas::identity::sha256;
use sluice_schemas::settings::Fault;

/// SHA-256 of the content of all files that are watched together.
pub type Digest = [u8; 32];

/// When a content is tried, and what is logged of it.
#[derive(Debug)]
pub struct Policy {
    /// How long a changed content must stay the same before it is tried.
    pub settle: Duration,
    /// Whether the first fault counts only when the next poll finds the same content: files that are replaced
    /// one by one do not fit together for a moment.
    pub confirm_faults: bool,
    /// The pause before a content with a fault is tried again.
    pub retry: Duration,
    /// The ERROR for a content with a fault.
    pub rejected: &'static str,
    /// The INFO when the files hold again what is in use.
    pub restored: &'static str,
}

/// Why a new content is not in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// It has faults: operator action required.
    Faults(Vec<Fault>),
    /// A system that it needs does not answer, so it is tried again.
    Unavailable(String),
}

/// What a poll came to.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Poll<T> {
    /// The content is in use, or its fault is known and not tried again yet.
    Unchanged,
    /// The content is in use, after another that was not.
    Restored,
    /// The content is new. It is tried when it has stayed the same for so much longer.
    Settling(Duration),
    /// The content is in use from now on.
    Applied(T),
    /// The content has faults, which are counted and logged.
    Rejected,
    /// The content could not be tried to the end. It is tried again at the next poll.
    Unavailable(String),
}

/// Files that are watched together.
#[derive(Debug)]
pub struct Watched {
    policy: &'static Policy,
    /// The source that the files belong to, for the log.
    source: Option<String>,
    in_use: Digest,
    /// The content that was found last and is neither in use nor rejected, and since when it is there.
    changed: Option<(Digest, Instant)>,
    /// The content that was rejected last, and when it is tried again.
    rejected: Option<(Digest, Instant)>,
    /// Whether another content than the one in use was found and not applied.
    differs: bool,
    /// The faults that were logged last.
    reported: Vec<Fault>,
}

impl Watched {
    /// Watches files that hold what is in use.
    pub fn new(policy: &'static Policy, source: Option<&str>, in_use: Digest) -> Self {
        Self {
            policy,
            source: source.map(str::to_owned),
            in_use,
            changed: None,
            rejected: None,
            differs: false,
            reported: Vec::new(),
        }
    }

    /// One poll that found this content. `apply` puts it in use, whole or not at all.
    pub fn poll<T>(
        &mut self,
        content: Digest,
        now: Instant,
        failures: &Counter,
        apply: impl FnOnce() -> Result<T, ApplyError>,
    ) -> Poll<T> {
        if content == self.in_use {
            return self.restored();
        }
        let mut is_new = false;
        match self.rejected {
            Some((rejected, retry_at)) if rejected == content => {
                self.changed = None;
                if now < retry_at {
                    return Poll::Unchanged;
                }
            }
            _ => {
                let known = self.changed.filter(|(known, _)| *known == content);
                is_new = known.is_none();
                let (_, since) = *self.changed.insert(known.unwrap_or((content, now)));
                let settled = now.saturating_duration_since(since);
                if settled < self.policy.settle {
                    return Poll::Settling(self.policy.settle.saturating_sub(settled));
                }
            }
        }
        match apply() {
            Ok(value) => {
                self.in_use = content;
                self.clear();
                Poll::Applied(value)
            }
            Err(ApplyError::Unavailable(error)) => {
                self.differs = true;
                Poll::Unavailable(error)
            }
            Err(ApplyError::Faults(_))
                if self.policy.confirm_faults && is_new && self.rejected.is_none() =>
            {
                Poll::Unchanged
            }
            Err(ApplyError::Faults(faults)) => {
                failures.inc();
                self.differs = true;
                self.changed = None;
                self.rejected = Some((content, now + self.policy.retry));
                self.report(faults);
                Poll::Rejected
            }
        }
    }

    fn restored<T>(&mut self) -> Poll<T> {
        let differed = self.differs;
        self.clear();
        if !differed {
            return Poll::Unchanged;
        }
        tracing::info!(source = self.source, "{}", self.policy.restored);
        Poll::Restored
    }

    fn clear(&mut self) {
        (self.changed, self.rejected, self.differs) = (None, None, false);
        self.reported.clear();
    }

    /// Logs faults that are not those that were logged last.
    fn report(&mut self, faults: Vec<Fault>) {
        if faults != self.reported {
            let error = joined(&faults);
            tracing::error!(source = self.source, error, "{}", self.policy.rejected);
        }
        self.reported = faults;
    }
}

/// The digest of files of which some cannot be read: that is a change too.
pub fn digest_of_faults(faults: &[Fault]) -> Digest {
    sha256(joined(faults).as_bytes())
}

/// Faults in one line.
fn joined(faults: &[Fault]) -> String {
    let mut line = String::new();
    for fault in faults {
        let separator = if line.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(line, "{separator}{fault}");
    }
    line
}

/// Keeps the thread of a watcher alive: it ends when this is dropped.
#[derive(Debug)]
pub struct Watching(SyncSender<()>);

impl Watching {
    /// Makes the next poll happen now.
    pub fn poll_now(&self) {
        // A full channel means that a poll is due already.
        let _ = self.0.try_send(());
    }
}

/// The thread of a watcher, before it is started.
#[derive(Debug)]
pub struct Thread(Receiver<()>);

/// A thread that polls, and what keeps it alive.
pub fn thread() -> (Thread, Watching) {
    let (wake, wakes) = sync_channel(1);
    (Thread(wakes), Watching(wake))
}

impl Thread {
    /// Starts to poll after `wait`. Each poll returns the wait until the next.
    pub fn start(
        self,
        name: &str,
        mut wait: Duration,
        mut poll: impl FnMut() -> Duration + Send + 'static,
    ) {
        let watch = move || {
            while self.0.recv_timeout(wait) != Err(RecvTimeoutError::Disconnected) {
                wait = poll();
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        if let Err(error) = thread.spawn(watch) {
            tracing::error!(
                %error,
                files = name,
                "no thread could be started to watch files: their changes wait for a restart"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static POLICY: Policy = Policy {
        settle: Duration::ZERO,
        confirm_faults: true,
        retry: Duration::ZERO,
        rejected: "rejected",
        restored: "restored",
    };

    fn fault() -> Result<(), ApplyError> {
        Err(ApplyError::Faults(vec![Fault {
            path: "a".to_owned(),
            message: "b".to_owned(),
        }]))
    }

    #[test]
    fn the_first_fault_counts_when_it_is_found_twice() {
        let (failures, now) = (Counter::default(), Instant::now());
        let mut watched = Watched::new(&POLICY, None, [0; 32]);
        assert_eq!(
            watched.poll([1; 32], now, &failures, fault),
            Poll::Unchanged
        );
        assert_eq!(
            watched.poll([2; 32], now, &failures, fault),
            Poll::Unchanged
        );
        assert_eq!(
            watched.poll([0; 32], now, &failures, fault),
            Poll::Unchanged
        );
        assert_eq!(failures.get(), 0);
        assert_eq!(
            watched.poll([2; 32], now, &failures, fault),
            Poll::Unchanged
        );
        assert_eq!(watched.poll([2; 32], now, &failures, fault), Poll::Rejected);
        // From there each poll without a good content counts, until one is found.
        assert_eq!(watched.poll([3; 32], now, &failures, fault), Poll::Rejected);
        assert_eq!(watched.poll([0; 32], now, &failures, fault), Poll::Restored);
        assert_eq!(failures.get(), 2);
        let good = watched.poll([4; 32], now, &failures, || Ok(7));
        assert_eq!(good, Poll::Applied(7));
        assert_eq!(
            watched.poll([4; 32], now, &failures, fault),
            Poll::Unchanged
        );
    }
}
