//! The topics as a reader of ours sees them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::ClientConfig;
use sluice_service::kafka::read;

pub use sluice_schemas::record::Record;
pub use sluice_service::kafka::read::Isolation;

/// The longest that reading one topic to its end may take.
const END: Duration = Duration::from_secs(120);

/// Reads on and on, from the beginning, and keeps what it read.
pub struct Reader {
    reader: read::Reader,
    /// What was read; the records of a partition stand in their order.
    pub records: Vec<Record>,
}

impl Reader {
    /// A reader of all partitions of these topics, which must exist.
    pub fn new(bootstrap: &str, topics: &[String], isolation: Isolation) -> Result<Self> {
        Ok(Self {
            reader: read::Reader::new(&base(bootstrap), topics, isolation)?,
            records: Vec::new(),
        })
    }

    /// Waits for one record at most this long; whether one came.
    pub fn poll(&mut self, wait: Duration) -> Result<bool> {
        let record = self.reader.next(wait)?;
        let came = record.is_some();
        self.records.extend(record);
        Ok(came)
    }

    /// Reads until `done` says so of all that was read.
    pub fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&[Record]) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        while !done(&self.records) {
            if Instant::now() >= end {
                bail!(
                    "read {patience:?} for {what}, in vain: {:?}",
                    census(&self.records)
                );
            }
            self.poll(Duration::from_millis(100))?;
        }
        Ok(())
    }
}

/// Reads topics from their beginnings to their ends.
pub fn read(bootstrap: &str, topics: &[String], isolation: Isolation) -> Result<Vec<Record>> {
    Ok(read::read(&base(bootstrap), topics, isolation, END)?)
}

/// The topics whose names begin with a prefix, sorted.
pub fn with_prefix(bootstrap: &str, prefix: &str) -> Result<Vec<String>> {
    Ok(read::topics_with_prefix(&base(bootstrap), prefix)?)
}

/// How many records each topic has.
pub fn census(records: &[Record]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record.topic.clone()).or_default() += 1;
    }
    counts
}

/// What a client of the harness has in common with all others.
pub(super) fn base(bootstrap: &str) -> ClientConfig {
    let mut base = ClientConfig::new();
    base.set("bootstrap.servers", bootstrap);
    base
}
