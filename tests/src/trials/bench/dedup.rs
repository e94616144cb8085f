//! A partition with a long memory: how long its restore takes, what a key costs, and what a lookup.
//!
//! The restore's floor is a bare consumer of the same bytes; the memory's is a bare hash set of the
//! same keys. Each runs in a process of its own, in turns with ours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Serialize;
use serde_json::json;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::identities::Identities;

mod log;
mod memory;
mod restore;

use restore::Restore;

/// The partition with the long memory.
const LONG: i32 = 0;

/// The partition that must go on meanwhile.
const OTHER: i32 = 1;

/// The longest window, as the settings have it by default, in seconds.
const WINDOW: u32 = 72 * 3600;

/// What the benchmark is asked for.
#[derive(clap::Args)]
pub struct Options {
    /// Identities in the dedup-log of one partition.
    #[arg(long, default_value_t = 20_000_000)]
    identities: u64,
    /// Entries in a record of the dedup-log; the processor writes one a transaction, of 5,000 at most.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    entries: u64,
    /// Rounds: floors and ours run in turns this often.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Signed requests a second on the other partition.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Begins the generator of the identities.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    seed: u64,
    expected: Expected,
    restore: Restore,
    memory: memory::Memories,
    elapsed_seconds: f64,
}

/// What is expected at most, as issue 4 has it.
#[derive(Serialize)]
struct Expected {
    restore_ratio: f64,
    bytes_a_key: f64,
    lookup_ratio: f64,
}

const EXPECTED: Expected = Expected {
    restore_ratio: 2.0,
    bytes_a_key: 48.0,
    lookup_ratio: 1.5,
};

/// Runs it; whether what is expected holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    ensure!(options.rounds > 0, "there must be a round");
    // First, while no broker shares the processor's caches.
    let memory = memory::measure(options)?;
    eprintln!("starting Kafka");
    let cluster = Cluster::start(1, Purpose::Bench)?;
    let restore = measured_restore(&cluster.bootstrap(), options)?;
    let holds = restore.ratio <= EXPECTED.restore_ratio
        && restore.elsewhere > 0
        && restore.peak_bytes_a_key <= EXPECTED.bytes_a_key
        && memory.hit_ratio <= EXPECTED.lookup_ratio
        && memory.miss_ratio <= EXPECTED.lookup_ratio;
    let report = Report {
        holds,
        seed: options.seed,
        expected: EXPECTED,
        restore,
        memory,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(holds)
}

fn measured_restore(bootstrap: &str, options: &Options) -> Result<Restore> {
    let mut site = Site::new("dedup.", bootstrap)?;
    site.set(&["topics", "partitions"], json!(2));
    site.set(&["processor", "workers"], json!(1));
    // Ingest and a first processor make the topics.
    {
        let mut ingest = site.ingest()?;
        ingest.wait_ready()?;
        let mut processor = site.processor("maker")?;
        processor.wait_ready()?;
        processor.stop()?;
        ingest.stop()?;
    }
    let identities = Identities {
        seed: options.seed,
        count: options.identities,
        newest: u32::try_from(now())?,
        window: WINDOW,
    };
    let made = log::write(&site, &identities, options.entries)?;
    restore::measure(&site, &made, options)
}

/// The floor of the restore: reads a partition from its start until its end is reported, tells
/// `read BYTES RECORDS NANOS`, and stays. The client is set as the restorer's is. With `keep`, the
/// bytes stay in memory: what fresh memory costs is the machine's affair, and a restore needs as much.
pub fn read(bootstrap: &str, topic: &str, partition: i32, keep: bool) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "floor-read")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let patience = Duration::from_secs(10);
    // The restorer has been connected for long when it begins.
    let (low, _) = consumer.fetch_watermarks(topic, partition, patience)?;
    let start = Instant::now();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(low))?;
    consumer.assign(&list)?;
    let (mut bytes, mut records) = (0, 0);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        match consumer.poll(patience).context("nothing came")? {
            Ok(message) => {
                bytes += message.payload_len();
                records += 1;
                if keep {
                    kept.push(message.payload().unwrap_or_default().to_vec());
                }
            }
            Err(KafkaError::PartitionEOF(_)) => break,
            Err(error) => bail!(error),
        }
    }
    println!("read {bytes} {records} {}", start.elapsed().as_nanos());
    std::hint::black_box(&kept);
    loop {
        std::thread::park();
    }
}
