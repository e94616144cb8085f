//! The restore by the real processor, beside a bare consumer of the same bytes.
//!
//! The processor has caught up with both partitions of raw when the round begins; the long one's
//! memory is not read before its next record comes. That record starts the measure, while the same
//! worker goes on with the other partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde::Serialize;
use serde_json::Value;
use sluice_schemas::metric::FATES;
use sluice_schemas::providers::partition_key;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::raw::REQUEST;
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::metrics::memory;
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::super::children::{Floor, FloorProcess};
use super::super::processor::raw_request;
use super::log::Made;
use super::{LONG, OTHER, Options};

/// How long a restore may take.
const RESTORE: Duration = Duration::from_secs(120);

/// How often it is looked at. What is measured comes from the processor's log, so this costs no error.
const LOOK: Duration = Duration::from_millis(20);

/// The number of the request that comes on the long partition, again in every round.
const AGAIN: u64 = 1_000_000_000;

/// All rounds.
#[derive(Debug, Serialize)]
pub struct Restore {
    identities: u64,
    log_bytes: usize,
    /// The best of each.
    seconds: f64,
    bare_read_seconds: f64,
    /// The same read, and what was read stays in memory.
    keeping_read_seconds: f64,
    pub ratio: f64,
    ratio_to_keeping: f64,
    /// The most that any round took.
    pub peak_bytes_a_key: f64,
    resident_bytes_a_key: f64,
    /// The fewest events that the other partition had during any restore.
    pub elsewhere: u64,
    rounds: Vec<Round>,
}

/// One restore and one bare read.
#[derive(Debug, Serialize)]
struct Round {
    seconds: f64,
    bare_read_seconds: f64,
    keeping_read_seconds: f64,
    peak_bytes_a_key: f64,
    resident_bytes_a_key: f64,
    events_elsewhere: u64,
}

/// Runs the rounds.
pub fn measure(site: &Site, made: &Made, options: &Options) -> Result<Restore> {
    let mut rounds = Vec::new();
    let stream = Stream::start(site, options.rate)?;
    let at = now();
    for round in 1..=options.rounds {
        eprintln!("round {round}: a bare read of the log");
        let bare_read_seconds = bare_read(site, made, round, false)?;
        let keeping_read_seconds = bare_read(site, made, round, true)?;
        eprintln!("round {round}: the processor restores");
        let measured = restore(site, made, round, at)?;
        eprintln!(
            "{:.2} s, and {bare_read_seconds:.2} s bare, {keeping_read_seconds:.2} s with all kept; {} events elsewhere meanwhile",
            measured.seconds, measured.events_elsewhere
        );
        rounds.push(Round {
            bare_read_seconds,
            keeping_read_seconds,
            ..measured
        });
    }
    stream.stop()?;
    let best = |pick: fn(&Round) -> f64| rounds.iter().map(pick).fold(f64::INFINITY, f64::min);
    let most = |pick: fn(&Round) -> f64| rounds.iter().map(pick).fold(0.0, f64::max);
    let seconds = best(|round| round.seconds);
    let bare_read_seconds = best(|round| round.bare_read_seconds);
    let keeping_read_seconds = best(|round| round.keeping_read_seconds);
    let elsewhere = rounds.iter().map(|round| round.events_elsewhere).min();
    Ok(Restore {
        identities: made.identities,
        log_bytes: made.bytes,
        seconds,
        bare_read_seconds,
        keeping_read_seconds,
        ratio: seconds / bare_read_seconds,
        ratio_to_keeping: seconds / keeping_read_seconds,
        peak_bytes_a_key: most(|round| round.peak_bytes_a_key),
        resident_bytes_a_key: most(|round| round.resident_bytes_a_key),
        elsewhere: elsewhere.unwrap_or(0),
        rounds,
    })
}

fn bare_read(site: &Site, made: &Made, round: u32, keep: bool) -> Result<f64> {
    let mut floor = FloorProcess::start(&Floor::Read {
        bootstrap: site.bootstrap().to_owned(),
        topic: site.names().dedup_log(),
        partition: LONG,
        keep,
    })?;
    let line = wait_for("the bare read", RESTORE, || {
        let output = floor.output()?;
        let mut lines = output.lines();
        Ok(lines.find_map(|line| line.strip_prefix("read ").map(str::to_owned)))
    })?;
    let numbers: Vec<u64> = line
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| line.clone())?;
    let [_, records, nanos] = numbers[..] else {
        bail!("three numbers, not {line}");
    };
    // Each round adds the record of the one before, unless that was a duplicate.
    let known = made.records..=made.records + u64::from(round);
    ensure!(known.contains(&records), "{records} records were read");
    Ok(Duration::from_nanos(nanos).as_secs_f64())
}

