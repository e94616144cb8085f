//! The settings under which a test's server runs.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use sluice_schemas::identity::sha256;
use sluice_schemas::settings::{Settings, Spool};

use super::{BUFFERED, LIMITS, SMALL, hex};

/// On how many threads a server serves where a test does not say: so that all tests can be run on several.
pub fn threads() -> Option<NonZeroUsize> {
    let asked = std::env::var("INGEST_TEST_THREADS").ok();
    asked.map_or(Some(NonZeroUsize::MIN), |threads| threads.parse().ok())
}

/// With a spool in this folder.
pub fn spooling(dir: &Path, max_bytes: u64) -> Settings {
    let mut settings = settings(LIMITS, "");
    settings.ingest.spool = Some(Spool {
        dir: dir.to_owned(),
        max_bytes,
        source_share: 0.5,
        max_age: Duration::from_secs(3600),
        wait: Duration::from_millis(100),
        drain_rate: 100_000,
        drain_older: false,
    });
    settings
}

pub fn settings(more: &str, sources: &str) -> Settings {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.yaml");
    let yaml = format!(
        "
kafka: {{bootstrap_servers: 'localhost:1'}}
sources:
  site: {{provider: flowcode, secrets: [x]}}
  small: {{provider: flowcode, secrets: [x], max_body: {SMALL}B}}
  list: {{provider: referralloop, token_sha256: ['{}']}}
  keyed: {{provider: referralloop, require_headers: {{X-Key: ['{}']}}}}
  away: {{provider: flowcode, secrets: [x], enabled: false}}
{sources}
ingest:
  ack_timeout: 300ms
  header_timeout: 500ms
  body_timeout: 500ms
  max_buffered: 2MiB
{more}
telemetry: {{trace_ratio: 1}}
",
        hex(&sha256(b"t0ken")),
        hex(&sha256(b"k3y")),
    );
    std::fs::write(&path, yaml).unwrap();
    let mut settings = sluice_service::settings::load(&path).unwrap();
    // Under what a settings file may say, for a test that fills it.
    settings.ingest.max_buffered = BUFFERED as u64;
    settings
}
