//! From the request to its event as a reader sees it, next to a bare produce and consume.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use serde_json::json;
use sluice_service::kafka::read::record;
use sluice_tests::harness::client::Client;
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::offsets::{bounds, create_topic};
use sluice_tests::harness::topics::{Record, with_prefix};
use sluice_tests::load::times::Times;

use super::measure::Options;

/// How long the last one may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Milliseconds.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    p50_ms: f64,
    p99_ms: f64,
}

/// From request to event, and the floor.
#[derive(Debug, Serialize)]
pub struct Latencies {
    requests_per_second: u32,
    requests: u32,
    receive_to_event: Percentiles,
    produce_to_consume: Percentiles,
}

/// Measures both, one after the other.
pub fn measure(bootstrap: &str, options: &Options) -> Result<Latencies> {
    Ok(Latencies {
        requests_per_second: options.latency_rate,
        requests: options.latency_requests,
        produce_to_consume: floor(bootstrap, options)?,
        receive_to_event: ours(bootstrap, options)?,
    })
}

fn percentiles(times: Vec<Duration>) -> Result<Percentiles> {
    anyhow::ensure!(!times.is_empty(), "nothing was measured");
    let times: Times = times.into_iter().collect();
    Ok(Percentiles {
        p50_ms: times.percentile_ms(50.0),
        p99_ms: times.percentile_ms(99.0),
    })
}

/// A reader of topics from where they end now, on a thread: it sends each record with its time of arrival.
fn reader(bootstrap: &str, topics: &[String], told: Sender<(Record, Instant)>) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "latency")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for (partition, (_, end)) in (0..).zip(bounds(bootstrap, topic)?) {
            list.add_partition_offset(topic, partition, Offset::Offset(end))?;
        }
    }
    consumer.assign(&list)?;
    std::thread::spawn(move || {
        loop {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let came = Instant::now();
            if told.send((record(&message), came)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// When number `n` is due, at an even pace.
fn due(start: Instant, n: u32, options: &Options) -> Instant {
    start + Duration::from_secs(1) * n / options.latency_rate.max(1)
}

fn floor(bootstrap: &str, options: &Options) -> Result<Percentiles> {
    let topic = "floor.latency".to_owned();
    create_topic(bootstrap, &topic, 3, &[])?;
    let (told, tells) = channel();
    reader(bootstrap, std::slice::from_ref(&topic), told)?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()?;
    let body = vec![b'x'; 500];
    let start = Instant::now() + Duration::from_secs(1);
    let mut sent = Vec::new();
    for n in 0..options.latency_requests {
        std::thread::sleep(due(start, n, options).saturating_duration_since(Instant::now()));
        sent.push(Instant::now());
        let key = n.to_be_bytes();
        let record = BaseRecord::to(&topic).key(&key).payload(&body);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    let mut times = Vec::new();
    while times.len() < sent.len() {
        let (record, came) = tells.recv_timeout(PATIENCE)?;
        let key: [u8; 4] = record.key.as_slice().try_into()?;
        times.push(came - sent[usize::try_from(u32::from_be_bytes(key))?]);
    }
    percentiles(times)
}

fn ours(bootstrap: &str, options: &Options) -> Result<Percentiles> {
    let mut site = Site::new("latency.", bootstrap)?;
    site.set(&["processor", "workers"], json!(1));
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let mut processor = site.processor("latency")?;
    processor.wait_ready()?;
    let topics = with_prefix(bootstrap, "latency.events.")?;
    let (told, tells) = channel();
    reader(bootstrap, &topics, told)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let sent: HashMap<String, Instant> = runtime.block_on(async {
        let client = std::sync::Arc::new(Client::new(site.listen()));
        // The first ones wait for the group and for connections: they are sent before the clock runs.
        for n in 0..200 {
            let source = &site.sources[n % site.sources.len()];
            let number = u64::try_from(n)? + (1 << 32);
            client
                .post(&source.signed(source.samples()?[0], number, now())?)
                .await?
                .id()?;
        }
        let mut tasks = Vec::new();
        let start = Instant::now() + Duration::from_secs(8);
        for n in 0..options.latency_requests {
            let source = &site.sources[usize::try_from(n)? % site.sources.len()];
            tokio::time::sleep_until(due(start, n, options).into()).await;
            let request = source.signed(source.samples()?[0], u64::from(n), now())?;
            let client = std::sync::Arc::clone(&client);
            tasks.push(tokio::spawn(async move {
                let sent = Instant::now();
                anyhow::Ok((client.post(&request).await?.id()?, sent))
            }));
        }
        let mut sent = HashMap::new();
        for task in tasks {
            let (id, at) = task.await??;
            sent.insert(id, at);
        }
        anyhow::Ok(sent)
    })?;
    let mut times = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while times.len() < sent.len() {
        if Instant::now() > deadline {
            bail!("{} of {} events came", times.len(), sent.len());
        }
        let (record, came) = tells.recv_timeout(PATIENCE)?;
        if let Some(at) = sent.get(&record.event()?.request_id) {
            times.push(came - *at);
        }
    }
    percentiles(times)
}
