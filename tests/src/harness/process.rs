//! The real binaries, as processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::harness::child::{Child, Signal, tail};
use crate::harness::client;
use crate::harness::metrics::Samples;
use crate::harness::wait::{PATIENCE, wait_for};

/// A running service.
#[derive(Debug)]
pub struct Service {
    child: Child,
    admin: Option<SocketAddr>,
}

impl Service {
    /// Starts a binary of this workspace under a settings file. Does not wait.
    pub fn start(
        binary: &str,
        settings: &Path,
        log: &Path,
        admin: Option<SocketAddr>,
    ) -> Result<Self> {
        let arguments = ["--config".to_owned(), settings.display().to_string()];
        Ok(Self {
            child: Child::start(binary, &find(binary)?, &arguments, log)?,
            admin,
        })
    }

    /// The same for a build in another folder, or under another program, such as a profiler: its name and its
    /// arguments.
    pub fn start_as(
        tool: &[String],
        folder: Option<&Path>,
        binary: &str,
        settings: &Path,
        log: &Path,
        admin: Option<SocketAddr>,
    ) -> Result<Self> {
        let path = match folder {
            Some(folder) => folder.join(binary),
            None => find(binary)?,
        };
        let settings = ["--config".to_owned(), settings.display().to_string()];
        let child = match tool.split_first() {
            None => Child::start(binary, &path, &settings, log)?,
            Some((program, own)) => {
                let mut arguments = own.to_vec();
                arguments.push(path.display().to_string());
                arguments.extend(settings);
                Child::start(binary, Path::new(program), &arguments, log)?
            }
        };
        Ok(Self { child, admin })
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&mut self) -> Result<()> {
        self.wait_readyz(true)
    }

    /// Waits until `/readyz` answers anything but 200.
    pub fn wait_unready(&mut self) -> Result<()> {
        self.wait_readyz(false)
    }

    fn wait_readyz(&mut self, wanted: bool) -> Result<()> {
        let what = format!("/readyz to be {wanted}");
        let log = self.child.log().to_owned();
        wait_for(&what, PATIENCE, || {
            self.child.must_run()?;
            Ok((self.is_ready() == wanted).then_some(()))
        })
        .with_context(|| tail(&log))
    }

    /// Whether `/readyz` answers 200 now.
    pub fn is_ready(&self) -> bool {
        self.admin
            .and_then(|admin| client::get(admin, "/readyz").ok())
            .is_some_and(|answer| answer.status == 200)
    }

    /// The metrics now.
    pub fn metrics(&self) -> Result<Samples> {
        Samples::scrape(self.admin.context("no admin port")?)
    }

    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log, if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        self.child.must_run()
    }

    /// `kill -9`; returns when it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.child.signal(signal)
    }

    /// Asks it to end and waits: it must end by itself, with status 0.
    pub fn stop(&mut self) -> Result<()> {
        self.child.signal(Signal::Term)?;
        let status = self.child.wait(PATIENCE)?;
        if !status.success() {
            bail!("it ended with {status}\n{}", tail(self.child.log()));
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        self.child.wait(PATIENCE)
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.ended()
    }

    /// What it has written so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.child.log())?)
    }

    /// Waits until its log contains a text.
    pub fn wait_log(&self, text: &str, patience: Duration) -> Result<()> {
        let what = format!("\"{text}\" in the log");
        wait_for(&what, patience, || {
            Ok(self.log()?.contains(text).then_some(()))
        })
        .with_context(|| tail(self.child.log()))
    }
}

/// The binary that cargo built next to this harness, in the same profile.
pub fn find(binary: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut dir = own.parent().context("the harness has a folder")?;
    if dir.ends_with("deps") {
        dir = dir.parent().context("deps has a folder")?;
    }
    let path = dir.join(binary);
    if !path.is_file() {
        bail!("{} is missing: cargo build -p {binary}", path.display());
    }
    Ok(path)
}

/// The lines of a log at WARN or ERROR, or not of the log's form (a panic, a library's own words),
/// that contain none of the allowed texts.
pub fn unlisted(log: &str, allowed: &[&str]) -> Vec<String> {
    log.lines()
        .filter(|line| !line.trim().is_empty())
        .filter(|line| {
            let parsed: Option<serde_json::Value> = serde_json::from_str(line).ok();
            let level = parsed.as_ref().and_then(|line| line["level"].as_str());
            !matches!(level, Some("INFO" | "DEBUG" | "TRACE"))
        })
        .filter(|line| !allowed.iter().any(|text| line.contains(text)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_errors_and_foreign_lines_are_found() {
        let log = "{\"level\":\"INFO\"}\n{\"level\":\"WARN\",\"message\":\"known thing\"}\n\
                   {\"level\":\"ERROR\",\"message\":\"x\"}\n\nthread panicked\n";
        assert_eq!(unlisted(log, &["known thing"]).len(), 2);
        assert_eq!(unlisted(log, &[]).len(), 3);
    }
}
