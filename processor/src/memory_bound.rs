//! The bound on what the dedup indexes take: `processor.dedup_memory`, else a share of what the process may
//! have.

use std::sync::Arc;
use std::time::Duration;

use sluice_schemas::settings::Settings;
use sluice_service::cgroup;
use tokio_util::sync::CancellationToken;

use crate::dedup::memory::Memory;
use crate::rules::RulesHandle;

/// The share of the memory limit, in percent: the rest is for the clients' queues, batches, and tables that
/// grow.
const SHARE_PERCENT: u64 = 60;

/// How often settings and limit are looked at: both may be raised while a process runs.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the dedup indexes may take, in bytes; `None` where there is no bound.
fn bound(settings: &Settings, limit: Option<u64>) -> Option<u64> {
    let share = limit.map(|limit| limit / 100 * SHARE_PERCENT);
    settings.processor.dedup_memory.or(share)
}

/// Sets the bound, now and whenever the settings or the limit change, until `shutdown`. To be called within a
/// tokio runtime.
pub fn follow(rules: &Arc<RulesHandle>, memory: &Arc<Memory>, shutdown: CancellationToken) {
    let (rules, memory) = (Arc::clone(rules), Arc::clone(memory));
    let look = move || {
        let bound = bound(&rules.get().settings, cgroup::memory_limit());
        if memory.bound() != bound {
            memory.set_bound(bound);
            tracing::info!(bound, "the dedup indexes may take this much memory");
        }
    };
    look();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => look(),
                () = shutdown.cancelled() => return,
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_comes_before_the_share_of_the_limit() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        let settings = |rest: &str| {
            let kafka = "kafka: {bootstrap_servers: b}";
            let sources = "sources: {s: {provider: flock, secrets: [a]}}";
            std::fs::write(&file, format!("{kafka}\n{sources}\n{rest}\n")).expect("a file");
            sluice_service::settings::load(&file)
        };
        let default = settings("").expect("no faults");
        assert_eq!(bound(&default, None), None);
        assert_eq!(bound(&default, Some(1_000)), Some(600));
        let set = settings("processor: {dedup_memory: 2GiB}").expect("no faults");
        assert_eq!(bound(&set, Some(1_000)), Some(2 << 30));
        let faults = settings("processor: {dedup_memory: 1023KiB}").expect_err("a fault");
        assert_eq!(faults[0].path, "processor.dedup_memory");
    }
}
