//! The floors, each a process of its own so that its processor time and memory can be measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedHeaders, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use sluice_tests::harness::child::Child;
use sluice_tests::harness::janitor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::measure::Measure;

/// A floor to run in this process.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Floor {
    /// A bare hyper server: each body becomes a record, and is answered when it is acknowledged.
    Ingest {
        /// The brokers.
        #[arg(long)]
        bootstrap: String,
        /// Where records go.
        #[arg(long)]
        topic: String,
        /// Where requests come in.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A bare transactional copy of a topic, with its offsets.
    Copy {
        /// The brokers.
        #[arg(long)]
        bootstrap: String,
        /// What is copied.
        #[arg(long)]
        from: String,
        /// Where to.
        #[arg(long)]
        to: String,
        /// How many records there are.
        #[arg(long)]
        records: u64,
    },
}

impl Floor {
    fn arguments(&self) -> Vec<String> {
        let pairs: Vec<(&str, String)> = match self {
            Self::Ingest {
                bootstrap,
                topic,
                listen,
            } => vec![
                ("--bootstrap", bootstrap.clone()),
                ("--topic", topic.clone()),
                ("--listen", listen.to_string()),
            ],
            Self::Copy {
                bootstrap,
                from,
                to,
                records,
            } => vec![
                ("--bootstrap", bootstrap.clone()),
                ("--from", from.clone()),
                ("--to", to.clone()),
                ("--records", records.to_string()),
            ],
        };
        let name = match self {
            Self::Ingest { .. } => "ingest",
            Self::Copy { .. } => "copy",
        };
        let mut arguments = vec!["floor".to_owned(), name.to_owned()];
        for (flag, value) in pairs {
            arguments.extend([flag.to_owned(), value]);
        }
        arguments
    }

    /// Runs it; ends when the process is killed.
    pub fn run(&self) -> Result<bool> {
        match self {
            Self::Ingest {
                bootstrap,
                topic,
                listen,
            } => serve(bootstrap, topic, *listen)?,
            Self::Copy {
                bootstrap,
                from,
                to,
                records,
            } => copy(bootstrap, from, to, *records)?,
        }
        Ok(true)
    }
}

/// A floor in a process of its own.
pub struct FloorProcess(Child);

impl FloorProcess {
    /// Starts it.
    pub fn start(floor: &Floor) -> Result<Self> {
        let program = std::env::current_exe()?;
        let log = janitor::folder("floor")?.join("log");
        Ok(Self(Child::start(
            "floor",
            &program,
            &floor.arguments(),
            &log,
        )?))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it has written.
    pub fn output(&mut self) -> Result<String> {
        self.0.must_run()?;
        Ok(std::fs::read_to_string(self.0.log())?)
    }
}

/// Figures of some work.
pub fn measure_of(done: u64, time: Duration, cpu: Duration, peak: u64) -> Measure {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and bytes far below 2^53"
    )]
    let (done, peak) = (done as f64, peak as f64);
    Measure {
        per_second: done / time.as_secs_f64(),
        cpu_seconds_per_million: cpu.as_secs_f64() / done * 1e6,
        peak_mebibytes: peak / f64::from(1 << 20),
    }
}

struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<bool>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        // A sender that hung up wants no answer.
        let _ = sender.send(result.is_ok());
    }
}

fn serve(bootstrap: &str, topic: &str, listen: SocketAddr) -> Result<()> {
    let producer: &'static ThreadedProducer<Reports> = Box::leak(Box::new(
        ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            .create_with_context(Reports)?,
    ));
    let topic: &'static str = Box::leak(topic.to_owned().into_boxed_str());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let answer = |request: Request<Incoming>| answer(producer, topic, request);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    })
}

async fn answer(
    producer: &ThreadedProducer<Reports>,
    topic: &str,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let (sender, receiver) = oneshot::channel();
    let record: BaseRecord<'_, [u8], [u8], _> =
        BaseRecord::with_opaque_to(topic, Box::new(sender)).payload(&body);
    producer.send(record).map_err(|(error, _)| error)?;
    let status = if receiver.await? { 200 } else { 503 };
    Ok(Response::builder()
        .status(status)
        .body(Full::new(Bytes::from_static(b"{}")))?)
}

/// Copies until `records` are committed, prints `first_count first_nanos last_nanos`, and stays.
fn copy(bootstrap: &str, from: &str, to: &str, records: u64) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", format!("{to}-copy"))
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "16384")
        .create()?;
    consumer.subscribe(&[from])?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", format!("{to}-copy"))
        .set("retry.backoff.ms", "5")
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        .set("delivery.report.only.error", "true")
        .create()?;
    producer.init_transactions(Duration::from_secs(30))?;
    let (mut copied, mut first) = (0, None);
    while copied < records {
        let mut batch = Vec::new();
        let mut wait = Duration::from_millis(100);
        while batch.len() < 5_000 {
            let Some(message) = consumer.poll(wait) else {
                break;
            };
            batch.push(message?);
            wait = Duration::ZERO;
        }
        if batch.is_empty() {
            continue;
        }
        producer.begin_transaction()?;
        let mut offsets = TopicPartitionList::new();
        let mut ends = std::collections::BTreeMap::new();
        for message in &batch {
            let headers = message
                .headers()
                .map_or_else(OwnedHeaders::new, BorrowedHeaders::detach);
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(to)
                .key(message.key().unwrap_or_default())
                .payload(message.payload().unwrap_or_default())
                .headers(headers);
            producer.send(record).map_err(|(error, _)| error)?;
            ends.insert(message.partition(), message.offset() + 1);
        }
        for (partition, end) in ends {
            offsets.add_partition_offset(from, partition, Offset::Offset(end))?;
        }
        let metadata = consumer.group_metadata().context("not in the group")?;
        producer.send_offsets_to_transaction(&offsets, &metadata, Duration::from_secs(30))?;
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::ZERO);
            std::thread::sleep(Duration::from_micros(200));
        }
        producer.commit_transaction(Duration::from_secs(30))?;
        copied += u64::try_from(batch.len())?;
        first.get_or_insert((copied, Instant::now()));
    }
    let (count, since) = first.context("nothing was copied")?;
    println!("copied {count} {}", since.elapsed().as_nanos());
    loop {
        std::thread::park();
    }
}
