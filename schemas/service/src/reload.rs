//! The settings file while the process runs: polled, and in force when it is good.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use sluice_schemas::identity::sha256;
use sluice_schemas::metric::service::{SETTINGS_IN_FORCE, SETTINGS_RELOAD_FAILURES};
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::{Change, Part, Settings};

use crate::metric::register;
pub use crate::watch::ApplyError;
use crate::watch::{self, Digest, Policy, Poll, Thread, Watched, Watching, digest_of_faults};

/// How often the file is polled. With [`SETTLE`], a change is in force within 2 s.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a changed file must stay the same before it is read: half of a file that is being written may be
/// good settings too, with half of the sources.
pub const SETTLE: Duration = Duration::from_millis(500);

/// How often a file with a fault is tried again: the fault may be corrected elsewhere, such as a secret that
/// comes after the file.
pub const RETRY_DELAY: Duration = Duration::from_secs(10);

/// How long an unknown source blocks its partition while Kafka or the registry is unreachable.
pub const UNKNOWN_SOURCE_TIMEOUT: Duration = Duration::from_secs(30);

static POLICY: Policy = Policy {
    settle: SETTLE,
    confirm_faults: false,
    retry: RETRY_DELAY,
    rejected: "the settings file has faults, and the settings stay as they were: correct the file, it is read \
               again",
    restored: "the settings file holds the settings in force again",
};

/// The metrics of the settings file.
#[derive(Debug, Clone, Default)]
struct Metrics {
    failures: Counter,
    in_force: Gauge,
}

/// What other threads may ask about the file between two polls of its [`Watcher`].
#[derive(Debug)]
pub struct SettingsProbe {
    path: PathBuf,
    judged: Arc<Mutex<Digest>>,
    watching: Watching,
}

impl SettingsProbe {
    /// Whether the file holds a content that is neither in force nor rejected yet. If so, it is polled at
    /// once. Reads the file.
    pub fn has_pending_change(&self) -> bool {
        let is_pending = digest(&crate::settings::read(&self.path)) != *self.judged.lock();
        if is_pending {
            self.watching.poll_now();
        }
        is_pending
    }
}

/// Polls the settings file. Good settings are handed to the service, and are in force when it took them.
#[derive(Debug)]
pub struct Watcher {
    file: SettingsFile,
    thread: Thread,
}

/// The file, and what became of its content.
#[derive(Debug)]
struct SettingsFile {
    part: Part,
    in_force: Arc<Settings>,
    /// Whether all of the settings in force is in force, and nothing waits for a restart.
    is_whole: bool,
    watched: Watched,
    /// The digest of the last content that is in force or was rejected.
    judged: Arc<Mutex<Digest>>,
    /// A content that could not be verified, and since when.
    unavailable: Option<(Digest, Instant)>,
    metrics: Metrics,
}

impl Watcher {
    /// Watches the file that the settings in force came from, until the [`SettingsProbe`] is dropped.
    pub fn new(
        in_force: Arc<Settings>,
        part: Part,
        registry: &mut Registry,
    ) -> (Self, SettingsProbe) {
        let metrics = Metrics::default();
        metrics.in_force.set(1);
        register(registry, SETTINGS_RELOAD_FAILURES, metrics.failures.clone());
        register(registry, SETTINGS_IN_FORCE, metrics.in_force.clone());
        let digest = in_force.origin.digest;
        let judged = Arc::new(Mutex::new(digest));
        let (thread, watching) = watch::thread();
        let probe = SettingsProbe {
            path: in_force.origin.path.clone(),
            judged: Arc::clone(&judged),
            watching,
        };
        let file = SettingsFile {
            part,
            in_force,
            is_whole: true,
            watched: Watched::new(&POLICY, None, digest),
            judged,
            unavailable: None,
            metrics,
        };
        (Self { file, thread }, probe)
    }

