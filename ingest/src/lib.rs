//! HTTP in, durable raw record out.
//!
//! Comes in: webhooks, by `POST /v1/hooks/{source}` ([`server`], [`receive`]). Goes out: one record of
//! `webhooks.raw` each ([`publish`]), and 200 once all in-sync replicas have it ([`answer`]). Never
//! here: providers' secrets, verification, a body that is changed, a 2xx for what is not durable.

pub mod config;

pub mod server;

pub mod receive;

mod headers;

pub mod publish;

pub mod answer;

pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sluice_schemas::service::admin::{self, Readiness};
use sluice_schemas::service::settings::Settings;
use sluice_schemas::service::shutdown::Shutdown;
use sluice_schemas::service::topics::{self, EnsureError, Which};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::publish::Kafka;
use crate::receive::Receiver;

/// How often Kafka is asked whether it would take a record, and how long it may take to say so.
const PROBE: Duration = Duration::from_secs(2);

/// The pause before topics are asked for again while Kafka is away.
const RETRY: Duration = Duration::from_secs(1);

/// How long the producer may take for its last records. With the server's own bounds, the whole
/// shutdown stays under 30 s.
const FLUSH: Duration = Duration::from_secs(6);

/// How long the producer may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Why ingest ended, other than by being asked to.
#[derive(Debug, Error)]
pub enum Failure {
    /// Settings, secrets or topics are at fault, a line each. Exit 78.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// The producer is broken for good; a new process is not. Exit 75.
    #[error("the producer is broken: {0}")]
    Restart(String),
}

/// Serves until `shutdown`. Answers at once, with 503 until the raw topic is known to be as it must.
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    admin_listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let publisher = Kafka::new(&settings)
        .map_err(|faults| Failure::Config(faults.iter().map(ToString::to_string).collect()))?;
    let publisher = Arc::new(publisher);
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let config = Config::new(&settings);
    let receiver = Arc::new(Receiver::new(config, Arc::clone(&publisher), metrics));

    let readiness = Readiness::default();
    readiness.set("topics", Err("not verified yet".to_owned()));
    readiness.set("kafka", Err("not asked yet".to_owned()));
    // The admin port is asked until the very end, so it has an end of its own.
    let admin_end = Shutdown::new();
    tokio::spawn(admin::serve(
        admin_listener,
        Arc::new(registry),
        readiness.clone(),
        admin_end.clone(),
    ));
    let server = tokio::spawn(server::serve(
        Arc::clone(&receiver),
        listener,
        shutdown.clone(),
    ));

    let outcome = work(&settings, &publisher, &receiver, &readiness, &shutdown).await;
    readiness.set("serving", Err("shutting down".to_owned()));
    if outcome.is_ok() {
        finish(server, &publisher).await;
    } else {
        // What is wrong does not pass, so nobody is kept waiting for it.
        server.abort();
    }
    admin_end.request();
    drop(receiver);
    // Closing waits for librdkafka's threads, and that wait is not trusted to end.
    let closed = tokio::task::spawn_blocking(move || drop(publisher));
    if tokio::time::timeout(CLOSE, closed).await.is_err() {
        tracing::warn!("the producer does not close, and is left behind");
    }
    outcome
}

/// Opens the door once the topics are verified, then keeps readiness true to Kafka until `shutdown`.
async fn work(
    settings: &Settings,
    publisher: &Arc<Kafka>,
    receiver: &Receiver<Kafka>,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let verified = tokio::select! {
        verified = verify(settings, readiness) => verified,
        () = shutdown.requested() => return Ok(()),
    };
    verified?;
    receiver.start();
    readiness.set("topics", Ok(()));
    loop {
        let asked = Arc::clone(publisher);
        let probe = tokio::task::spawn_blocking(move || {
            asked.probe(PROBE).and_then(|()| asked.delivering())
        });
        let state = probe.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Some(reason) = publisher.fatal() {
            return Err(Failure::Restart(reason));
        }
        readiness.set("kafka", state);
        receiver.count_buffered();
        tokio::select! {
            () = tokio::time::sleep(PROBE) => {}
            () = shutdown.requested() => return Ok(()),
        }
    }
}

/// Makes or verifies the raw topic, for as long as it takes for Kafka to be there.
async fn verify(settings: &Settings, readiness: &Readiness) -> Result<(), Failure> {
    loop {
        match topics::ensure(settings, Which::RawOnly).await {
            Ok(()) => return Ok(()),
            Err(EnsureError::Faults(lines)) => return Err(Failure::Config(lines)),
            Err(error @ EnsureError::Unreachable(_)) => {
                readiness.set("topics", Err(error.to_string()));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Lets the server finish what is open and the producer send what it has.
async fn finish(server: JoinHandle<()>, publisher: &Arc<Kafka>) {
    if let Err(error) = server.await {
        tracing::error!(%error, "the server did not end well");
    }
    let flushed = Arc::clone(publisher);
    let flushed = tokio::task::spawn_blocking(move || flushed.flush(FLUSH)).await;
    match flushed {
        Ok(Ok(())) => tracing::info!("all that was taken is delivered"),
        // Their senders were told 503 or nothing, so nothing that was promised is lost.
        Ok(Err(left)) => tracing::warn!("{left}, and are given up"),
        Err(error) => tracing::error!(%error, "the producer did not end well"),
    }
}
