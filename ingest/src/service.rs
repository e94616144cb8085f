//! The service from its start to its end: what is opened, watched, and closed in which order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use sluice_schemas::settings;
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::{Part, Settings};
use sluice_service::admin;
use sluice_service::admin::Readiness;
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::topics;
use sluice_service::kafka::topics::{EnsureError, Which};
use sluice_service::reload::{Refused, Watcher};
use sluice_service::shutdown::Shutdown;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::http::server;
use crate::http::tls::Tls;
use crate::metrics::{Metrics, SpoolMetrics};
use crate::persist::Durable;
use crate::publish::{Kafka, Use};
use crate::receive::Receiver;
use crate::spool::Spool;
use crate::spool::drain::Drain;
use crate::spool::store::StoreError;

/// How often Kafka is asked whether it would take a record, and how long the answer may take.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// The pause before topics are asked for again while Kafka is away.
const TOPICS_RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long the producer may take for its last records. With the server's own bounds, the whole
/// shutdown stays under 30 s.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the producer may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why ingest ended, other than by being asked to.
#[derive(Debug, Error)]
pub enum Failure {
    /// Settings, secrets or topics are at fault, a line each. Exit 78.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// Something is broken for this process; for a new one it may not be. Exit 75.
    #[error("{0}")]
    Restart(String),
}

/// Serves until `shutdown`. Answers at once: without a spool with 503 until the raw topic is verified.
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    admin_listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let tls = Tls::load(&settings).map_err(Failure::Config)?;
    let mut registry = Registry::default();
    let ingest = Ingest::new(settings, &mut registry)?;
    // Ends the watching when it is dropped; ingest itself has nothing to ask.
    let (watcher, _outlook) =
        Watcher::new(Arc::clone(&ingest.settings), Part::Ingest, &mut registry);
    watcher.spawn(ingest.change(tls.clone()));
    ingest
        .readiness
        .set("topics", Err("not verified yet".to_owned()));
    // The admin port is asked until the very end, so it has an end of its own.
    let admin_end = Shutdown::new();
    tokio::spawn(admin::serve(
        admin_listener,
        Arc::new(registry),
        ingest.readiness.clone(),
        admin_end.clone(),
    ));
    let server = tokio::spawn(server::serve(
        Arc::clone(&ingest.receiver),
        listener,
        tls,
        shutdown.clone(),
    ));
    let outcome = ingest.work(&shutdown).await;
    ingest
        .readiness
        .set("serving", Err("shutting down".to_owned()));
    if outcome.is_ok() {
        ingest.finish(server).await;
    } else {
        // The failure is permanent for this process, so no request waits for its end.
        server.abort();
    }
    ingest.drain_end.request();
    admin_end.request();
    ingest.close().await;
    outcome
}

/// Lines of a path and what is wrong there, as of a settings file that is refused.
fn refused(lines: Vec<String>) -> Refused {
    let fault = |line: String| {
        let (path, message) = line.split_once(": ").unwrap_or(("ingest.tls", &line));
        let (path, message) = (path.to_owned(), message.to_owned());
        Fault { path, message }
    };
    Refused::Faults(lines.into_iter().map(fault).collect())
}

