//! The service from its start to its end: open, verify, serve, drain, close.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use sluice_schemas::settings::{self, Part, Settings};
use sluice_service::admin::Readiness;
use sluice_service::kafka::credentials::Credentials;
use sluice_service::reload::{ApplyError, Watcher};
use sluice_service::runtime::{Failure, Service};
use sluice_service::telemetry::Telemetry;
use sluice_service::watch::Watching;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::descriptors;
use crate::http::server;
use crate::http::threads::{self, Threads};
use crate::http::tls::Tls;
use crate::metrics::{Metrics, SpoolMetrics};
use crate::persist::Durable;
use crate::publish::{Kafka, Use};
use crate::raw_topic::verify;
use crate::receive::Receiver;
use crate::spool::Spool;
use crate::spool::drain::Drain;
use crate::spool::store::StoreError;

/// How often Kafka is asked whether it would take a record, and how long the answer may take.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// How long the producer may take for its last records. With the server's own bounds, the whole
/// shutdown stays under 30 s.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(6);

/// How long threads may take to end whose connections are to be dropped.
const THREADS_END_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the producer and the spool may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until `shutdown`. Answers at once: without a spool with 503 until the raw topic is verified.
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    admin_listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    // Open.
    let settings = Arc::new(settings);
    // Before any client is made of these files, so that a change of them is seen.
    let credentials = Credentials::new(&settings);
    let mut registry = Registry::default();
    let telemetry = Telemetry::start(&settings.telemetry, "sluice-ingest", &mut registry)
        .map_err(|fault| Failure::config(&[fault]))?;
    let tls = Tls::load(&settings).map_err(|faults| Failure::config(&faults))?;
    if let Some(tls) = &tls {
        tls.register(&mut registry);
    }
    let metrics = Metrics::new(&mut registry);
    let certificate = ("certificate", metrics.tls_reload_failures());
    // The watcher of the settings ends when its probe is dropped; ingest itself asks it nothing.
    let (service, watcher, _probe) = Service::open(
        settings,
        Part::Ingest,
        (registry, admin_listener),
        ("topics", "not verified yet"),
        (
            telemetry,
            vec![certificate, ("kafka", credentials.failures())],
        ),
        shutdown,
    );
    // The admin port answers while the spool is opened, which takes long where it is damaged: a probe must
    // not have the process killed, again and again, in the middle of that.
    let opened = tokio::select! {
        opened = Ingest::open(&service, tls, metrics) => opened,
        () = service.shutdown.cancelled() => Err(None),
    };
    let ingest = match opened {
        Ok(ingest) => ingest,
        Err(failure) => return ended_early(&service, failure).await,
    };
    ingest.follow(watcher);
    let threads = match serving_threads(&service.settings) {
        Ok(threads) => threads,
        Err(failure) => return ended_early(&service, Some(failure)).await,
    };
    let server = tokio::spawn(server::serve(
        Arc::clone(&ingest.receiver),
        (listener, threads.runtimes()),
        ingest.tls.clone(),
        service.shutdown.clone(),
    ));

    // Verify and serve.
    let outcome = ingest.serve(&service, credentials).await;

    // Drain.
    let leaving = "shutting down".to_owned();
    service.readiness.set("serving", Err(leaving));
    if outcome.is_ok() {
        ingest.drain(server).await;
    } else {
        // The failure is permanent for this process, so no request waits for its end.
        server.abort();
    }

    close(&service, threads, ingest).await;
    outcome
}

async fn close(service: &Service, mut threads: Threads, ingest: Ingest) {
    service.closed.cancel();
    // Together: a Collector that hangs must not keep the spool from closing in time.
    tokio::join!(service.telemetry.close(), async {
        threads.end(THREADS_END_TIMEOUT).await;
        ingest.close().await;
    });
}

fn serving_threads(settings: &Settings) -> Result<Threads, Failure> {
    let count = threads::count(settings.ingest.threads);
    tracing::info!(threads = count, "threads serve");
    Threads::start(count)
        .map_err(|error| Failure::Restart(format!("a serving thread cannot be started: {error}")))
}

