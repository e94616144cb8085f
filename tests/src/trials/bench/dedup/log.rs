//! Makes a dedup-log of many identities as a processor would have written it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer,
};
use sluice_schemas::dedup_log::DedupRecord;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets;
use sluice_tests::identities::Identities;

use super::LONG;

/// How long one call of a producer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a transaction's records are looked at.
const LOOK: Duration = Duration::from_micros(200);

/// How often a person is told.
const TELL: u64 = 1_000;

/// What was made.
pub struct Made {
    /// Identities in the log.
    pub identities: u64,
    /// Records of the log, and of raw before the committed offset.
    pub records: u64,
    /// Bytes of the log's records.
    pub bytes: usize,
}

/// Writes the log, each record in a transaction of its own, and the state around it: as many records
/// on raw as the log says were judged, and the group's offset behind them. A log record says that one
/// raw record was judged, so that raw need not have 20 million of them; nothing reads those.
pub fn write(site: &Site, identities: &Identities, entries: u64) -> Result<Made> {
    let records = identities.count.div_ceil(entries);
    eprintln!(
        "writing a dedup-log of {} identities in {records} transactions",
        identities.count
    );
    let start = Instant::now();
    let topic = site.names().dedup_log();
    let producer = transactional(site)?;
    let mut bytes = 0;
    for record in 0..records {
        let from = i64::try_from(record)?;
        let first = record * entries;
        let last = (first + entries).min(identities.count);
        let value = DedupRecord {
            from,
            to: from + 1,
            partitions: 2,
            entries: (first..last).map(|n| identities.entry(n)).collect(),
        }
        .encode();
        bytes += value.len();
        producer.begin_transaction()?;
        let record_to: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&topic).partition(LONG).payload(&value);
        producer.send(record_to).map_err(|(error, _)| error)?;
        while producer.in_flight_count() > 0 {
            producer.poll(LOOK);
        }
        producer.commit_transaction(PATIENCE)?;
        if (record + 1) % TELL == 0 {
            let seconds = start.elapsed().as_secs();
            eprintln!("{} of {records} transactions, {seconds} s", record + 1);
        }
    }
    judged(site, records)?;
    Ok(Made {
        identities: identities.count,
        records,
        bytes,
    })
}

/// As the processor's producer is set.
fn transactional(site: &Site) -> Result<BaseProducer> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("transactional.id", format!("{}-log", site.group()))
        .set("retry.backoff.ms", "5")
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        .create()?;
    producer.init_transactions(PATIENCE)?;
    Ok(producer)
}

/// Raw's records before the committed offset, and that offset.
fn judged(site: &Site, records: u64) -> Result<()> {
    let raw = site.names().raw();
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()?;
    for _ in 0..records {
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&raw).partition(LONG).payload(b"{}");
        producer.send(record).map_err(|(error, _)| error)?;
        // Far below what the client's queue holds.
        if producer.in_flight_count() > 50_000 {
            producer.flush(PATIENCE)?;
        }
    }
    producer.flush(PATIENCE)?;
    let end = offsets::ends(site.bootstrap(), &raw)?[0];
    ensure!(end == i64::try_from(records)?, "raw ends at {end}");
    offsets::commit(site.bootstrap(), &site.group(), &raw, &[(LONG, end)])
}