/// Reads the files that the settings name: ingest's only secrets are those of Kafka and its certificate.
///
/// # Errors
/// All faults, a line each.
pub fn check(settings: &Settings) -> Result<(), Vec<String>> {
    let base = kafka::base_config(settings).map(drop);
    let mut faults: Vec<String> = base
        .err()
        .into_iter()
        .flatten()
        .map(|f| f.to_string())
        .collect();
    faults.extend(Tls::load(settings).err().unwrap_or_default());
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

pub(crate) fn producer(settings: &Settings, r#use: Use) -> Result<Kafka, Failure> {
    Kafka::new(settings, r#use)
        .map_err(|faults| Failure::Config(faults.iter().map(ToString::to_string).collect()))
}

pub(crate) fn open_spool(
    settings: &Settings,
    metrics: &Metrics,
    open: fn(&settings::Spool, SpoolMetrics) -> Result<Spool, StoreError>,
) -> Result<Option<Arc<Spool>>, Failure> {
    let Some(spool) = &settings.ingest.spool else {
        return Ok(None);
    };
    match open(spool, metrics.spool().clone()) {
        Ok(spool) => Ok(Some(Arc::new(spool))),
        // The process before may be about to end.
        Err(error) if error.is_in_use() => Err(Failure::Restart(format!("the spool: {error}"))),
        Err(error) => Err(Failure::Config(vec![format!("ingest.spool.dir: {error}")])),
    }
}

/// What the serving process holds open.
struct Ingest {
    settings: Arc<Settings>,
    publisher: Arc<Kafka>,
    spool: Option<Arc<Spool>>,
    durable: Arc<Durable<Kafka>>,
    receiver: Arc<Receiver<Kafka>>,
    readiness: Readiness,
    /// The spool is drained until the very end.
    drain_end: Shutdown,
}

impl Ingest {
    fn new(settings: Settings, registry: &mut Registry) -> Result<Self, Failure> {
        let publisher = Arc::new(producer(&settings, Use::Live)?);
        let metrics = Metrics::new(registry);
        let spool = open_spool(&settings, &metrics, Spool::open)?;
        let durable = Arc::new(Durable::new(
            Arc::clone(&publisher),
            spool.clone(),
            metrics.clone(),
            settings.ingest.ack_timeout,
        ));
        let config = Config::new(&settings);
        let receiver = Arc::new(Receiver::new(config, Arc::clone(&durable), metrics));
        Ok(Self {
            settings: Arc::new(settings),
            publisher,
            spool,
            durable,
            receiver,
            readiness: Readiness::default(),
            drain_end: Shutdown::new(),
        })
    }

    /// Puts changed settings in force.
    fn change(
        &self,
        tls: Option<Arc<Tls>>,
    ) -> impl FnMut(&Arc<Settings>) -> Result<(), Refused> + Send + 'static + use<> {
        let receiver = Arc::downgrade(&self.receiver);
        let spool = self.spool.clone();
        move |settings| {
            // First, for it can be refused.
            if let Some(tls) = &tls {
                tls.change(settings).map_err(refused)?;
            }
            if let Some(receiver) = receiver.upgrade() {
                receiver.configure(Config::new(settings));
            }
            if let (Some(spool), Some(settings)) = (&spool, &settings.ingest.spool) {
                spool.drain_older(settings.drain_older);
            }
            Ok(())
        }
    }

    /// Closes the producer and the spool. Closing waits for librdkafka's threads and for the disk, and that
    /// wait is bounded.
    async fn close(self) {
        let Self {
            publisher,
            spool,
            durable,
            receiver,
            ..
        } = self;
        drop((receiver, durable));
        let closed = tokio::task::spawn_blocking(move || {
            drop(publisher);
            if let Some(spool) = spool {
                spool.close();
            }
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!(
                "the producer or the spool did not close within 2 s; the process ends without waiting"
            );
        }
    }

    /// Keeps readiness true to Kafka and the spool until `shutdown`. Once the topics are verified, Kafka
    /// is written to.
    async fn work(&self, shutdown: &Shutdown) -> Result<(), Failure> {
        let verified = tokio::select! {
            verified = self.verified() => verified,
            () = shutdown.requested() => return Ok(()),
        };
        verified?;
        self.durable.verified();
        let drain = self.start_drain()?;
        self.readiness.set("topics", Ok(()));
        loop {
            let asked = Arc::clone(&self.publisher);
            let probe = tokio::task::spawn_blocking(move || {
                asked
                    .probe(PROBE_INTERVAL)
                    .and_then(|()| asked.delivering())
            });
            let state = probe.await.unwrap_or_else(|error| Err(error.to_string()));
            let drained = drain.as_ref().and_then(|kafka| kafka.fatal());
            if let Some(reason) = self.publisher.fatal().or(drained) {
                return Err(Failure::Restart(format!(
                    "the producer is broken: {reason}"
                )));
            }
            self.set_ready(state);
            self.receiver.count_buffered();
            tokio::select! {
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
                () = shutdown.requested() => return Ok(()),
            }
        }
    }

    /// Verifies the topics. Meanwhile what comes goes to the spool, if there is one.
    async fn verified(&self) -> Result<(), Failure> {
        let verify = verify(&self.settings, &self.readiness);
        tokio::pin!(verify);
        loop {
            tokio::select! {
                verified = &mut verify => return verified,
                () = tokio::time::sleep(PROBE_INTERVAL) => {
                    if self.spool.is_some() {
                        self.readiness.set("topics", Ok(()));
                        self.set_ready(Err("the topics are not verified yet".to_owned()));
                    }
                }
            }
        }
    }

    fn start_drain(&self) -> Result<Option<Arc<Kafka>>, Failure> {
        let Some(spool) = &self.spool else {
            return Ok(None);
        };
        let kafka = Arc::new(producer(&self.settings, Use::Drain)?);
        let drain = Drain::new(Arc::clone(spool), Arc::clone(&kafka));
        tokio::spawn(drain.run(self.drain_end.clone()));
        Ok(Some(kafka))
    }

    fn set_ready(&self, kafka: Result<(), String>) {
        // Without a spool it is Kafka's readiness and no other.
        let condition = if self.spool.is_some() {
            "durable"
        } else {
            "kafka"
        };
        self.readiness.set(condition, self.durable.ready(kafka));
    }

    /// Lets the server finish what is open and the producer send what it has.
    async fn finish(&self, server: JoinHandle<()>) {
        if let Err(error) = server.await {
            tracing::error!(%error, "the server panicked: report this");
        }
        let until = Instant::now() + FLUSH_TIMEOUT;
        // Those whose senders are gone.
        while self.durable.unanswered() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = until.saturating_duration_since(Instant::now());
        let flushed = Arc::clone(&self.publisher);
        let flushed = tokio::task::spawn_blocking(move || flushed.flush(left)).await;
        match flushed {
            Ok(Ok(())) => tracing::info!("all accepted records are delivered"),
            Ok(Err(error)) => tracing::warn!(
                error,
                "records were not delivered before the end; their senders got 503 or no answer, or the spool has them"
            ),
            Err(error) => {
                tracing::error!(%error, "the flush of the producer panicked: report this");
            }
        }
        if let Some(spool) = self.spool.as_ref().filter(|spool| spool.records() > 0) {
            let records = spool.records();
            tracing::warn!(
                records,
                "the spool is not empty; its records wait for the next start or for sluice-ingest drain"
            );
        }
    }
}

/// Makes or verifies the raw topic, for as long as it takes for Kafka to be there.
pub(crate) async fn verify(settings: &Settings, readiness: &Readiness) -> Result<(), Failure> {
    loop {
        match topics::ensure(settings, Which::RawOnly).await {
            Ok(()) => return Ok(()),
            Err(EnsureError::Faults(lines)) => return Err(Failure::Config(lines)),
            Err(error @ EnsureError::Unreachable(_)) => {
                if settings.ingest.spool.is_none() {
                    readiness.set("topics", Err(error.to_string()));
                }
                tokio::time::sleep(TOPICS_RETRY_DELAY).await;
            }
        }
    }
}
