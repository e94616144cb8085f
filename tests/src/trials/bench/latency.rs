//! Times next to a floor, from when each request was due: to ingest's answer at half of what it takes, and to
//! the event as a reader sees it at a trickle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use sluice_service::kafka::read::record;
use sluice_tests::harness::client::Client;
use sluice_tests::harness::offsets::{bounds, create_topic};
use sluice_tests::harness::topics::{Record, with_prefix};
use sluice_tests::load::times::Times;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::unbounded_channel;

use super::case::{Case, Maker};
use super::ingest::Both;
use super::measure::Bench;
use super::pace::pace;
use super::spread::Spread;

/// How long the last one may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long requests are due in a round.
const ROUND: Duration = Duration::from_secs(5);

/// Before the first request of a round is due.
const LEAD: Duration = Duration::from_millis(200);

/// Requests before the first round: the group and connections are there then.
const WARM_UP: u64 = 200;

/// Milliseconds, over all rounds.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    pub p50_ms: Spread,
    pub p99_ms: Spread,
}

/// Ours next to the floor.
#[derive(Debug, Serialize)]
pub struct Latencies {
    pub requests_per_second: u32,
    pub rounds: usize,
    pub floor: Percentiles,
    pub ours: Percentiles,
    /// The most memory of ingest, where that is what is loaded.
    pub ingest_peak_mebibytes: Option<f64>,
}

impl Latencies {
    fn of(rate: u32, floor: &[Times], ours: &[Times]) -> Self {
        let percentiles = |rounds: &[Times]| {
            let at = |share| Spread::of(rounds.iter().map(|times| times.percentile_ms(share)));
            Percentiles {
                p50_ms: at(50.0),
                p99_ms: at(99.0),
            }
        };
        Self {
            requests_per_second: rate,
            rounds: ours.len(),
            floor: percentiles(floor),
            ours: percentiles(ours),
            ingest_peak_mebibytes: None,
        }
    }
}

/// Request to answer, at half of the rate that ingest takes; that is measured first where it is not known.
pub fn to_answer(bench: &Bench<'_>, taken: Option<f64>) -> Result<Latencies> {
    let taken = taken.map_or_else(|| measured(bench), Ok)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some ten thousands"
    )]
    let rate = (taken / 2.0) as u32;
    // A process that was never loaded with more, so that its memory is that of half the load.
    let mut site = bench.site("answers.")?;
    let mut both = Both::at_rest(bench, &mut site, Case::HEADLINE)?;
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=bench.options.rounds {
        let times = [
            both.floor.load.open(rate, ROUND)?,
            both.ours.load.open(rate, ROUND)?,
        ];
        // The first warms both up.
        if round > 0 {
            let [of_floor, of_ours] = times;
            floor.push(of_floor);
            ours.push(of_ours);
        }
    }
    let peak = both.ours.peak_mebibytes()?;
    drop(both);
    bench.clear(&site)?;
    Ok(Latencies {
        ingest_peak_mebibytes: Some(peak),
        ..Latencies::of(rate, &floor, &ours)
    })
}

/// How many requests a second ingest takes.
fn measured(bench: &Bench<'_>) -> Result<f64> {
    let mut site = bench.site("taken.")?;
    let mut both = Both::start(bench, &mut site, Case::HEADLINE)?;
    let taken = both.ours.round(bench.options.load_time())?.per_second;
    drop(both);
    bench.clear(&site)?;
    Ok(taken)
}

/// Request to event, next to a bare produce and consume.
pub fn to_event(bench: &Bench<'_>) -> Result<Latencies> {
    let rate = bench.options.latency_rate;
    let count = rate.saturating_mul(u32::try_from(ROUND.as_secs())?);
    let site = bench.site("latency.")?;
    let maker = Maker::new(Case::HEADLINE, &site)?;
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let mut processor = site.processor("latency")?;
    processor.wait_ready()?;
    let topics = with_prefix(&bench.bootstrap, &format!("{}events.", site.names().prefix))?;
    let mut service = Service {
        runtime: Builder::new_current_thread().enable_all().build()?,
        client: Arc::new(Client::new(site.listen())),
        events: reader(&bench.bootstrap, &topics)?,
        maker: &maker,
        next: 0,
    };
    service.warm_up()?;
    let mut bare = Bare::start(bench, &maker, &format!("{}floor", site.names().prefix))?;
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        floor.push(bare.round(rate, count)?);
        ours.push(service.round(rate, count)?);
    }
    drop((service, bare));
    processor.stop()?;
    ingest.stop()?;
    bench.clear(&site)?;
    Ok(Latencies::of(rate, &floor, &ours))
}