    /// The counter of [`SETTINGS_RELOAD_FAILURES`].
    pub fn failures(&self) -> Counter {
        self.file.metrics.failures.clone()
    }

    /// Watches on a thread of its own until the [`SettingsProbe`] is dropped. `apply` puts settings in force,
    /// whole or not at all; it may block.
    pub fn spawn(
        self,
        mut apply: impl FnMut(&Arc<Settings>) -> Result<(), ApplyError> + Send + 'static,
    ) {
        let Self { mut file, thread } = self;
        thread.start("settings", POLL_INTERVAL, move || {
            file.poll(Instant::now(), &mut apply)
        });
    }
}

impl SettingsFile {
    /// One poll; the wait until the next.
    fn poll(
        &mut self,
        now: Instant,
        apply: &mut impl FnMut(&Arc<Settings>) -> Result<(), ApplyError>,
    ) -> Duration {
        let content = crate::settings::read(&self.in_force.origin.path);
        let digest = digest(&content);
        let (in_force, part) = (&self.in_force, self.part);
        let failures = &self.metrics.failures;
        let outcome = self.watched.poll(digest, now, failures, || {
            let change = content
                .and_then(|bytes| crate::settings::parse(&in_force.origin.path, &bytes))
                .and_then(|new| in_force.change_to(new, part));
            let Change { settings, waiting } = change.map_err(ApplyError::Faults)?;
            let settings = Arc::new(settings);
            apply(&settings)?;
            Ok((settings, waiting))
        });
        match outcome {
            Poll::Unchanged => {}
            Poll::Settling(wait) => return wait,
            Poll::Restored => {
                self.unavailable = None;
                self.metrics.in_force.set(i64::from(self.is_whole));
            }
            Poll::Applied((settings, waiting)) => self.applied(settings, &waiting),
            Poll::Rejected => {
                self.unavailable = None;
                self.metrics.in_force.set(0);
            }
            Poll::Unavailable(error) => {
                if self.unavailable(digest, now, &error) < UNKNOWN_SOURCE_TIMEOUT {
                    return POLL_INTERVAL;
                }
            }
        }
        // After the settings are in force: a probe that finds no pending change then finds all of them.
        *self.judged.lock() = digest;
        POLL_INTERVAL
    }

    fn applied(&mut self, settings: Arc<Settings>, waiting: &[String]) {
        self.in_force = settings;
        self.unavailable = None;
        self.is_whole = waiting.is_empty();
        self.metrics.in_force.set(i64::from(self.is_whole));
        tracing::info!(
            sources = self.in_force.sources.len(),
            "the settings file changed and is in force"
        );
        log_warnings(&self.in_force, self.part);
        if !waiting.is_empty() {
            let paths = waiting.join(", ");
            tracing::warn!(paths, "these settings changed and wait for a restart");
        }
    }

    /// For how long this content could not be verified.
    fn unavailable(&mut self, content: Digest, now: Instant, error: &str) -> Duration {
        self.metrics.in_force.set(0);
        let known = self.unavailable.filter(|(known, _)| *known == content);
        if known.is_none() {
            tracing::warn!(
                error,
                "the new settings cannot be verified yet: they are tried again every second"
            );
        }
        let (_, since) = *self.unavailable.insert(known.unwrap_or((content, now)));
        now.saturating_duration_since(since)
    }
}

/// Logs what the settings leave open.
pub(crate) fn log_warnings(settings: &Settings, part: Part) {
    for warning in settings.warnings(part) {
        tracing::warn!(
            setting = warning.path,
            open = warning.message,
            mend = warning.mend,
            "a setting leaves something open"
        );
    }
}

/// A file that cannot be read has a digest too: that is a change as well.
fn digest(content: &Result<Vec<u8>, Vec<Fault>>) -> Digest {
    match content {
        Ok(bytes) => sha256(bytes),
        Err(faults) => digest_of_faults(faults),
    }
}

#[cfg(test)]
mod tests;
