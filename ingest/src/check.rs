//! Whether ingest can start under its settings, as far as files show: `--check` asks before the start does.

use sluice_schemas::settings::{Fault, Settings};
use sluice_service::telemetry;

use crate::http::tls::Tls;
use crate::publish;

/// Reads the files that the settings name: ingest's only secrets are those of Kafka and its certificate.
///
/// # Errors
/// All faults.
pub fn check(settings: &Settings) -> Result<(), Vec<Fault>> {
    let mut faults = publish::faults(settings);
    faults.extend(Tls::load(settings).err().unwrap_or_default());
    faults.extend(
        telemetry::check(&settings.telemetry)
            .err()
            .unwrap_or_default(),
    );
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}
