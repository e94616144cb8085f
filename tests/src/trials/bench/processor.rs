//! The processor next to a bare transactional copy, over the same raw records.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::json;
use sluice_schemas::metric::processor::FATES;
use sluice_schemas::providers::partition_key;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest, TRACEPARENT};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::metrics::{cpu_time, peak_memory};
use sluice_tests::harness::offsets::create_topic;

use super::children::{Floor, FloorProcess, measure_of};
use super::measure::{Measure, Options};

/// Partitions of raw: one worker reads them all, as one copy does.
const PARTITIONS: i32 = 6;

/// How long the work may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often progress is looked at: the error of the time that is measured.
const LOOK: Duration = Duration::from_millis(20);

/// Ours, then the floor.
pub fn round(bootstrap: &str, round: u32, options: &Options) -> Result<(Measure, Measure)> {
    let mut site = Site::new(&format!("processor{round}."), bootstrap)?;
    prepare(&mut site, options.records)?;
    let floor = copy(&site, options.records, round)?;
    let ours = process(&site, options.records)?;
    Ok((ours, floor))
}

/// Ours alone, on a site of its own.
pub fn alone(site: &mut Site, options: &Options) -> Result<Measure> {
    prepare(site, options.records)?;
    process(site, options.records)
}

/// Makes the topics, and fills raw.
pub(super) fn prepare(site: &mut Site, records: u64) -> Result<()> {
    site.set(&["topics", "partitions"], json!(PARTITIONS));
    site.set(&["processor", "workers"], json!(1));
    // Ingest makes the topics, and is not needed after that.
    {
        let mut ingest = site.ingest()?;
        ingest.wait_ready()?;
        let mut processor = site.processor("maker")?;
        processor.wait_ready()?;
        processor.stop()?;
        ingest.stop()?;
    }
    eprintln!("filling raw with {records} records");
    fill(site, records)
}

/// Writes raw records as ingest does, without HTTP.
fn fill(site: &Site, records: u64) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("partitioner", "murmur2_random")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .create()?;
    let raw = site.names().raw();
    let at = now();
    for n in 0..records {
        let source = &site.sources[usize::try_from(n)? % site.sources.len()];
        let events = source.samples()?;
        let event = events[usize::try_from(n)? / site.sources.len() % events.len()];
        let request = source.signed(event, n, at)?;
        let raw_request = raw_request(source, &request, n, at);
        let verifier = verifier(source.provider()?);
        let key = partition_key(verifier.as_ref(), &raw_request.headers, &request.body);
        let headers = [
            (REQUEST, raw_request.encode()),
            (TRACEPARENT, traceparent(n).into_bytes()),
        ];
        let mut owned = OwnedHeaders::new_with_capacity(2);
        for (key, value) in &headers {
            owned = owned.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut record = BaseRecord::to(&raw)
            .key(key.as_slice())
            .payload(request.body.as_ref())
            .headers(owned);
        while let Err((error, back)) = producer.send(record) {
            if !matches!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            ) {
                return Err(error.into());
            }
            record = back;
            std::thread::sleep(LOOK);
        }
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

/// One in a hundred is sampled, as by default.
fn traceparent(n: u64) -> String {
    let flags = u8::from(n % 100 == 7);
    format!("00-{n:032x}-{n:016x}-{flags:02x}")
}

/// A request as ingest would write it.
pub(super) fn raw_request(source: &Source, request: &Outgoing, n: u64, at: i64) -> RawRequest {
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    RawRequest {
        id: uuid::Uuid::from_u128(0x0193_5b7a_0000_7000_8000_0000_0000_0000 | u128::from(n)),
        source: source.name.clone(),
        provider: source.provider.to_owned(),
        received_at: at * 1_000_000,
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{}", source.name),
        peer: std::net::IpAddr::from([127, 0, 0, 1]),
        token: source.token.is_some(),
        ack: Ack::Broker,
        headers: Headers(headers),
    }
}

fn copy(site: &Site, records: u64, round: u32) -> Result<Measure> {
    let to = format!("floor{round}.copy");
    create_topic(site.bootstrap(), &to, 3, &[])?;
    let mut floor = FloorProcess::start(&Floor::Copy {
        bootstrap: site.bootstrap().to_owned(),
        from: site.names().raw(),
        to,
        records,
    })?;
    let deadline = Instant::now() + PATIENCE;
    let line = loop {
        let output = floor.output()?;
        if let Some(line) = output.lines().find_map(|line| line.strip_prefix("copied ")) {
            break line.to_owned();
        }
        if Instant::now() > deadline {
            bail!("the copy did not end: {output}");
        }
        std::thread::sleep(LOOK);
    };
    let (first, nanos) = line.split_once(' ').context("two numbers")?;
    let done = records - first.parse::<u64>()?;
    let time = Duration::from_nanos(nanos.parse()?);
    let all = measure_of(
        records,
        time,
        cpu_time(floor.id())?,
        peak_memory(floor.id())?,
    );
    Ok(Measure {
        per_second: measure_of(done, time, Duration::ZERO, 0).per_second,
        ..all
    })
}

/// From the first committed batch to the last, as the floor: joining the group is not measured.
fn process(site: &Site, records: u64) -> Result<Measure> {
    let mut processor = site.processor("bench")?;
    processor.wait_ready()?;
    let deadline = Instant::now() + PATIENCE;
    let counter = FATES.exposed();
    let mut first: Option<(u64, Instant)> = None;
    let (done, time) = loop {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter of at most some millions"
        )]
        let ended = processor.metrics()?.sum(&counter, &[]) as u64;
        let now = Instant::now();
        if let (true, Some((count, since))) = (ended >= records, first) {
            break (records - count, now - since);
        }
        if ended > 0 && first.is_none() {
            first = Some((ended, now));
        }
        if now > deadline {
            bail!("{ended} of {records} ended in time");
        }
        std::thread::sleep(LOOK);
    };
    let events = processor.metrics()?.sum(&counter, &[("fate", "event")]);
    eprintln!("{events} of {records} became events");
    let all = measure_of(
        records,
        time,
        cpu_time(processor.id())?,
        peak_memory(processor.id())?,
    );
    processor.stop()?;
    Ok(Measure {
        per_second: measure_of(done, time, Duration::ZERO, 0).per_second,
        ..all
    })
}
