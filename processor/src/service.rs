//! The processor from its start to its end: open, verify, serve, drain, close.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use sluice_schemas::settings::{Fault, Part, SchemaRegistry, Settings};
use sluice_service::admin::Readiness;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::clocks::Clocks;
use sluice_service::kafka::credentials::Credentials;
use sluice_service::kafka::statistics::ClientStatistics;
use sluice_service::kafka::topics::{EnsureError, Which, ensure};
use sluice_service::runtime::{Failure, Service};
use sluice_service::secrets::{Store, spawn_reload};
use sluice_service::telemetry::{self, Telemetry};
use sluice_service::watch::Watching;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::clocks::ComparesClocks;
use crate::engine::worker;
use crate::engine::worker::{Exit, Shared, Threads};
use crate::fate_bytes;
use crate::kafka::base::Base;
use crate::kafka::lag::RenewedClient;
use crate::kafka::watchdog::{CHECK_INTERVAL, Watch};
use crate::lag::{Measuring, RawLag};
use crate::memory_bound;
use crate::metrics::Metrics;
use crate::pipeline::route::Router;
use crate::registry::{self, RegistryError};
use crate::rules::{ActiveRules, RulesHandle, SchemaIds, follow, framed};
use crate::spans::Spans;

/// The pause before Kafka or the registry is asked again at the start.
const VERIFY_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The longest that the workers may take to end: a transaction under way, and leaving the group.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// What is read before anything connects.
pub struct Parts {
    /// The settings.
    pub settings: Settings,
    /// Kafka's part of them, with its secrets.
    pub base: ClientConfig,
    /// The files of those secrets.
    pub files: Credentials,
    /// The sources' secrets.
    pub credentials: Store,
}

impl Parts {
    /// Reads the files that the settings name. All faults are returned at once.
    pub fn read(settings: Settings) -> Result<Self, Vec<Fault>> {
        let telemetry = telemetry::check(&settings.telemetry);
        let files = Credentials::new(&settings);
        match (base_config(&settings), Store::load(&settings), telemetry) {
            (Ok(base), Ok(credentials), Ok(())) => Ok(Self {
                settings,
                base,
                files,
                credentials,
            }),
            (base, credentials, telemetry) => {
                let mut faults = base.err().unwrap_or_default();
                faults.extend(credentials.err().unwrap_or_default());
                faults.extend(telemetry.err().unwrap_or_default());
                Err(faults)
            }
        }
    }
}

/// Runs until `shutdown`, or until the process must end.
pub async fn run(
    parts: Parts,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    // Open.
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    metrics.sources(&parts.settings);
    let raw_lag = RawLag::new(&mut registry);
    let clocks = Clocks::new(&mut registry);
    let statistics = ClientStatistics::new(&mut registry);
    parts.credentials.register(&mut registry);
    let telemetry = Telemetry::start(&parts.settings.telemetry, "sluice-processor", &mut registry)
        .map_err(|fault| Failure::config(&[fault]))?;
    let traces = telemetry.traces();
    let secrets = ("secrets", parts.credentials.failures());
    let kafka = ("kafka", parts.files.failures());
    let (service, watcher, probe) = Service::open(
        Arc::new(parts.settings),
        Part::Processor,
        (registry, listener),
        ("start", "topics and schemas are not verified yet"),
        (telemetry, vec![secrets, kafka]),
        shutdown,
    );

    // Verify.
    let ids = tokio::select! {
        () = service.shutdown.cancelled() => return Ok(()),
        ids = verify(&service) => ids?,
    };
    let router = Router::new(&service.settings, framed(&ids)).map_err(|error| {
        Failure::Config(vec![format!("the event's schema cannot be used: {error}")])
    })?;
    let rules = ActiveRules {
        settings: Arc::clone(&service.settings),
        credentials: Arc::new(parts.credentials),
        router,
    };
    let rules = Arc::new(RulesHandle::new(rules, Some(probe)));
    let reloaded = Arc::clone(&rules);
    let _secrets = spawn_reload(move || Arc::clone(&reloaded.get().credentials));
    follow(watcher, &rules, ids, metrics.clone());

    // Serve and drain.
    let shared = Arc::new(Shared {
        settings: Arc::clone(&service.settings),
        base: Arc::new(Base::new(parts.base, service.shutdown.clone())),
        current: rules,
        metrics,
        memory: Arc::default(),
        statistics,
        positions: Arc::default(),
        spans: Spans::new(traces),
        readiness: service.readiness.clone(),
        shutdown: service.shutdown.clone(),
    });
    let _measuring = measure(raw_lag, clocks, &shared)?;
    let _files = renew(parts.files, &shared);
    let outcome = match Workers::start(&shared) {
        Ok(workers) => workers.until_ended(&service).await,
        Err(error) => Err(no_thread(&error)),
    };

    // Close.
    service.closed.cancel();
    service.telemetry.close().await;
    outcome
}

/// Has clients made again when their credentials change.
fn renew(files: Credentials, shared: &Shared) -> Watching {
    let base = Arc::clone(&shared.base);
    files.watch(Arc::clone(&shared.settings), move |config| {
        base.renew(config.clone());
        Ok(())
    })
}