/// Closes what is open before there is a spool.
async fn ended_early(service: &Service, failure: Option<Failure>) -> Result<(), Failure> {
    service.closed.cancel();
    service.telemetry.close().await;
    failure.map_or(Ok(()), Err)
}

pub(crate) fn producer(
    settings: &Settings,
    r#use: Use,
    metrics: &Metrics,
) -> Result<Kafka, Failure> {
    Kafka::new(settings, r#use, metrics.delivery().clone())
        .map_err(|faults| Failure::config(&faults))
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
        Ok(spool) => {
            spool.share(settings);
            Ok(Some(Arc::new(spool)))
        }
        // The previous process may be about to end.
        Err(error) if error.is_in_use() => Err(Failure::Restart(format!("the spool: {error}"))),
        Err(error) => Err(Failure::Config(vec![format!("ingest.spool.dir: {error}")])),
    }
}

/// The parts of ingest. They are opened and closed together.
struct Ingest {
    tls: Option<Arc<Tls>>,
    publisher: Arc<Kafka>,
    spool: Option<Arc<Spool>>,
    durable: Arc<Durable<Kafka>>,
    receiver: Arc<Receiver<Kafka>>,
    /// The producer of the spool's drain, kept so that it ends with the live one and on no serving thread.
    drain: OnceLock<Arc<Kafka>>,
}

impl Ingest {
    async fn open(
        service: &Service,
        tls: Option<Arc<Tls>>,
        metrics: Metrics,
    ) -> Result<Self, Option<Failure>> {
        let settings = &service.settings;
        let publisher = Arc::new(producer(settings, Use::Live, &metrics)?);
        let (settings_of_spool, its_metrics) = (Arc::clone(settings), metrics.clone());
        let opened = tokio::task::spawn_blocking(move || {
            open_spool(&settings_of_spool, &its_metrics, Spool::open)
        });
        let panicked = |error| Failure::Restart(format!("opening the spool panicked: {error}"));
        let spool = opened.await.map_err(panicked)??;
        let durable = Arc::new(Durable::new(
            Arc::clone(&publisher),
            spool.clone(),
            metrics.clone(),
            settings.ingest.ack_timeout,
        ));
        let config = Config::new(settings);
        let traces = service.telemetry.traces();
        let receiver = Receiver::new(config, Arc::clone(&durable), metrics, traces);
        let receiver = Arc::new(receiver);
        Ok(Self {
            tls,
            publisher,
            spool,
            durable,
            receiver,
            drain: OnceLock::new(),
        })
    }

    /// Puts changed settings in force.
    fn follow(&self, watcher: Watcher) {
        let receiver = Arc::downgrade(&self.receiver);
        let (spool, tls) = (self.spool.clone(), self.tls.clone());
        watcher.spawn(move |settings| {
            // First, because they can fail.
            descriptors::allow(settings).map_err(|fault| ApplyError::Faults(vec![fault]))?;
            if let Some(tls) = &tls {
                tls.change(settings).map_err(ApplyError::Faults)?;
            }
            if let Some(receiver) = receiver.upgrade() {
                receiver.configure(Config::new(settings));
            }
            if let (Some(spool), Some(changed)) = (&spool, &settings.ingest.spool) {
                spool.drain_older(changed.drain_older);
                spool.share(settings);
            }
            Ok(())
        });
    }

