//! The services, each in a slot under a supervisor: what ends is started again at once, under the same
//! name, as an orchestrator would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sluice_tests::harness::child::Signal;
use sluice_tests::harness::cluster::Cluster;
use sluice_tests::harness::metrics::{Samples, peak_memory};
use sluice_tests::harness::ports;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

/// How often the supervisor looks.
const LOOK: Duration = Duration::from_millis(50);

/// The status with which a process asks to be started again.
const RESTART: i32 = 75;

/// What a slot runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Ingest,
    Processor,
}

impl Role {
    const fn binary(self) -> &'static str {
        match self {
            Self::Ingest => "sluice-ingest",
            Self::Processor => "sluice-processor",
        }
    }

    const fn part(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Processor => "processor",
        }
    }
}

/// A place for one service process, with what it is started with.
pub struct Slot {
    pub name: String,
    pub role: Role,
    /// How often it was started.
    pub starts: Arc<AtomicU32>,
    settings: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
    listen: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    service: Option<Service>,
    /// An end is left as it is: nobody starts it again.
    held: bool,
    /// Another build's binaries; `None` runs those of this one.
    folder: Option<PathBuf>,
    /// We killed it: its end is no news.
    killed: bool,
    /// How it ended so far, and how often.
    ends: BTreeMap<String, u64>,
    /// Ends that no fault explains, in words.
    faults: Vec<String>,
    /// The most memory that any process of this slot held, in bytes.
    peak: u64,
}

impl State {
    fn note_peak(&mut self) {
        let peak = self.service.as_ref().map(Service::id).map(peak_memory);
        if let Some(Ok(peak)) = peak {
            self.peak = self.peak.max(peak);
        }
    }
}

impl Slot {
    /// A slot whose process reaches the brokers through the proxies of its name.
    pub fn new(
        name: &str,
        role: Role,
        dir: &Path,
        settings: &Value,
        cluster: &Cluster,
    ) -> Result<Self> {
        let (admin, listen) = (ports::local(ports::free()?), ports::local(ports::free()?));
        let mut settings = settings.clone();
        settings["kafka"]["bootstrap_servers"] = json!(cluster.bootstrap_of(name));
        settings[role.part()]["admin_listen"] = json!(admin);
        match role {
            Role::Ingest => settings["ingest"]["listen"] = json!(listen),
            Role::Processor => settings["processor"]["member"] = json!(name),
        }
        let file = dir.join(format!("{name}.yaml"));
        // JSON is YAML.
        std::fs::write(&file, serde_json::to_vec_pretty(&settings)?)?;
        Ok(Self {
            name: name.to_owned(),
            role,
            starts: Arc::default(),
            settings: file,
            log: dir.join(format!("{name}.log")),
            admin,
            listen,
            state: Mutex::default(),
        })
    }

    /// Where webhooks go in.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Starts it, and from then on again and again.
    pub fn start(&self) -> Result<()> {
        let mut state = self.state();
        state.held = false;
        if state.service.is_none() {
            self.start_in(&mut state)?;
        }
        Ok(())
    }

    fn start_in(&self, state: &mut State) -> Result<()> {
        let (binary, admin) = (self.role.binary(), Some(self.admin));
        let (settings, log) = (&self.settings, &self.log);
        let service = match &state.folder {
            Some(folder) => Service::start_as(&[], Some(folder), binary, settings, log, admin)?,
            None => Service::start(binary, settings, log, admin)?,
        };
        state.service = Some(service);
        state.killed = false;
        self.starts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// `kill -9`. The supervisor starts it again.
    pub fn kill(&self) -> Result<()> {
        let mut state = self.state();
        state.note_peak();
        state.killed = true;
        match &mut state.service {
            Some(service) => service.kill(),
            None => Ok(()),
        }
    }

    /// Asks it to end and waits for that; nobody starts it again. It must end with status 0.
    pub fn stop(&self) -> Result<()> {
        self.state().held = true;
        self.signal(Signal::Term)?;
        self.wait_gone()
    }

    /// From its next start on it runs the binaries of this folder; `None`: those of this build.
    pub fn run_from(&self, folder: Option<&Path>) {
        self.state().folder = folder.map(Path::to_owned);
    }

    /// How often its process ended like this.
    pub fn ends_with(&self, how: &str) -> u64 {
        self.state().ends.get(how).copied().unwrap_or(0)
    }

    /// Gives it another member's name at its next start.
    pub fn rename(&self, member: &str) -> Result<()> {
        let mut settings: Value = serde_json::from_slice(&std::fs::read(&self.settings)?)?;
        settings["processor"]["member"] = json!(member);
        Ok(std::fs::write(
            &self.settings,
            serde_json::to_vec_pretty(&settings)?,
        )?)
    }

    /// Waits until it is gone, which is for the supervisor to see.
    pub fn wait_gone(&self) -> Result<()> {
        let what = format!("the end of {}", self.name);
        wait_for(&what, PATIENCE, || {
            Ok(self.state().service.is_none().then_some(()))
        })
    }

    /// From now on nobody starts it again when it ends.
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.state().service.is_some()
    }

