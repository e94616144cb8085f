//! The sums of what came in and of what became of it.

use std::time::Duration;

use crate::harness::process::Service;
use crate::harness::wait::wait_for;
use anyhow::Result;
use serde::Serialize;

/// Records, by where they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Balance {
    /// Made durable, on raw or in the spool.
    pub accepted: f64,
    /// Events, duplicates, rejected, dead letters.
    pub fates: [f64; 4],
    /// On raw, without a committed fate.
    pub uncommitted: f64,
    /// In the spool, those in quarantine too.
    pub spooled: f64,
}

impl Balance {
    /// Whether what came in is what is somewhere.
    pub fn holds(&self) -> bool {
        let found = self.fates.iter().sum::<f64>() + self.uncommitted + self.spooled;
        self.accepted > 0.0 && (self.accepted - found).abs() < 0.5
    }
}

/// How old the lag may be that the processor shows.
const LAG_INTERVAL: Duration = Duration::from_secs(6);

/// The sums once nothing moves any more; those of now where that does not come.
pub fn balance(ingest: &Service, processor: &Service, patience: Duration) -> Result<Balance> {
    let mut before = None;
    wait_for("the sums to come to rest", patience, || {
        let now = sums(ingest, processor)?;
        let at_rest = now.uncommitted == 0.0 && now.spooled == 0.0 && before == Some(now);
        before = Some(now);
        std::thread::sleep(LAG_INTERVAL);
        Ok(at_rest.then_some(now))
    })
    .or_else(|_| sums(ingest, processor))
}

fn sums(ingest: &Service, processor: &Service) -> Result<Balance> {
    let (edge, engine) = (ingest.metrics()?, processor.metrics()?);
    let fate = |fate| engine.sum("sluice_fates_total", &[("fate", fate)]);
    Ok(Balance {
        accepted: edge.sum("sluice_ingest_accepted_total", &[]),
        fates: ["event", "duplicate", "rejected", "dead_letter"].map(fate),
        uncommitted: engine.sum("sluice_raw_lag_records", &[]),
        spooled: edge.sum("sluice_ingest_spool_records", &[])
            + edge.sum("sluice_ingest_spool_refused", &[])
            + edge.sum("sluice_ingest_spool_older", &[]),
    })
}