    /// Verifies the topics, then keeps the readiness true to Kafka and the spool until the shutdown.
    async fn serve(&self, service: &Service, credentials: Credentials) -> Result<(), Failure> {
        let verified = tokio::select! {
            verified = self.verified(service) => verified,
            () = service.shutdown.cancelled() => return Ok(()),
        };
        verified?;
        self.durable.verified();
        self.start_drain(service)?;
        let drain = self.drain.get();
        let _watching = self.follow_credentials(service, credentials, drain);
        service.readiness.set("topics", Ok(()));
        loop {
            let probed = Arc::clone(&self.publisher);
            let probe = tokio::task::spawn_blocking(move || {
                probed
                    .probe(PROBE_INTERVAL)
                    .and_then(|()| probed.delivering())
            });
            let state = tokio::select! {
                state = probe => state.unwrap_or_else(|error| Err(error.to_string())),
                // Not ready at once: the probe may wait for brokers that do not answer.
                () = service.shutdown.cancelled() => return Ok(()),
            };
            let drained = drain.and_then(|kafka| kafka.fatal());
            if let Some(reason) = self.publisher.fatal().or(drained) {
                return Err(Failure::Restart(format!(
                    "the producer is broken: {reason}"
                )));
            }
            self.set_ready(&service.readiness, state);
            self.publisher.report_clock(&service.readiness);
            self.receiver.count_buffered();
            tokio::select! {
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
                () = service.shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Verifies the topics. Meanwhile requests go to the spool, if there is one.
    async fn verified(&self, service: &Service) -> Result<(), Failure> {
        let verify = verify(&service.settings, &service.readiness);
        tokio::pin!(verify);
        loop {
            tokio::select! {
                verified = &mut verify => return verified,
                () = tokio::time::sleep(PROBE_INTERVAL) => {
                    if self.spool.is_some() {
                        service.readiness.set("topics", Ok(()));
                        let reason = "the topics are not verified yet".to_owned();
                        self.set_ready(&service.readiness, Err(reason));
                    }
                }
            }
        }
    }

    fn start_drain(&self, service: &Service) -> Result<(), Failure> {
        let Some(spool) = &self.spool else {
            return Ok(());
        };
        let metrics = self.receiver.metrics();
        let kafka = Arc::new(producer(&service.settings, Use::Drain, metrics)?);
        let kafka = self.drain.get_or_init(|| kafka);
        let drain = Drain::new(Arc::clone(spool), Arc::clone(kafka));
        // The spool is drained while the server drains.
        tokio::spawn(drain.run(service.closed.child_token()));
        Ok(())
    }

    /// Makes the producers again when their credentials change.
    fn follow_credentials(
        &self,
        service: &Service,
        credentials: Credentials,
        drain: Option<&Arc<Kafka>>,
    ) -> Watching {
        let settings = Arc::clone(&service.settings);
        let live = Arc::clone(&self.publisher);
        let producers: Vec<Arc<Kafka>> = [live].into_iter().chain(drain.cloned()).collect();
        let renewed = Arc::clone(&settings);
        credentials.watch(settings, move |base| {
            let renew = |kafka: &Arc<Kafka>| kafka.renew(&renewed, base);
            producers
                .iter()
                .try_for_each(renew)
                .map_err(ApplyError::Faults)
        })
    }

    fn set_ready(&self, readiness: &Readiness, kafka: Result<(), String>) {
        // Without a spool it is Kafka's readiness and no other.
        let condition = if self.spool.is_some() {
            "durable"
        } else {
            "kafka"
        };
        readiness.set(condition, self.durable.ready(kafka));
    }

    /// Lets the server finish open requests and the producer send its records.
    async fn drain(&self, server: JoinHandle<()>) {
        if let Err(error) = server.await {
            tracing::error!(%error, "the server panicked: report this");
        }
        let until = Instant::now() + FLUSH_TIMEOUT;
        // Requests whose senders have hung up.
        while self.durable.unanswered() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = until.saturating_duration_since(Instant::now());
        let publisher = Arc::clone(&self.publisher);
        let flushed = tokio::task::spawn_blocking(move || publisher.flush(left)).await;
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
        let left = |spool: &Arc<Spool>| spool.records() + spool.aside();
        let records = self.spool.as_ref().map_or(0, left);
        if records > 0 {
            tracing::warn!(
                records,
                "the spool is not empty; its records wait for the next start or for sluice-ingest drain"
            );
        }
    }

    /// Closes the producers and the spool, with a bound: librdkafka's threads or the disk may hang.
    async fn close(self) {
        let Self {
            publisher,
            spool,
            durable,
            receiver,
            drain,
            ..
        } = self;
        drop((durable, receiver));
        let closed = tokio::task::spawn_blocking(move || {
            drop(publisher);
            if let Some(spool) = spool {
                spool.close();
            }
            drop(drain);
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!(
                "the producers or the spool did not close within 2 s; the process ends without waiting"
            );
        }
    }
}
