//! Keys that the dedup indexes restore: records at the end of the dedup-log that judged nothing and have
//! entries all the same. Ours are of no webhook, and as good to look up among.

use anyhow::{Context, Result};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use sluice_schemas::dedup_log::{DedupRecord, Entry, SEEN};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::offsets::committed;
use sluice_tests::load::raw::Writer;

/// How many entries a record has: as many as a full batch.
const RECORD: u64 = 5_000;

/// Adds so many keys, over all partitions alike. All records of raw must be committed, and no processor run.
pub fn add(site: &Site, writer: &Writer, keys: u64) -> Result<()> {
    let at = committed(site.bootstrap(), &site.group(), &site.names().raw())?;
    let partitions = u32::try_from(at.len())?;
    let appended = u32::try_from(now())?;
    let log = site.names().dedup_log();
    for (n, first) in (0..keys).step_by(usize::try_from(RECORD)?).enumerate() {
        let partition = n % at.len();
        let end = at[partition].context("a partition without an offset")?;
        let identities = first..(first + RECORD).min(keys);
        let record = DedupRecord {
            from: end,
            to: end,
            partitions,
            entries: identities.map(|n| Entry::numbered(n, appended)).collect(),
        };
        let value = record.encode();
        let seen = end.to_string();
        let seen = Header {
            key: SEEN,
            value: Some(&seen),
        };
        let record = BaseRecord::<[u8], [u8]>::to(&log)
            .partition(i32::try_from(partition)?)
            .headers(OwnedHeaders::new().insert(seen));
        writer.send(record.payload(&value))?;
    }
    writer.flush()
}
