//! `sluice-ingest drain`: emptying a spool without taking requests; `sluice-ingest quarantine`: what it
//! keeps.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use sluice_schemas::identity::sha256;
use sluice_schemas::raw::RawRequest;
use sluice_schemas::settings::Settings;
use sluice_service::admin::Readiness;
use sluice_service::runtime::Failure;

use crate::metrics::Metrics;
use crate::publish::Use;
use crate::raw_topic::verify;
use crate::service::{open_spool, producer};
use crate::spool::drain::Drain;
use crate::spool::record::Stored;
use crate::spool::{Released, Spool};

/// Drains the spool that the settings name, without taking requests: for one that a pod left behind.
///
/// # Errors
/// What blocks the drain; the other records stay in the spool.
///
/// What is in quarantine stays there, unless it is `released`.
pub async fn drain_only(
    settings: &Settings,
    older: bool,
    released: Option<Released>,
) -> Result<Drained, Failure> {
    let metrics = Metrics::new(&mut Registry::default());
    let spool = open(settings, &metrics)?;
    if older {
        spool.drain_older(true);
    }
    let before = spool.records() + spool.quarantined();
    verify(settings, &Readiness::default()).await?;
    let publisher = Arc::new(producer(settings, Use::Drain, &metrics)?);
    let drain = || Drain::new(Arc::clone(&spool), Arc::clone(&publisher)).until_empty();
    let mut outcome = drain().await;
    if let Some(released) = released.filter(|_| outcome.is_ok()) {
        let count = spool.release(released).await;
        count.map_err(|error| Failure::Restart(format!("the spool: {error}")))?;
        outcome = drain().await;
    }
    let aside = spool.aside();
    let left = spool.records() + aside;
    if aside > 0 && outcome.is_ok() {
        outcome = Err(format!(
            "{aside} records are older than max_age: --older brings them to Kafka"
        ));
    }
    let refused = spool.quarantined();
    let _ = tokio::task::spawn_blocking(move || spool.close()).await;
    Ok(Drained {
        // What went into quarantine now, or back into it, is not on Kafka.
        drained: before.saturating_sub(left + refused),
        left,
        refused,
        stopped: outcome.err(),
    })
}

fn open(settings: &Settings, metrics: &Metrics) -> Result<Arc<Spool>, Failure> {
    open_spool(settings, metrics, Spool::open_whole)?.ok_or_else(|| {
        let line = "ingest.spool.dir: is not set, so there is no spool to drain".to_owned();
        Failure::Config(vec![line])
    })
}

/// Prints what is in quarantine, a JSON object for each record. Its body is not printed.
///
/// # Errors
/// The spool cannot be opened or read.
pub fn list_quarantine(settings: &Settings) -> Result<(), Failure> {
    let spool = open(settings, &Metrics::new(&mut Registry::default()))?;
    let listed = spool.quarantine(&mut |(number, bytes, why)| {
        let stored = Stored::of_any_number(bytes).ok().map(|(_, stored)| stored);
        let request = stored.as_ref();
        let request = request.and_then(|stored| RawRequest::decode(stored.record().request).ok());
        let line = serde_json::json!({
            "number": number,
            "why": why,
            "bytes": bytes.len(),
            "received_at": stored.as_ref().map(|stored| stored.received_at),
            "body_sha256": stored.as_ref().map(|stored| hex::encode(sha256(stored.record().value))),
            "id": request.as_ref().map(|request| request.id.to_string()),
            "source": request.as_ref().map(|request| &request.source),
            "token": request.as_ref().map(|request| request.token),
            "peer": request.as_ref().map(|request| request.peer),
            "target": request.as_ref().map(|request| &request.target),
        });
        println!("{line}");
    });
    listed.map_err(|error| Failure::Restart(format!("the spool: {error}")))
}

/// The result of [`drain_only`].
#[derive(Debug)]
pub struct Drained {
    /// Records that Kafka has now.
    pub drained: u64,
    /// Records still in the spool.
    pub left: u64,
    /// Records in quarantine: Kafka refuses them for good, or they are damaged.
    pub refused: u64,
    /// What blocked the rest.
    pub stopped: Option<String>,
}

impl Drained {
    /// As one line for a program to read.
    pub fn json(&self) -> String {
        let Self {
            drained,
            left,
            refused,
            stopped,
        } = self;
        serde_json::json!({
            "drained": drained,
            "left": left,
            "refused": refused,
            "stopped": stopped,
        })
        .to_string()
    }
}
