//! The sources' secrets: files under `secrets_dir`, read at the start and again when they change.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use sluice_schemas::identity::sha256;
use sluice_schemas::metric::SECRET_RELOAD_FAILURES;
use sluice_schemas::providers::{Credentials, Verifier};
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::{Settings, Source};

use crate::metric::register;

/// The largest secret file, in bytes: far above any key, far below what hurts to read every time.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// How often files are looked at again. A change is promised to be seen within 10 s.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// What all sources' credentials were at one moment, by the source's name.
pub type Snapshot = Arc<BTreeMap<String, Arc<Credentials>>>;

/// The credentials of every source, disabled ones too, for their raw records are still judged.
#[derive(Debug)]
pub struct Store {
    secrets_dir: PathBuf,
    snapshot: RwLock<Snapshot>,
    /// What reading again needs; also keeps two readers from racing.
    watched: Mutex<Vec<Watched>>,
    failures: Counter,
}

/// One source's files.
#[derive(Debug)]
struct Watched {
    source: String,
    verifier: Arc<dyn Verifier>,
    secrets: Vec<String>,
    files: Vec<String>,
    /// SHA-256 of each file's content when it was last good, by name. The content itself is not kept
    /// here, so that it cannot be printed.
    seen: BTreeMap<String, [u8; 32]>,
    failing: bool,
}

/// What a source's files hold at one moment.
struct Reading {
    credentials: Credentials,
    /// The hashes of the files, by name.
    seen: BTreeMap<String, [u8; 32]>,
    strays: Vec<Stray>,
}

/// A file with bytes around the secret that count as part of it, and that nobody meant to be there.
struct Stray {
    file: String,
    /// What they are, in words: never the bytes.
    found: String,
}

impl Store {
    /// Reads every file of every source. All faults are told at once.
    pub fn load(settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut all = BTreeMap::new();
        let mut watched = Vec::new();
        let mut faults = Vec::new();
        for source in settings.sources.values() {
            let mut one = Watched::new(source);
            match one.read(&settings.secrets_dir) {
                Ok(reading) => {
                    one.warn(&reading.strays);
                    all.insert(one.source.clone(), Arc::new(reading.credentials));
                    one.seen = reading.seen;
                    watched.push(one);
                }
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            secrets_dir: settings.secrets_dir.clone(),
            snapshot: RwLock::new(Arc::new(all)),
            watched: Mutex::new(watched),
            failures: Counter::default(),
        })
    }

    /// The store of new settings, which counts on. All secrets must be good anew, those of sources that
    /// did not change too: which of them changed with their options is not known here.
    pub fn renewed(&self, settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut store = Self::load(settings)?;
        store.failures = self.failures.clone();
        Ok(store)
    }

    /// The credentials of a source now. Cheap.
    pub fn get(&self, source: &str) -> Option<Arc<Credentials>> {
        self.snapshot().get(source).cloned()
    }

    /// All credentials now. Cheap; later changes make a new snapshot and leave this one alone.
    pub fn snapshot(&self) -> Snapshot {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers the counter [`SECRET_RELOAD_FAILURES`].
    pub fn register(&self, registry: &mut Registry) {
        register(registry, SECRET_RELOAD_FAILURES, self.failures.clone());
    }

    /// Reads all files again, always by their path, so that a directory swapped by symlink is seen.
    /// A source whose files are not all good keeps its last good credentials whole.
    pub fn reload(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot();
        let mut after = None;
        for one in watched.iter_mut() {
            match one.read(&self.secrets_dir) {
                Ok(reading) => {
                    if one.failing {
                        tracing::info!(source = one.source, "the secrets can be read again");
                        one.failing = false;
                    }
                    if reading.seen != one.seen {
                        tracing::info!(source = one.source, "the secrets changed");
                        one.warn(&reading.strays);
                        after
                            .get_or_insert_with(|| BTreeMap::clone(&before))
                            .insert(one.source.clone(), Arc::new(reading.credentials));
                        one.seen = reading.seen;
                    }
                }
                Err(faults) => {
                    self.failures.inc();
                    if !one.failing {
                        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                        tracing::error!(
                            source = one.source,
                            faults = faults.join("; "),
                            "the secrets cannot be read, the last good ones stay"
                        );
                        one.failing = true;
                    }
                }
            }
        }
        if let Some(after) = after {
            *self
                .snapshot
                .write()
                .unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        }
    }
}

/// Calls [`Store::reload`] of the store in force every [`RELOAD_INTERVAL`] on a thread of its own, for
/// as long as the process lives.
pub fn spawn_reload(in_force: impl Fn() -> Arc<Store> + Send + 'static) {
    let reload = move || {
        loop {
            std::thread::sleep(RELOAD_INTERVAL);
            in_force().reload();
        }
    };
    let thread = std::thread::Builder::new().name("secrets".to_owned());
    if let Err(error) = thread.spawn(reload) {
        tracing::error!(%error, "no thread for the secrets: changes to them are not seen");
    }
}

impl Watched {
    fn new(source: &Source) -> Self {
        Self {
            source: source.name.clone(),
            verifier: Arc::clone(&source.verifier),
            secrets: source.secrets.clone(),
            files: source.verifier.files().to_vec(),
            seen: BTreeMap::new(),
            failing: false,
        }
    }

    /// Such a secret may be right, so it is no fault; if it is wrong, every request is a mismatch.
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
            credentials: Credentials::default(),
            seen: BTreeMap::new(),
            strays: Vec::new(),
        };
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: String| {
            faults.push(Fault {
                path: format!("sources.{}.{key}", self.source),
                message,
            });
        };
        for name in &self.secrets {
            match reading.file(dir, name, |content| self.verifier.key(content)) {
                Ok((_, mut key)) => {
                    key.name.clone_from(name);
                    reading.credentials.keys.push(key);
                }
                Err(message) => fault("secrets", message),
            }
        }
        for name in &self.files {
            match reading.file(dir, name, |content| self.verifier.check_file(content)) {
                Ok((content, ())) => {
                    reading.credentials.files.insert(name.clone(), content);
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
        self.seen.insert(name.to_owned(), sha256(&content));
        self.strays.extend(stray.map(|found| Stray {
            file: name.to_owned(),
            found,
        }));
        Ok((content, meaning))
    }
}

/// What stands around a secret, once the line end behind it is taken off: what editors and shells add
/// and nobody sees.
fn strays(content: &[u8]) -> Option<String> {
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
    let mut content = Vec::new();
    let read = std::fs::File::open(dir.join(name))
        .and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut content));
    if let Err(error) = read {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "is not there".to_owned(),
            io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        return Err(format!("the file {name} {why}"));
    }
    if content.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!("the file {name} is over {MAX_SECRET_BYTES} bytes"));
    }
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
