//! The settings file while the process runs: looked at again and again, and in force when it is good.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use sluice_schemas::identity::sha256;
use sluice_schemas::metric::{SETTINGS_IN_FORCE, SETTINGS_RELOAD_FAILURES};
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::{Change, Part, Settings};

use crate::metric::register;

/// How often the file is looked at. With [`SETTLE`], a change is in force within 2 s.
pub const LOOK: Duration = Duration::from_secs(1);

/// For how long a changed file must stay the same before it is read: half of a file that somebody is
/// writing may be good settings too, with half of the sources.
pub const SETTLE: Duration = Duration::from_millis(500);

/// How often a file that was refused is tried again: its fault may be mended elsewhere, such as a
/// secret that comes after it.
pub const AGAIN: Duration = Duration::from_secs(10);

/// For how long records of a source that is not known are held back while Kafka or the registry cannot
/// say whether its topics are there. Others wait behind them.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why new settings are not put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// They are at fault, and a person must look.
    Faults(Vec<Fault>),
    /// Somebody who must be asked does not answer.
    Later(String),
}

/// What is told of the settings file.
#[derive(Debug, Clone, Default)]
struct Metrics {
    failures: Counter,
    in_force: Gauge,
}

/// What others may ask about the file, between the looks of its [`Watcher`].
#[derive(Debug)]
pub struct Outlook {
    path: PathBuf,
    judged: Arc<Mutex<[u8; 32]>>,
    poke: SyncSender<()>,
}

impl Outlook {
    /// Whether the file says what is neither in force nor refused yet. Then it is looked at at once.
    /// Reads the file.
    pub fn has_news(&self) -> bool {
        let digest = digest(&crate::settings::read(&self.path));
        let news = digest != *self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if news {
            // Full means that it was asked to already.
            let _ = self.poke.try_send(());
        }
        news
    }
}

/// Looks at the settings file. What it finds good is handed on, and in force when that succeeds.
#[derive(Debug)]
pub struct Watcher {
    part: Part,
    in_force: Arc<Settings>,
    /// The digest of the last content that is in force or was refused.
    judged: Arc<Mutex<[u8; 32]>>,
    /// A content that is not judged yet, and since when it is there.
    found: Option<([u8; 32], Instant)>,
    refused: Option<Refusal>,
    /// Since when somebody who must be asked does not answer.
    unanswered: Option<Instant>,
    pokes: Receiver<()>,
    metrics: Metrics,
}

/// The content that was judged last is not in force.
#[derive(Debug)]
struct Refusal {
    told: Vec<Fault>,
    again: Instant,
}

impl Watcher {
    /// Watches the file that the settings in force came from. It ends with the [`Outlook`].
    pub fn new(in_force: Arc<Settings>, part: Part, registry: &mut Registry) -> (Self, Outlook) {
        let metrics = Metrics::default();
        metrics.in_force.set(1);
        register(registry, SETTINGS_RELOAD_FAILURES, metrics.failures.clone());
        register(registry, SETTINGS_IN_FORCE, metrics.in_force.clone());
        let judged = Arc::new(Mutex::new(in_force.origin.digest));
        let (poke, pokes) = sync_channel(1);
        let outlook = Outlook {
            path: in_force.origin.path.clone(),
            judged: Arc::clone(&judged),
            poke,
        };
        let watcher = Self {
            part,
            in_force,
            judged,
            found: None,
            refused: None,
            unanswered: None,
            pokes,
            metrics,
        };
        (watcher, outlook)
    }

    /// Watches on a thread of its own until the [`Outlook`] is dropped. `apply` puts settings in force,
    /// whole or not at all; it may block.
    pub fn spawn(
        mut self,
        mut apply: impl FnMut(&Arc<Settings>) -> Result<(), Refused> + Send + 'static,
    ) {
        let watch = move || {
            let mut wait = LOOK;
            while self.pokes.recv_timeout(wait) != Err(RecvTimeoutError::Disconnected) {
                wait = self.look(Instant::now(), &mut apply);
            }
        };
        let thread = std::thread::Builder::new().name("settings".to_owned());
        if let Err(error) = thread.spawn(watch) {
            tracing::error!(%error, "no thread for the settings: changes to them are not seen");
        }
    }

