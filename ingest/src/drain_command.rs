//! `sluice-ingest drain`: emptying a spool without taking requests.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use sluice_schemas::settings::Settings;
use sluice_service::admin::Readiness;
use sluice_service::runtime::Failure;

use crate::metrics::Metrics;
use crate::publish::Use;
use crate::service::{open_spool, producer, verify};
use crate::spool::Spool;
use crate::spool::drain::Drain;

/// Drains the spool that the settings name, without taking requests: for one that a pod left behind.
///
/// # Errors
/// What blocks the drain; the other records stay in the spool.
pub async fn drain_only(settings: &Settings, older: bool) -> Result<Drained, Failure> {
    let metrics = Metrics::new(&mut Registry::default());
    let Some(spool) = open_spool(settings, &metrics, Spool::open_whole)? else {
        let line = "ingest.spool.dir: is not set, so there is no spool to drain".to_owned();
        return Err(Failure::Config(vec![line]));
    };
    if older {
        spool.drain_older(true);
    }
    let found = spool.records();
    verify(settings, &Readiness::default()).await?;
    let publisher = Arc::new(producer(settings, Use::Drain, &metrics)?);
    let outcome = Drain::new(Arc::clone(&spool), publisher)
        .until_empty()
        .await;
    let left = spool.records();
    let refused = spool.quarantined();
    let _ = tokio::task::spawn_blocking(move || spool.close()).await;
    Ok(Drained {
        drained: found.saturating_sub(left),
        left,
        refused,
        stopped: outcome.err(),
    })
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
