//! The spool of ingest, seen from outside.

use sluice_tests::harness::metrics::Samples;

/// The gauge and the counter of the spool.
pub const SPOOL_RECORDS: &str = "sluice_ingest_spool_records";
const SPOOLED: &str = "sluice_ingest_spooled_total";

/// The spool as its metrics report it, over all processes that had it.
#[derive(Debug, Default)]
pub struct Spool {
    /// Records in it; `None` where no process reported it.
    pub now: Option<f64>,
    /// The most that were seen.
    pub most: f64,
    /// Counted by processes that ended.
    ended: f64,
    counted: f64,
}

impl Spool {
    /// Takes note of the metrics of the process that has it now; `None` where there is none.
    pub fn look(&mut self, samples: Option<&Samples>) {
        let Some(samples) = samples else {
            self.now = None;
            return;
        };
        let present = samples.named(SPOOL_RECORDS).next().is_some();
        self.now = present.then(|| samples.sum(SPOOL_RECORDS, &[]));
        self.most = self.most.max(self.now.unwrap_or(0.0));
        let counted = samples.sum(SPOOLED, &[]);
        if counted < self.counted {
            self.ended += self.counted;
        }
        self.counted = counted;
    }

    /// How many records went into it, by all processes.
    pub fn spooled(&self) -> f64 {
        self.ended + self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_processes_counted_is_kept() {
        let samples = |spooled: u32, records: u32| {
            let text = format!("{SPOOLED} {spooled}\n{SPOOL_RECORDS} {records}\n");
            Samples::parse(&text).expect("samples")
        };
        let mut spool = Spool::default();
        for (spooled, records) in [(5, 5), (9, 9), (3, 12), (4, 0)] {
            spool.look(Some(&samples(spooled, records)));
        }
        assert!((spool.spooled() - 13.0).abs() < 1e-9);
        assert!((spool.most - 12.0).abs() < 1e-9 && spool.now == Some(0.0));
        spool.look(None);
        assert_eq!(spool.now, None);
    }
}
