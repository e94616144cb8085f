//! Waiting for conditions, never for seconds.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything that normally takes a second or two may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at: short next to what is waited for, long next to a look.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value. `what` completes the sentence "waited for …".
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + patience;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= until {
            bail!("waited {patience:?} for {what}, in vain");
        }
        std::thread::sleep(LOOK);
    }
}
