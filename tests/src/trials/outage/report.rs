//! What an outage has to hold, and what is printed of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sluice_schemas::audit::Verdict;
use sluice_tests::load::lanes::Counts;

/// The share of requests that must be answered with 200.
pub const SHARE: f64 = 0.999;

/// What ninety-nine of a hundred answers may take during the outage, in milliseconds.
pub const P99_MS: f64 = 250.0;

/// From the brokers' return until the spool is empty.
pub const DRAINED: Duration = Duration::from_secs(60);

/// The last line of standard output. Times are from the return of the brokers where not said otherwise.
#[derive(Serialize)]
pub struct Report {
    pub holds: bool,
    pub seed: u64,
    pub rate: u32,
    pub outage_seconds: f64,
    pub attempts: u64,
    /// Answered with 200 of all that were answered, or that had to be.
    pub share: f64,
    pub refused: u64,
    /// No answer, or no connection; expected where ingest is killed, and then in no share.
    pub unanswered: u64,
    pub kills: u64,
    /// Answers during the outage, in milliseconds.
    pub answers: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// A bare write and fsync on the same disk, ten times a second meanwhile.
    pub fsync_p50_ms: f64,
    pub fsync_p99_ms: f64,
    pub fsync_max_ms: f64,
    /// The most records that were seen in the spool, and how many the processes counted.
    pub spool_most: f64,
    pub spooled: f64,
    /// Spooled before the brokers went: they answered too late.
    pub spooled_before: f64,
    /// From their start until the first broker answered, and until all three were in the metadata:
    /// from that moment on the spool's time runs.
    pub brokers_first_seconds: f64,
    pub brokers_all_seconds: f64,
    pub spool_empty_seconds: Option<f64>,
    pub settled_seconds: f64,
    pub ingest_peak_bytes: u64,
    pub ends: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub elapsed_seconds: f64,
}

/// The share of attempts that were answered with 200. A connection that a killed process broke is the
/// kill's doing, and its sender comes again.
pub fn share(counts: &Counts, killed: bool) -> f64 {
    let unanswered = if killed { 0 } else { counts.unanswered };
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts are far below 2 to the 52nd"
    )]
    let parts = (
        counts.acked as f64,
        (counts.acked + counts.refused + unanswered).max(1) as f64,
    );
    parts.0 / parts.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_counts_where_nobody_was_killed() {
        let counts = Counts {
            attempts: 100,
            acked: 90,
            refused: 0,
            unanswered: 10,
        };
        assert!((share(&counts, false) - 0.9).abs() < 1e-9);
        assert!((share(&counts, true) - 1.0).abs() < 1e-9);
    }
}