    /// One look, by the path, so that a directory swapped by symlink is seen; the wait until the next.
    fn look(
        &mut self,
        now: Instant,
        apply: &mut impl FnMut(&Arc<Settings>) -> Result<(), Refused>,
    ) -> Duration {
        let content = crate::settings::read(&self.in_force.origin.path);
        let digest = digest(&content);
        if digest == *self.judged.lock().unwrap_or_else(PoisonError::into_inner) {
            self.found = None;
            if self.refused.as_ref().is_none_or(|one| now < one.again) {
                return LOOK;
            }
        } else {
            match self.found {
                Some((found, since)) if found == digest => {
                    let stood = now.saturating_duration_since(since);
                    if stood < SETTLE {
                        return SETTLE.saturating_sub(stood);
                    }
                }
                _ => {
                    self.found = Some((digest, now));
                    self.unanswered = None;
                    return SETTLE;
                }
            }
        }
        let outcome = self.judge(content, apply);
        if self.note(outcome, now) {
            // After what it says is in force: whoever finds no news then finds all of it.
            *self.judged.lock().unwrap_or_else(PoisonError::into_inner) = digest;
        }
        LOOK
    }

    /// What a content comes to: the paths that wait for a restart, where it is in force.
    fn judge(
        &mut self,
        content: Result<Vec<u8>, Vec<Fault>>,
        apply: &mut impl FnMut(&Arc<Settings>) -> Result<(), Refused>,
    ) -> Result<Vec<String>, Refused> {
        let change = content
            .and_then(|bytes| crate::settings::parse(&self.in_force.origin.path, &bytes))
            .and_then(|new| self.in_force.change_to(new, self.part));
        let Change { settings, waiting } = change.map_err(Refused::Faults)?;
        let settings = Arc::new(settings);
        apply(&settings)?;
        self.in_force = settings;
        Ok(waiting)
    }

    /// Tells what came of it; whether the content counts as judged.
    fn note(&mut self, outcome: Result<Vec<String>, Refused>, now: Instant) -> bool {
        match outcome {
            Ok(waiting) => {
                self.refused = None;
                self.unanswered = None;
                self.metrics.in_force.set(i64::from(waiting.is_empty()));
                tracing::info!(
                    sources = self.in_force.sources.len(),
                    "the settings file changed and is in force"
                );
                if !waiting.is_empty() {
                    let paths = waiting.join(", ");
                    tracing::warn!(paths, "these settings changed and wait for a restart");
                }
                true
            }
            Err(Refused::Faults(faults)) => {
                self.metrics.failures.inc();
                self.metrics.in_force.set(0);
                self.unanswered = None;
                let before = self.refused.take();
                if before.is_none_or(|before| before.told != faults) {
                    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    tracing::error!(
                        faults = lines.join("; "),
                        "the settings file is not good, the settings stay as they were"
                    );
                }
                self.refused = Some(Refusal {
                    told: faults,
                    again: now + AGAIN,
                });
                true
            }
            Err(Refused::Later(why)) => {
                self.metrics.in_force.set(0);
                if self.unanswered.is_none() {
                    tracing::warn!(why, "the new settings cannot be verified yet");
                }
                let since = *self.unanswered.get_or_insert(now);
                let told = self.refused.take().map_or(Vec::new(), |before| before.told);
                self.refused = Some(Refusal {
                    told,
                    again: now + LOOK,
                });
                now.saturating_duration_since(since) >= PATIENCE
            }
        }
    }
}

/// A file that cannot be read has a digest too: that is a change as well.
fn digest(content: &Result<Vec<u8>, Vec<Fault>>) -> [u8; 32] {
    match content {
        Ok(bytes) => sha256(bytes),
        Err(faults) => sha256(format!("{faults:?}").as_bytes()),
    }
}

#[cfg(test)]
mod tests;
