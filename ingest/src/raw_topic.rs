//! The raw topic at the start: created or verified before records go there.

use std::time::{Duration, Instant};

use sluice_schemas::settings::Settings;
use sluice_service::admin::Readiness;
use sluice_service::kafka::topics::{self, EnsureError, Which};
use sluice_service::runtime::Failure;
use sluice_service::telemetry::Repeated;

/// The pause before topics are asked for again while Kafka is unreachable.
const TOPICS_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Creates or verifies the raw topic. Waits for Kafka as long as that takes.
pub(crate) async fn verify(settings: &Settings, readiness: &Readiness) -> Result<(), Failure> {
    let mut waiting = Repeated::default();
    loop {
        match topics::ensure(settings, Which::RawOnly).await {
            Ok(()) => return Ok(()),
            Err(EnsureError::Faults(lines)) => return Err(Failure::Config(lines)),
            Err(error @ EnsureError::Unreachable(_)) => {
                if settings.ingest.spool.is_none() {
                    readiness.set("topics", Err(error.to_string()));
                } else if let Some(repeated) = waiting.came(Instant::now()) {
                    tracing::info!(%error, repeated, "raw cannot be verified yet, and requests are spooled");
                }
                tokio::time::sleep(TOPICS_RETRY_DELAY).await;
            }
        }
    }
}
