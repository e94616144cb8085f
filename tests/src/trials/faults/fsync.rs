//! What the disk takes for a bare write and fsync while something else is measured on it: the floor of
//! whatever is answered only when it is durable.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often: seldom enough not to be what is measured.
const EVERY: Duration = Duration::from_millis(100);

/// What is written each time, in bytes.
const PAGE: [u8; 8192] = [7; 8192];

/// Writes and fsyncs from its start to its end.
pub struct Floor {
    end: Sender<()>,
    thread: JoinHandle<Result<Vec<Duration>>>,
}

impl Floor {
    /// Begins, in a folder on the disk in question.
    pub fn start(dir: &Path) -> Result<Self> {
        let path = dir.join("fsync.floor");
        let mut file = File::create(path)?;
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let since = Instant::now();
                file.write_all(&PAGE)?;
                file.sync_data()?;
                took.push(since.elapsed());
            }
            Ok(took)
        });
        Ok(Self { end, thread })
    }

    /// How long each took.
    pub fn finish(self) -> Result<Vec<Duration>> {
        drop(self.end);
        let thread = self.thread.join().ok();
        thread.context("the floor's thread panicked")?
    }
}