/// One restore, by a new process.
fn restore(site: &Site, made: &Made, round: u32, at: i64) -> Result<Round> {
    let mut processor = site.processor("bench")?;
    processor.wait_ready()?;
    let before = wait_for("the other partition to be judged", PATIENCE, || {
        let events = events(&processor)?;
        Ok((events > 0).then_some(events))
    })?;
    let pid = processor.id();
    let (peak, resident) = (memory(pid, "VmHWM")?, memory(pid, "VmRSS")?);
    ensure!(
        restored(&processor)?.is_none(),
        "it restored before its time"
    );
    send_again(site, at)?;
    let mut meanwhile = before;
    let until = Instant::now() + RESTORE;
    let line = loop {
        // In this order: what is counted was there before the restore had ended.
        let count = events(&processor)?;
        if let Some(line) = restored(&processor)? {
            break line;
        }
        meanwhile = count;
        ensure!(
            Instant::now() < until,
            "no restore within {RESTORE:?}\n{}",
            processor.log()?
        );
        std::thread::sleep(LOOK);
    };
    judged(site, &processor, made, round)?;
    let each = |field: &str, before: u64| -> Result<f64> {
        Ok(per(
            memory(pid, field)?.saturating_sub(before),
            made.identities,
        ))
    };
    let measured = Round {
        seconds: line["seconds"].as_f64().context("no seconds")?,
        bare_read_seconds: 0.0,
        keeping_read_seconds: 0.0,
        peak_bytes_a_key: each("VmHWM", peak)?,
        resident_bytes_a_key: each("VmRSS", resident)?,
        events_elsewhere: meanwhile - before,
    };
    // The first round's request made an event, and that is remembered since.
    let known = made.identities + u64::from(round > 1);
    ensure!(
        line["identities"] == known,
        "{} of {known} identities were restored",
        line["identities"]
    );
    processor.stop()?;
    Ok(measured)
}

/// The request on the long partition must be judged by the restored memory: an event at first, a
/// duplicate ever after.
fn judged(site: &Site, processor: &Service, made: &Made, round: u32) -> Result<()> {
    let end = i64::try_from(made.records + u64::from(round))?;
    wait_for("the long partition to be judged", PATIENCE, || {
        let raw = site.names().raw();
        let at = offsets::committed(site.bootstrap(), &site.group(), &raw)?;
        Ok((at[0] == Some(end)).then_some(()))
    })?;
    let duplicates = FATES.exposed();
    wait_for("its fate to be counted", PATIENCE, || {
        let counted = processor
            .metrics()?
            .sum(&duplicates, &[("fate", "duplicate")]);
        let wanted = f64::from(u8::from(round > 1));
        Ok(((counted - wanted).abs() < 0.5).then_some(()))
    })
}

/// The processor's own word that the long partition is restored.
fn restored(processor: &Service) -> Result<Option<Value>> {
    let log = processor.log()?;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut lines = lines.filter(|line| line["message"] == "restored" && line["partition"] == LONG);
    Ok(lines.next())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter of at most some millions"
)]
fn events(processor: &Service) -> Result<u64> {
    let name = FATES.exposed();
    Ok(processor.metrics()?.sum(&name, &[("fate", "event")]) as u64)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and counts far below 2^53"
)]
fn per(amount: u64, count: u64) -> f64 {
    amount as f64 / count as f64
}

/// The same request once more, on the long partition.
fn send_again(site: &Site, at: i64) -> Result<()> {
    let producer = producer(site)?;
    let raw = site.names().raw();
    send(&raw, &producer, source(site)?, LONG, AGAIN, at)?;
    producer.flush(PATIENCE)?;
    Ok(())
}

/// Requests that differ, on the other partition, until it is stopped.
struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Stream {
    fn start(site: &Site, rate: u32) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let producer = producer(site)?;
        let source = source(site)?.clone();
        let raw = site.names().raw();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let pause = Duration::from_secs(1) / rate.max(1);
            for n in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                send(&raw, &producer, &source, OTHER, n, now())?;
                std::thread::sleep(pause);
            }
            producer.flush(PATIENCE)?;
            Ok(())
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the stream of requests panicked"))?
    }
}

/// Of a provider whose identities do not depend on the time of sending.
fn source(site: &Site) -> Result<&Source> {
    site.source("referralloop")
}

fn producer(site: &Site) -> Result<ThreadedProducer<DefaultProducerContext>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("enable.idempotence", "true")
        .create()?)
}

/// Writes a signed request as ingest would, to a partition of our choice.
fn send(
    raw: &str,
    producer: &ThreadedProducer<DefaultProducerContext>,
    source: &Source,
    partition: i32,
    n: u64,
    at: i64,
) -> Result<()> {
    let event = source.samples()?.first().context("no event")?;
    let request = source.signed(event, n, at)?;
    let raw_request = raw_request(source, &request, n, at);
    let verifier = verifier(source.provider()?);
    let key = partition_key(verifier.as_ref(), &raw_request.headers, &request.body);
    let encoded = raw_request.encode();
    let headers = OwnedHeaders::new().insert(Header {
        key: REQUEST,
        value: Some(&encoded),
    });
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(raw)
        .partition(partition)
        .key(key.as_slice())
        .payload(request.body.as_ref())
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error)?;
    Ok(())
}
