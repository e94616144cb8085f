//! The sources' secrets: files under `secrets_dir`, read at the start and again when they change.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use sluice_schemas::identity::sha256;
use sluice_schemas::metric::processor::SECRET_RELOAD_FAILURES;
use sluice_schemas::providers::signature::Key;
use sluice_schemas::providers::{Keyring, Validity, Verifier};
use sluice_schemas::settings::{Fault, Secret, Settings, Source};

use crate::files;
use crate::metric::register;
use crate::watch::{self, ApplyError, Digest, Policy, Poll, Watched, Watching, digest_of_faults};

/// The largest secret file, in bytes: far above any key, and small enough to be read at every poll.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// How often files are polled. A change is promised to be in use within 10 s.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

static POLICY: Policy = Policy {
    settle: Duration::ZERO,
    confirm_faults: false,
    retry: Duration::ZERO,
    rejected: "the secrets cannot be read, and the last good ones stay in use: correct the files, they are \
                read again",
    restored: "the secrets can be read again",
};

/// All sources' credentials as the files are at one moment, by the source's name.
pub type Snapshot = Arc<BTreeMap<String, Arc<Keyring>>>;

/// The credentials of every source, disabled ones too, for their raw records are still judged.
#[derive(Debug)]
pub struct Store {
    secrets_dir: PathBuf,
    snapshot: ArcSwap<BTreeMap<String, Arc<Keyring>>>,
    /// The lock also keeps two readers from racing.
    sources: Mutex<Vec<(SourceFiles, Watched)>>,
    failures: Counter,
}

/// One source's files.
#[derive(Debug)]
struct SourceFiles {
    source: String,
    verifier: Arc<dyn Verifier>,
    secrets: Vec<Secret>,
    files: Vec<String>,
}

/// What a source's files hold at one moment.
struct Reading {
    keys: Vec<(Validity, Key)>,
    files: BTreeMap<String, Vec<u8>>,
    /// SHA-256 of each file's content, by name.
    digests: BTreeMap<String, Digest>,
    strays: Vec<Stray>,
}

/// What was found in a source's files, for a report.
#[derive(Debug)]
pub struct Examined {
    /// The source's name.
    pub source: String,
    /// How many files it reads.
    pub files: usize,
    /// What is wrong with them.
    pub faults: Vec<Fault>,
    /// Files with bytes around the secret, which count as part of it: a sentence each.
    pub strays: Vec<String>,
}

/// Reads the files of each source, and keeps nothing of them.
pub fn examine(settings: &Settings) -> Vec<Examined> {
    let examined = |source: &Source| {
        let files = SourceFiles::new(source);
        let (strays, faults) = match files.read(&settings.secrets_dir) {
            Ok(reading) => (reading.strays, Vec::new()),
            Err(faults) => (Vec::new(), faults),
        };
        let stray = |stray: &Stray| format!("the file {} has {}", stray.file, stray.found);
        Examined {
            source: source.name.clone(),
            files: files.secrets.len() + files.files.len(),
            faults,
            strays: strays.iter().map(stray).collect(),
        }
    };
    settings.sources.values().map(examined).collect()
}

/// A file with bytes around the secret that count as part of it, most often by mistake.
struct Stray {
    file: String,
    /// What they are, in words: never the bytes.
    found: String,
}

impl Store {
    /// Reads every file of every source. All faults are returned at once.
    pub fn load(settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut all = BTreeMap::new();
        let mut sources = Vec::new();
        let mut faults = Vec::new();
        for source in settings.sources.values() {
            let files = SourceFiles::new(source);
            match files.read(&settings.secrets_dir) {
                Ok(reading) => {
                    files.warn(&reading.strays);
                    let watched = Watched::new(&POLICY, Some(&source.name), reading.digest());
                    all.insert(source.name.clone(), Arc::new(reading.keyring()));
                    sources.push((files, watched));
                }
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            secrets_dir: settings.secrets_dir.clone(),
            snapshot: ArcSwap::from_pointee(all),
            sources: Mutex::new(sources),
            failures: Counter::default(),
        })
    }

    /// The store of new settings, with the same counter. All secrets are read again and must be good, those
    /// of sources that did not change too: which of them changed with their options is not known here.
    pub fn renewed(&self, settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut store = Self::load(settings)?;
        store.failures = self.failures.clone();
        Ok(store)
    }

    /// The credentials of a source now. Cheap.
    pub fn get(&self, source: &str) -> Option<Arc<Keyring>> {
        self.snapshot.load().get(source).cloned()
    }

    /// All credentials now. Cheap; later changes make a new snapshot and leave this one alone.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.load_full()
    }

    /// Registers the counter [`SECRET_RELOAD_FAILURES`].
    pub fn register(&self, registry: &mut Registry) {
        register(registry, SECRET_RELOAD_FAILURES, self.failures.clone());
    }

    /// The counter of [`SECRET_RELOAD_FAILURES`].
    pub fn failures(&self) -> Counter {
        self.failures.clone()
    }

    /// Polls all files. A source whose files are not all good keeps its last good credentials whole.
    pub fn reload(&self) {
        let now = Instant::now();
        let mut after = None;
        for (files, watched) in self.sources.lock().iter_mut() {
            let reading = files.read(&self.secrets_dir);
            let digest = match &reading {
                Ok(reading) => reading.digest(),
                Err(faults) => digest_of_faults(faults),
            };
            let outcome = watched.poll(digest, now, &self.failures, || {
                reading.map_err(ApplyError::Faults)
            });
            if let Poll::Applied(reading) = outcome {
                tracing::info!(source = files.source, "the secrets changed");
                files.warn(&reading.strays);
                after
                    .get_or_insert_with(|| BTreeMap::clone(&self.snapshot.load()))
                    .insert(files.source.clone(), Arc::new(reading.keyring()));
            }
        }
        if let Some(after) = after {
            self.snapshot.store(Arc::new(after));
        }
    }
}

