//! Child processes that never outlive the harness.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::harness::clock;
use crate::harness::wait::wait_for;

/// A signal that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask to end.
    Term,
    /// End at once.
    Kill,
    /// Stand still, as under a debugger or on a paused machine.
    Stop,
    /// Go on after [`Signal::Stop`].
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A running program whose output goes to a file. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    name: String,
    log: PathBuf,
}

type Order = (Command, Sender<std::io::Result<std::process::Child>>);

/// The kernel's parent-death signal comes when the *thread* that started the child ends, and threads
/// of tests end early: so one thread that never ends starts them all.
static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();

fn spawn(command: Command) -> Result<std::process::Child> {
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                // The caller is waiting; if it went away, the child goes too.
                if let Err(std::sync::mpsc::SendError(Ok(mut orphan))) =
                    answer.send(command.spawn())
                {
                    let _ = orphan.kill();
                }
            }
        });
        Mutex::new(sender)
    });
    let (answer, child) = channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| anyhow!("the spawning thread is gone"))?;
    Ok(child.recv().context("the spawning thread is gone")??)
}

impl Child {
    /// Starts `program`; standard output and error are added to the end of `log`.
    pub fn start(name: &str, program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // The terminal's Ctrl-C is for the harness, which ends its children in order.
            .process_group(0);
        let inner = spawn(command).context("cannot start setpriv (util-linux)")?;
        Ok(Self {
            inner,
            name: name.to_owned(),
            log: log.to_owned(),
        })
    }

    /// Starts `program` with a wall clock off by `offset`, such as `+600s`. Needs root, and
    /// `make faketime`.
    pub fn start_off(
        name: &str,
        program: &Path,
        arguments: &[String],
        log: &Path,
        offset: &str,
    ) -> Result<Self> {
        let (program, arguments) = clock::off(program, arguments, offset)?;
        Self::start(name, &program, &arguments, log)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Sends a signal. It is no error if the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // An ended child that was not waited for keeps its number, so this never hits a stranger.
        if self.inner.try_wait()?.is_some() {
            return Ok(());
        }
        let status = Command::new("kill")
            .args(["-s", signal.name(), &self.id().to_string()])
            .status()
            .context("cannot start kill (procps)")?;
        if !status.success() {
            bail!("cannot send SIG{} to {}", signal.name(), self.name);
        }
        Ok(())
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.inner.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let inner = &mut self.inner;
        wait_for(&what, patience, || Ok(inner.try_wait()?)).with_context(|| tail(&self.log))
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.inner.kill()?;
        self.inner.wait()?;
        Ok(())
    }

    /// An error with the end of the log, if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}\n{}", self.name, tail(&self.log)),
        }
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.kill();
    }
}

/// The last lines of a log, for an error's text.
pub fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(25);
    format!("end of {}:\n{}", log.display(), lines[from..].join("\n"))
}