/// Measures the lag of the partitions that the workers own, what the topics of fates hold and what the dedup
/// indexes may take, and compares clocks.
fn measure(
    raw_lag: RawLag,
    clocks: Clocks,
    shared: &Shared,
) -> Result<(Measuring, fate_bytes::Measuring), Failure> {
    memory_bound::follow(&shared.current, &shared.memory, shared.shutdown.clone());
    let clocks = ComparesClocks::new(clocks, shared.readiness.clone());
    let client = RenewedClient::new(&shared.settings, &shared.base)
        .map_err(|error| Failure::Restart(format!("no client could be made: {error}")))?;
    let lag = raw_lag.measure(client, Arc::clone(&shared.positions), clocks);
    let fate_bytes = shared.metrics.fate_bytes.clone();
    let bytes = fate_bytes.measure(Arc::clone(&shared.settings), Arc::clone(&shared.base));
    lag.and_then(|lag| Ok((lag, bytes?)))
        .map_err(|error| no_thread(&error))
}

fn no_thread(error: &std::io::Error) -> Failure {
    Failure::Restart(format!("no thread could be started: {error}"))
}

/// The workers' threads.
struct Workers {
    /// How many have not ended.
    running: u32,
    ends: UnboundedReceiver<(u32, Exit)>,
    watchdog: Watch,
}

impl Workers {
    fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let running = shared.settings.processor.workers;
        let (ended, ends) = unbounded_channel();
        let mut watched = Vec::new();
        for number in 0..running {
            let threads = Threads::default();
            watched.extend([threads.worker.clone(), threads.restorer.clone()]);
            let starting = Err("starting".to_owned());
            shared.readiness.set(&worker::condition(number), starting);
            let (shared, ended) = (Arc::clone(shared), ended.clone());
            let work = move || {
                let exit = worker::run(&shared, number, &threads);
                // The receiver is gone when the process no longer waits for its workers.
                let _ = ended.send((number, exit));
            };
            let name = format!("worker-{number}");
            thread::Builder::new().name(name).spawn(work)?;
        }
        shared.readiness.set("start", Ok(()));
        tracing::info!(workers = running, "started");
        Ok(Self {
            running,
            ends,
            watchdog: Watch::new(watched),
        })
    }

    /// Waits for the end of all workers. One that cannot go on ends all.
    async fn until_ended(mut self, service: &Service) -> Result<(), Failure> {
        let deadline = async {
            service.shutdown.cancelled().await;
            let leaving = Err("shutting down".to_owned());
            service.readiness.set("start", leaving);
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::pin!(deadline);
        let mut look = tokio::time::interval(CHECK_INTERVAL);
        // Looks that were missed while the process was stopped say nothing of its calls.
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut outcome = Ok(());
        while self.running > 0 {
            tokio::select! {
                _ = look.tick() => if self.watchdog.has_hung() {
                    return Err(Failure::Restart("a call of the Kafka client hangs".to_owned()));
                },
                () = &mut deadline => {
                    let late = format!("{} workers did not end in time", self.running);
                    return outcome.and(Err(Failure::Restart(late)));
                }
                end = self.ends.recv() => match end {
                    Some((_, Exit::Shutdown)) => self.running -= 1,
                    Some((number, Exit::Restart(error))) => {
                        tracing::warn!(worker = number, error, "a worker cannot go on: all workers end");
                        self.running -= 1;
                        outcome = Err(Failure::Restart(format!("worker {number} cannot go on: {error}")));
                        service.shutdown.cancel();
                    }
                    // A worker that panicked sends nothing.
                    None => return Err(Failure::Restart("a worker panicked".to_owned())),
                },
            }
        }
        outcome
    }
}

/// Waits for Kafka and the registry; faults that waiting does not mend end the start.
async fn verify(service: &Service) -> Result<SchemaIds, Failure> {
    let Service {
        settings,
        readiness,
        ..
    } = service;
    loop {
        match ensure(settings, Which::All).await {
            Ok(()) => break,
            Err(EnsureError::Unreachable(error)) => {
                readiness.set("start", Err(format!("Kafka does not answer: {error}")));
            }
            Err(EnsureError::Faults(lines)) => return Err(Failure::Config(lines)),
        }
        tokio::time::sleep(VERIFY_RETRY_DELAY).await;
    }
    match &settings.schema_registry {
        None => Ok(None),
        Some(registry) => Ok(Some(schema_ids(settings, registry, readiness).await?)),
    }
}

async fn schema_ids(
    settings: &Settings,
    registry: &SchemaRegistry,
    readiness: &Readiness,
) -> Result<HashMap<String, u32>, Failure> {
    loop {
        match registry::ids(settings, registry).await {
            Ok(ids) => return Ok(ids),
            Err(error @ RegistryError::Away(_)) => {
                readiness.set("start", Err(error.to_string()));
            }
            Err(error @ RegistryError::Mismatch(_)) => {
                return Err(Failure::Config(vec![format!("schema_registry: {error}")]));
            }
        }
        tokio::time::sleep(VERIFY_RETRY_DELAY).await;
    }
}