/// Polls the files of the store in force every [`POLL_INTERVAL`], on a thread that ends with the returned
/// value.
pub fn spawn_reload(in_force: impl Fn() -> Arc<Store> + Send + 'static) -> Watching {
    let (thread, watching) = watch::thread();
    thread.start("secrets", POLL_INTERVAL, move || {
        in_force().reload();
        POLL_INTERVAL
    });
    watching
}

impl SourceFiles {
    fn new(source: &Source) -> Self {
        Self {
            source: source.name.clone(),
            verifier: Arc::clone(&source.verifier),
            secrets: source.secrets.clone(),
            files: source.verifier.files().to_vec(),
        }
    }

    /// Logs bytes around a secret. They may be right, so they are no fault; if they are wrong, every request
    /// is a mismatch.
    fn warn(&self, strays: &[Stray]) {
        for Stray { file, found } in strays {
            tracing::warn!(
                source = self.source,
                file,
                found,
                "a secret file has bytes around the secret, which count as part of it"
            );
        }
    }

    fn read(&self, dir: &Path) -> Result<Reading, Vec<Fault>> {
        let mut reading = Reading {
            keys: Vec::new(),
            files: BTreeMap::new(),
            digests: BTreeMap::new(),
            strays: Vec::new(),
        };
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: String| {
            faults.push(Fault {
                path: format!("sources.{}.{key}", self.source),
                message,
            });
        };
        for secret in &self.secrets {
            match reading.file(dir, &secret.file, |content| self.verifier.key(content)) {
                Ok((_, mut key)) => {
                    key.name.clone_from(&secret.key_id);
                    reading.keys.push((secret.validity, key));
                }
                Err(message) => fault("secrets", message),
            }
        }
        for name in &self.files {
            match reading.file(dir, name, |content| self.verifier.check_file(content)) {
                Ok((content, ())) => {
                    reading.files.insert(name.clone(), content);
                }
                Err(message) => fault("options", message),
            }
        }
        if faults.is_empty() {
            Ok(reading)
        } else {
            Err(faults)
        }
    }
}

impl Reading {
    fn keyring(&self) -> Keyring {
        Keyring::new(&self.keys, &self.files)
    }

    /// The digest of all files. The content itself is not kept for it, so that it cannot be printed.
    fn digest(&self) -> Digest {
        let mut all = Vec::new();
        for (name, digest) in &self.digests {
            all.extend(sha256(name.as_bytes()));
            all.extend(digest);
        }
        sha256(&all)
    }

    /// Reads one file and what it means. An error is one sentence that does not show the content.
    fn file<T>(
        &mut self,
        dir: &Path,
        name: &str,
        meaning: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<(Vec<u8>, T), String> {
        let content = read_secret(dir, name)?;
        let stray = strays(&content);
        let meaning = meaning(&content).map_err(|reason| match &stray {
            Some(found) => format!("the file {name}: {reason} (the file has {found})"),
            None => format!("the file {name}: {reason}"),
        })?;
        self.digests.insert(name.to_owned(), sha256(&content));
        self.strays.extend(stray.map(|found| Stray {
            file: name.to_owned(),
            found,
        }));
        Ok((content, meaning))
    }
}

/// What is around a secret, once the line end behind it is taken off: bytes that editors and shells add and
/// that are not visible.
pub fn strays(content: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let text = content.strip_prefix(MARK).unwrap_or(content);
    let (before, rest) = text.split_at(text.len() - text.trim_ascii_start().len());
    let behind = &rest[rest.trim_ascii_end().len()..];
    let is_line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let is_blank = |byte: &u8| !is_line_end(byte);
    let found: Vec<&str> = [
        (text.len() < content.len(), "a byte order mark before it"),
        (before.iter().any(is_blank), "a blank before it"),
        (before.iter().any(is_line_end), "a line end before it"),
        (behind.iter().any(is_blank), "a blank behind it"),
        (behind.iter().any(is_line_end), "another line end behind it"),
    ]
    .into_iter()
    .filter_map(|(is_there, what)| is_there.then_some(what))
    .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Reads a file under `dir` with one trailing LF or CRLF taken off. An error is one sentence that
/// names the file and never shows its content.
pub fn read_secret(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    let mut content = files::read(&dir.join(name), MAX_SECRET_BYTES).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotFound => "is not there".to_owned(),
            ErrorKind::PermissionDenied => "may not be read".to_owned(),
            ErrorKind::FileTooLarge => format!("is over {MAX_SECRET_BYTES} bytes"),
            _ => format!("cannot be read: {error}"),
        };
        format!("the file {name} {message}")
    })?;
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    if content.is_empty() {
        return Err(format!("the file {name} is empty"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