/// A reader of topics from where they end now, on a thread: it sends each record with its time of arrival.
fn reader(bootstrap: &str, topics: &[String]) -> Result<Receiver<(Record, Instant)>> {
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
    let (sender, receiver): (Sender<(Record, Instant)>, _) = channel();
    std::thread::spawn(move || {
        loop {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let came = Instant::now();
            if sender.send((record(&message), came)).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// A bare produce and consume.
struct Bare {
    producer: ThreadedProducer<DefaultProducerContext>,
    records: Receiver<(Record, Instant)>,
    topic: String,
    bodies: Vec<bytes::Bytes>,
}

impl Bare {
    fn start(bench: &Bench<'_>, maker: &Maker, topic: &str) -> Result<Self> {
        create_topic(&bench.bootstrap, topic, 3, &[])?;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &bench.bootstrap)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            .create()?;
        let bodies = (0..WARM_UP).map(|n| Ok(maker.make(n)?.1.body));
        let mut bare = Self {
            producer,
            records: reader(&bench.bootstrap, &[topic.to_owned()])?,
            topic: topic.to_owned(),
            bodies: bodies.collect::<Result<_>>()?,
        };
        bare.round(1_000, u32::try_from(WARM_UP)?)?;
        Ok(bare)
    }

    fn round(&mut self, rate: u32, count: u32) -> Result<Times> {
        let (mut dues, mut fault) = (Vec::new(), None);
        pace(Instant::now() + LEAD, rate, count, |n, due| {
            let (key, place) = (n.to_be_bytes(), n as usize % self.bodies.len());
            let record = BaseRecord::to(&self.topic)
                .key(&key)
                .payload(self.bodies[place].as_ref());
            let sent = self.producer.send(record);
            fault = fault.take().or(sent.err().map(|(error, _)| error));
            dues.push(due);
        });
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        self.producer.flush(PATIENCE)?;
        let mut times = Vec::new();
        while times.len() < dues.len() {
            let (record, came) = self.records.recv_timeout(PATIENCE)?;
            let key: [u8; 4] = record.key.as_slice().try_into()?;
            times.push(came.saturating_duration_since(dues[u32::from_be_bytes(key) as usize]));
        }
        Ok(times.into_iter().collect())
    }
}

/// Both services.
struct Service<'a> {
    runtime: Runtime,
    client: Arc<Client>,
    events: Receiver<(Record, Instant)>,
    maker: &'a Maker,
    /// The number of the next request.
    next: u64,
}

impl Service<'_> {
    fn warm_up(&mut self) -> Result<()> {
        let numbers = self.next..self.next + WARM_UP;
        self.next = numbers.end;
        self.runtime.block_on(async {
            for n in numbers {
                self.client.post(&self.maker.make(n)?.1).await?.id()?;
            }
            Ok(())
        })
    }

    fn round(&mut self, rate: u32, count: u32) -> Result<Times> {
        let first = self.next;
        self.next += u64::from(count);
        let (sender, mut dues) = unbounded_channel();
        let start = Instant::now() + LEAD;
        let pacer = std::thread::spawn(move || {
            pace(start, rate, count, |n, due| {
                // A receiver that is gone says so itself.
                let _ = sender.send((first + u64::from(n), due));
            });
        });
        let sent: HashMap<String, Instant> = self.runtime.block_on(async {
            let mut tasks = Vec::new();
            while let Some((n, due)) = dues.recv().await {
                let (_, request) = self.maker.make(n)?;
                let client = Arc::clone(&self.client);
                tasks.push(tokio::spawn(async move {
                    anyhow::Ok((client.post(&request).await?.id()?, due))
                }));
            }
            let mut sent = HashMap::new();
            for task in tasks {
                let (id, due) = task.await??;
                sent.insert(id, due);
            }
            anyhow::Ok(sent)
        })?;
        pacer.join().map_err(|_| anyhow!("the pacer panicked"))?;
        let mut times = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while times.len() < sent.len() {
            if Instant::now() > deadline {
                bail!("{} of {} events came", times.len(), sent.len());
            }
            let (record, came) = self.events.recv_timeout(PATIENCE)?;
            if let Some(due) = sent.get(&record.event()?.request_id) {
                times.push(came.saturating_duration_since(*due));
            }
        }
        Ok(times.into_iter().collect())
    }
}