    /// Sends a signal; no error where nothing runs.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match &mut self.state().service {
            Some(service) => service.signal(signal),
            None => Ok(()),
        }
    }

    /// Waits until `/readyz` answers 200, whatever ends and starts meanwhile.
    pub fn wait_ready(&self, patience: Duration) -> Result<()> {
        let what = format!("{} to be ready", self.name);
        wait_for(&what, patience, || {
            // The question is asked without the lock, so that the supervisor is not kept.
            let answer = sluice_tests::harness::client::get(self.admin, "/readyz");
            Ok(answer
                .is_ok_and(|answer| answer.status == 200)
                .then_some(()))
        })
    }

    /// Its counters now.
    pub fn metrics(&self) -> Result<Samples> {
        Samples::scrape(self.admin)
    }

    /// How long its log is now; what comes later begins here.
    pub fn log_mark(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |file| file.len())
    }

    /// What it logged since.
    pub fn log_since(&self, mark: u64) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(mark).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// Waits until it has logged one of these texts since.
    pub fn wait_log(&self, mark: u64, texts: &[&str], patience: Duration) -> Result<()> {
        let what = format!("{texts:?} in the log of {}", self.name);
        wait_for(&what, patience, || {
            let log = self.log_since(mark);
            Ok(texts.iter().any(|text| log.contains(text)).then_some(()))
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether it has ended, and starts it again.
    fn look(&self) -> Result<()> {
        let mut state = self.state();
        state.note_peak();
        let Some(service) = &mut state.service else {
            return Ok(());
        };
        let Some(status) = service.ended()? else {
            return Ok(());
        };
        let how = match status.code() {
            _ if state.killed => "killed".to_owned(),
            Some(code) => code.to_string(),
            None => status.to_string(),
        };
        let explained = state.killed || matches!(status.code(), Some(0 | RESTART));
        if !explained {
            let sentence = format!("{} ended by itself: {status}", self.name);
            state.faults.push(sentence);
        }
        *state.ends.entry(how).or_default() += 1;
        state.service = None;
        if state.held {
            state.killed = false;
            return Ok(());
        }
        self.start_in(&mut state)
    }
}

/// All slots, and the thread that looks after them.
pub struct Fleet {
    slots: Vec<Arc<Slot>>,
    ending: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<Result<()>>>,
}

impl Fleet {
    /// A supervisor over these slots. Starts none.
    pub fn new(slots: Vec<Slot>) -> Self {
        let slots: Vec<Arc<Slot>> = slots.into_iter().map(Arc::new).collect();
        let ending = Arc::new(AtomicBool::new(false));
        let (watched, end) = (slots.clone(), Arc::clone(&ending));
        let supervisor = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for slot in &watched {
                    slot.look().with_context(|| slot.name.clone())?;
                }
                std::thread::sleep(LOOK);
            }
            Ok(())
        });
        Self {
            slots,
            ending,
            supervisor: Some(supervisor),
        }
    }

    /// All slots.
    pub fn slots(&self) -> &[Arc<Slot>] {
        &self.slots
    }

    /// The slots of a role, whether they run or not.
    pub fn of(&self, role: Role) -> Vec<Arc<Slot>> {
        let slots = self.slots.iter().filter(|slot| slot.role == role);
        slots.cloned().collect()
    }

    /// A slot by its name.
    pub fn slot(&self, name: &str) -> Result<Arc<Slot>> {
        let found = self.slots.iter().find(|slot| slot.name == name);
        found.cloned().with_context(|| format!("no slot {name}"))
    }

    /// An error if the supervisor has ended: a service could not be started.
    pub fn must_run(&self) -> Result<()> {
        let ended = self.supervisor.as_ref().is_none_or(JoinHandle::is_finished);
        if ended {
            bail!("the supervisor has ended: a service could not be started");
        }
        Ok(())
    }

    /// How processes ended so far, by slot.
    pub fn ends(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let slots = self.slots.iter();
        slots
            .map(|slot| (slot.name.clone(), slot.state().ends.clone()))
            .filter(|(_, ends)| !ends.is_empty())
            .collect()
    }

    /// Ends that no fault explains, and panics, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for slot in &self.slots {
            faults.extend(slot.state().faults.clone());
            let log = slot.log_since(0);
            let panics = log.lines().filter(|line| line.contains("panicked at"));
            faults.extend(panics.map(|line| format!("{}: {line}", slot.name)));
        }
        faults
    }

    /// The most memory that any process of a role held, in bytes.
    pub fn peak(&self, role: Role) -> u64 {
        let slots = self.slots.iter().filter(|slot| slot.role == role);
        slots.map(|slot| slot.state().peak).max().unwrap_or(0)
    }

    /// Stops all in order; each must end with status 0.
    pub fn stop(&self) -> Result<()> {
        for slot in &self.slots {
            slot.stop()?;
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(supervisor) = self.supervisor.take() {
            // must_run() has returned its error.
            let _ = supervisor.join();
        }
    }
}
