//! The processor as a service: what must hold before the workers start, and how they end.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use sluice_schemas::settings::{Part, Settings};
use sluice_service::admin;
use sluice_service::admin::Readiness;
use sluice_service::kafka::topics::{EnsureError, Which, ensure};
use sluice_service::reload::Watcher;
use sluice_service::secrets::{Store, spawn_reload};
use sluice_service::shutdown::Shutdown;
use sluice_service::{EXIT_CONFIG, EXIT_RESTART};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::engine::worker;
use crate::engine::worker::{Exit, Shared, Threads};
use crate::kafka::watchdog::{CHECK_INTERVAL, Watch};
use crate::metrics::Metrics;
use crate::pipeline::route::Router;
use crate::registry::{self, RegistryError};
use crate::rules::{Current, InForce, SchemaIds, follow, framed};

/// How long to wait before Kafka or the registry is asked again at start.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest that the workers may take to end: a transaction under way, and leaving the group.
const END: Duration = Duration::from_secs(25);

/// What is ready before anything connects.
pub struct Parts {
    /// The settings.
    pub settings: Settings,
    /// Kafka's part of them, with its secrets.
    pub base: ClientConfig,
    /// The sources' secrets.
    pub credentials: Store,
}

/// Runs until `shutdown`, or until the process must end: the exit status.
pub async fn run(parts: Parts, listener: TcpListener, shutdown: Shutdown) -> i32 {
    let mut metrics_registry = Registry::default();
    let metrics = Metrics::new(&mut metrics_registry);
    parts.credentials.register(&mut metrics_registry);
    let settings = Arc::new(parts.settings);
    let (watcher, outlook) = Watcher::new(
        Arc::clone(&settings),
        Part::Processor,
        &mut metrics_registry,
    );
    let readiness = Readiness::default();
    readiness.set(
        "start",
        Err("topics and schemas are not verified yet".into()),
    );
    // The admin port outlives the workers, so that a probe sees how they end.
    let admin_end = Shutdown::new();
    tokio::spawn(admin::serve(
        listener,
        Arc::new(metrics_registry),
        readiness.clone(),
        admin_end.clone(),
    ));

    let ids = tokio::select! {
        () = shutdown.requested() => return 0,
        prepared = prepare(&settings, &readiness) => match prepared {
            Ok(ids) => ids,
            Err(status) => return status,
        },
    };
    let router = match Router::new(&settings, framed(&ids)) {
        Ok(router) => router,
        Err(error) => {
            tracing::error!(%error, "the event's schema cannot be used");
            return EXIT_CONFIG;
        }
    };
    let first = InForce {
        settings: Arc::clone(&settings),
        credentials: Arc::new(parts.credentials),
        router,
    };
    let current = Arc::new(Current::new(first, Some(outlook)));
    let in_force = Arc::clone(&current);
    spawn_reload(move || Arc::clone(&in_force.get().credentials));
    follow(watcher, &current, ids);
    let shared = Arc::new(Shared {
        settings,
        base: parts.base,
        current,
        metrics,
        readiness: readiness.clone(),
        shutdown: shutdown.clone(),
    });
    let status = workers(&shared, &shutdown, &readiness).await;
    admin_end.request();
    status
}

/// Starts the workers and waits for their end. One that cannot go on ends all.
async fn workers(shared: &Arc<Shared>, shutdown: &Shutdown, readiness: &Readiness) -> i32 {
    let count = shared.settings.processor.workers;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut watched = Vec::new();
    for number in 0..count {
        let threads = Threads::default();
        watched.extend([threads.worker.clone(), threads.restorer.clone()]);
        readiness.set(&worker::condition(number), Err("starting".into()));
        let (shared, ended) = (Arc::clone(shared), ended.clone());
        let work = move || {
            let exit = worker::run(&shared, number, &threads);
            let _ = ended.send((number, exit));
        };
        let name = format!("worker-{number}");
        if let Err(error) = thread::Builder::new().name(name).spawn(work) {
            tracing::error!(%error, "no thread could be started");
            return EXIT_RESTART;
        }
    }
    drop(ended);
    readiness.set("start", Ok(()));
    tracing::info!(workers = count, "started");

    let mut status = 0;
    let mut left = count;
    let deadline = async {
        shutdown.requested().await;
        readiness.set("start", Err("shutting down".into()));
        tokio::time::sleep(END).await;
    };
    tokio::pin!(deadline);
    let mut watch = Watch::new(watched);
    let mut look = tokio::time::interval(CHECK_INTERVAL);
    // Looks that were missed while the process was stopped say nothing of its calls.
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while left > 0 {
        tokio::select! {
            _ = look.tick() => if watch.has_hung() {
                tracing::error!("a call of the Kafka client hangs: the process ends to be started anew");
                return EXIT_RESTART;
            },
            () = &mut deadline => {
                tracing::warn!(left, "workers did not end in time");
                return if status == 0 { EXIT_RESTART } else { status };
            }
            end = ends.recv() => match end {
                Some((_, Exit::Shutdown)) => left -= 1,
                Some((number, Exit::Restart(why))) => {
                    tracing::error!(worker = number, why, "a worker cannot go on: the process ends to be started anew");
                    left -= 1;
                    status = EXIT_RESTART;
                    shutdown.request();
                }
                // A worker that panicked sends nothing.
                None => return EXIT_RESTART,
            },
        }
    }
    status
}

/// Waits for Kafka and the registry; faults that waiting does not mend end the start.
async fn prepare(settings: &Settings, readiness: &Readiness) -> Result<SchemaIds, i32> {
    loop {
        match ensure(settings, Which::All).await {
            Ok(()) => break,
            Err(EnsureError::Unreachable(why)) => {
                readiness.set("start", Err(format!("Kafka does not answer: {why}")));
            }
            Err(EnsureError::Faults(faults)) => {
                for fault in &faults {
                    tracing::error!(%fault, "topics");
                }
                return Err(EXIT_CONFIG);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
    match &settings.schema_registry {
        None => Ok(None),
        Some(registry) => Ok(Some(schema_ids(settings, registry, readiness).await?)),
    }
}

async fn schema_ids(
    settings: &Settings,
    registry: &sluice_schemas::settings::SchemaRegistry,
    readiness: &Readiness,
) -> Result<std::collections::HashMap<String, u32>, i32> {
    loop {
        match registry::ids(settings, registry).await {
            Ok(ids) => return Ok(ids),
            Err(error @ RegistryError::Away(_)) => {
                readiness.set("start", Err(error.to_string()));
            }
            Err(error @ RegistryError::Mismatch(_)) => {
                tracing::error!(%error, "schema registry");
                return Err(EXIT_CONFIG);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
