//! The frame of a service from its start to its end, which both services share.
//!
//! A service opens what it needs, verifies Kafka, serves, drains and closes. [`Service`] holds what all of
//! these steps use.

use std::fmt::Display;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use sluice_schemas::settings::{Part, Settings};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::metric::Readings;
use crate::reload::{SettingsProbe, Watcher, log_warnings};
use crate::telemetry::Telemetry;
use crate::{EXIT_CONFIG, EXIT_RESTART};

/// Why a service ended without being asked to.
#[derive(Debug, Error)]
pub enum Failure {
    /// Settings, secrets, topics or schemas are at fault, a line each: operator action required.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// Something is broken for this process; for a new one it may not be.
    #[error("{0}")]
    Restart(String),
}

impl Failure {
    /// Of faults, a line each.
    pub fn config<T: Display>(faults: &[T]) -> Self {
        Self::Config(faults.iter().map(ToString::to_string).collect())
    }

    /// Logs the failure; the exit status of the process.
    pub fn report(&self) -> i32 {
        match self {
            Self::Config(lines) => {
                for error in lines {
                    tracing::error!(
                        error,
                        "the process does not start: correct this and start it again"
                    );
                }
                EXIT_CONFIG
            }
            Self::Restart(error) => {
                tracing::error!(
                    error,
                    "the process cannot go on and exits with 75: restart it"
                );
                EXIT_RESTART
            }
        }
    }
}

/// A service whose admin port is open.
#[derive(Debug)]
pub struct Service {
    /// The settings of the start.
    pub settings: Arc<Settings>,
    /// The conditions behind `/readyz`.
    pub readiness: Readiness,
    /// Cancelled when the service must end: it drains then.
    pub shutdown: CancellationToken,
    /// What it exports.
    pub telemetry: Telemetry,
    /// Cancelled when it has drained. What must run until then takes a child of this token.
    pub closed: CancellationToken,
}

impl Service {
    /// Opens the admin port over all metrics, with one condition that is not met yet: its name and the
    /// reason. The watcher of the settings file is not started, for it needs what the service makes of the
    /// settings.
    pub fn open(
        settings: Arc<Settings>,
        part: Part,
        (mut registry, admin): (Registry, TcpListener),
        (condition, reason): (&str, &str),
        (telemetry, mut reload_failures): (Telemetry, Vec<(&'static str, Counter)>),
        shutdown: CancellationToken,
    ) -> (Self, Watcher, SettingsProbe) {
        log_warnings(&settings, part);
        let (watcher, probe) = Watcher::new(Arc::clone(&settings), part, &mut registry);
        let readiness = Readiness::default();
        readiness.set(condition, Err(reason.to_owned()));
        reload_failures.extend([
            ("settings", watcher.failures()),
            ("otlp_headers", telemetry.header_failures()),
        ]);
        registry.register_collector(Box::new(Readings::new(readiness.clone(), reload_failures)));
        let registry = Arc::new(registry);
        let closed = CancellationToken::new();
        telemetry.export_metrics(&registry, closed.child_token());
        tokio::spawn(admin::serve(
            admin,
            registry,
            readiness.clone(),
            // The admin port is asked while the service drains.
            closed.child_token(),
        ));
        let service = Self {
            settings,
            readiness,
            shutdown,
            telemetry,
            closed,
        };
        (service, watcher, probe)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_admin_port_is_open_until_the_service_is_closed() {
        let name = format!("sluice-runtime-{}.yaml", std::process::id());
        let path = std::env::temp_dir().join(name);
        let yaml = "kafka: {bootstrap_servers: b}\nsources: {s: {provider: flock, secrets: [x]}}\n";
        std::fs::write(&path, yaml).expect("a temporary file");
        let settings = Arc::new(crate::settings::load(&path).expect("good settings"));
        std::fs::remove_file(&path).expect("it was there");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (service, _watcher, _probe) = Service::open(
            settings,
            Part::Ingest,
            (Registry::default(), listener),
            ("start", "not verified yet"),
            (Telemetry::default(), Vec::new()),
            CancellationToken::new(),
        );
        assert_eq!(service.readiness.reasons(), ["start: not verified yet"]);

        service.shutdown.cancel();
        tokio::task::yield_now().await;
        assert!(TcpStream::connect(address).await.is_ok());
        service.closed.cancel();
        let closed = async { while TcpStream::connect(address).await.is_ok() {} };
        let closed = tokio::time::timeout(Duration::from_secs(10), closed).await;
        closed.expect("the port closes");
    }
}
