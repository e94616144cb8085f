//! The floors, each a process of its own so that its processor time and memory can be measured: the simplest
//! programs that do the same work with nothing between. Their clients have the properties of ours that matter
//! for speed, and this binary has our allocator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use sluice_schemas::raw::REQUEST;
use sluice_tests::harness::child::Child;
use sluice_tests::harness::janitor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The bounds of a transaction of the copy: the normal ones of the processor.
const BATCH_RECORDS: usize = 5_000;
const BATCH_BYTES: usize = 8 << 20;
const BATCH_TIME: Duration = Duration::from_millis(50);

/// Room for the headers of a request, in bytes.
const HEAD: usize = 512;

/// The key of the next record of ingest's floor.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How long a coordinator may take.
const COORDINATOR: Duration = Duration::from_secs(30);

/// A floor to run in this process.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Floor {
    /// A bare hyper server: each request becomes a record, with its headers and a key, and its answer waits
    /// for the acknowledgement.
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
    /// Starts it under a program with its arguments, as a service is; none: it runs alone.
    pub fn start(floor: &Floor, under: &[String]) -> Result<Self> {
        let own = std::env::current_exe()?;
        let log = janitor::folder("floor")?.join("log");
        let mut line = under.to_vec();
        line.push(own.display().to_string());
        line.extend(floor.arguments());
        let (program, arguments) = line.split_first().context("a program")?;
        let child = Child::start("floor", Path::new(program), arguments, &log)?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// An error with the end of what it wrote, if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        self.0.must_run()
    }

    /// What it has written.
    pub fn output(&mut self) -> Result<String> {
        self.must_run()?;
        Ok(std::fs::read_to_string(self.0.log())?)
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
            .set("linger.ms", "4")
            .set("compression.type", "lz4")
            .set("batch.size", "131072")
            .set("socket.nagle.disable", "true")
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
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut lines = Vec::with_capacity(HEAD);
    for (name, value) in &head.headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.push(b':');
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    // What has no key goes to one partition for a while, in fewer and larger batches than ours.
    let key = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let (sender, receiver) = oneshot::channel();
    let record = BaseRecord::with_opaque_to(topic, Box::new(sender))
        .key(key.as_slice())
        .payload(&*body)
        .headers(OwnedHeaders::new_with_capacity(1).insert(Header {
            key: REQUEST,
            value: Some(&lines),
        }));
    producer.send(record).map_err(|(error, _)| error)?;
    let status = if receiver.await? { 200 } else { 503 };
    Ok(Response::builder()
        .status(status)
        .body(Full::new(Bytes::from_static(b"{}")))?)
}

/// Copies until `records` are committed, leaves the group, prints `left`, and stays.
fn copy(bootstrap: &str, from: &str, to: &str, records: u64) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", to)
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384")
        .set("queued.min.messages", "4000")
        .create()?;
    consumer.subscribe(&[from])?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", to)
        .set("partitioner", "murmur2_random")
        .set("retry.backoff.ms", "5")
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        .set("delivery.report.only.error", "true")
        .create()?;
    producer.init_transactions(COORDINATOR)?;
    let mut copied = 0;
    while copied < records {
        let batch = batch(&consumer)?;
        if batch.is_empty() {
            continue;
        }
        producer.begin_transaction()?;
        let mut ends = BTreeMap::new();
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
        let mut offsets = TopicPartitionList::new();
        for (partition, end) in ends {
            offsets.add_partition_offset(from, partition, Offset::Offset(end))?;
        }
        let metadata = consumer.group_metadata().context("not in the group")?;
        producer.send_offsets_to_transaction(&offsets, &metadata, COORDINATOR)?;
        // The library's flush before a commit may wait for 100 ms where something is in flight.
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(1));
        }
        producer.commit_transaction(COORDINATOR)?;
        copied += u64::try_from(batch.len())?;
    }
    drop(consumer);
    println!("left");
    loop {
        std::thread::park();
    }
}

/// As many records as come within a batch's time, and as its bounds take.
fn batch(consumer: &BaseConsumer) -> Result<Vec<BorrowedMessage<'_>>> {
    let until = Instant::now() + BATCH_TIME;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
        let left = until.saturating_duration_since(Instant::now());
        let Some(message) = consumer.poll(left) else {
            break;
        };
        let message = message?;
        bytes += message.payload_len();
        batch.push(message);
    }
    Ok(batch)
}
