//! The whole of ingest against librdkafka's mock cluster: what the fake publisher cannot show. It
//! proves nothing about durability; real brokers do that in the end-to-end tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use sluice_ingest::service::run;
use sluice_schemas::raw::RawRequest;
use sluice_schemas::settings::Settings;
use sluice_service::runtime::Failure;
use tokio_util::sync::CancellationToken;

use crate::support::{threads, within};

mod placement;

const PARTITIONS: i32 = 4;

pub struct Running {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub shutdown: CancellationToken,
    thread: std::thread::JoinHandle<Result<(), Failure>>,
}

fn settings(bootstrap: &str) -> Settings {
    settings_of(bootstrap, &format!("partitions: {PARTITIONS}"))
}

fn settings_of(bootstrap: &str, topics: &str) -> Settings {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.yaml");
    let yaml = format!(
        "
kafka: {{bootstrap_servers: '{bootstrap}'}}
topics: {{{topics}, replication: 1}}
sources: {{site: {{provider: flowcode, secrets: [x]}}}}
ingest: {{ack_timeout: 1s}}
"
    );
    std::fs::write(&path, yaml).unwrap();
    let mut settings = sluice_service::settings::load(&path).unwrap();
    settings.ingest.threads = threads();
    settings
}

pub fn start(settings: Settings) -> Running {
    let shutdown = CancellationToken::new();
    let (bound, addresses) = std::sync::mpsc::channel();
    let thread = std::thread::spawn({
        let shutdown = shutdown.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let outcome = runtime.block_on(async move {
                let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let (listener, admin) = (bind().await, bind().await);
                let address = |socket: &tokio::net::TcpListener| socket.local_addr().unwrap();
                bound.send((address(&listener), address(&admin))).unwrap();
                run(settings, listener, admin, shutdown).await
            });
            // As the program does: a question to brokers that are away is not waited for.
            runtime.shutdown_background();
            outcome
        }
    });
    let (address, admin) = addresses.recv().unwrap();
    Running {
        address,
        admin,
        shutdown,
        thread,
    }
}

impl Running {
    /// What it ended with. Bounded, for a test that waits for ever reports nothing.
    pub fn end(self) -> Result<(), Failure> {
        let since = Instant::now();
        while !self.thread.is_finished() {
            let waited = since.elapsed();
            assert!(
                waited < Duration::from_secs(20),
                "still running: {}",
                get(self.admin, "/readyz")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.thread.join().unwrap()
    }
}

/// Waits until a process listens.
pub fn up(address: SocketAddr) {
    within(20, "it listens", || TcpStream::connect(address).is_ok());
}

pub fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request.as_ref()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub fn get(address: SocketAddr, path: &str) -> String {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    )
}

fn post(address: SocketAddr, id: &str) -> String {
    exchange(
        address,
        format!(
            "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\nwebhook-id: {id}\r\n\
             content-length: 2\r\n\r\n{{}}"
        ),
    )
}

pub fn becomes(running: &Running, status: &str) -> String {
    let since = Instant::now();
    loop {
        let answer = get(running.admin, "/readyz");
        if answer.starts_with(&format!("HTTP/1.1 {status}")) {
            return answer;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn records_reach_the_topic_and_an_outage_is_503() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("webhooks.raw", PARTITIONS, 1).unwrap();
    let running = start(settings(&cluster.bootstrap_servers()));
    becomes(&running, "200");
    assert!(post(running.address, "msg_1").starts_with("HTTP/1.1 200"));
    let page = get(running.admin, "/metrics");
    assert!(page.contains("sluice_ingest_ack_seconds_count 1"), "{page}");
    let accepted = "sluice_ingest_accepted_total{to=\"raw\"} 1\n";
    assert!(page.contains(accepted), "{page}");

    cluster.broker_down(1).unwrap();
    let since = Instant::now();
    let answer = post(running.address, "msg_2");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
    let reasons = becomes(&running, "503");
    assert!(reasons.contains("kafka: "), "{reasons}");
    cluster.broker_up(1).unwrap();
    becomes(&running, "200");
    assert!(post(running.address, "msg_3").starts_with("HTTP/1.1 200"));

    running.shutdown.cancel();
    running.end().unwrap();
    let record = first_record(&cluster.bootstrap_servers());
    assert_eq!(
        record,
        (b"msg_1".to_vec(), b"{}".to_vec(), "site".to_owned())
    );
}

/// Reads raw, of so many partitions, from its beginning.
pub fn raw_reader(bootstrap: &str, partitions: i32) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset("webhooks.raw", partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    consumer
}

/// Key, value and source of the record whose key is `msg_1`, which must be where Java's default
/// partitioner puts it.
fn first_record(bootstrap: &str) -> (Vec<u8>, Vec<u8>, String) {
    let consumer = raw_reader(bootstrap, PARTITIONS);
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < Duration::from_secs(10), "no record");
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        if message.key() != Some(b"msg_1") {
            continue;
        }
        assert_eq!(message.partition(), murmur2_partition(b"msg_1"));
        let headers = message.headers().unwrap();
        let names: Vec<&str> = headers.iter().map(|header| header.key).collect();
        assert_eq!(names, ["request", "traceparent"]);
        let request = RawRequest::decode(headers.get(0).value.unwrap()).unwrap();
        return (
            b"msg_1".to_vec(),
            message.payload().unwrap().to_vec(),
            request.source,
        );
    }
}

/// Java's default partitioner, written from its definition.
fn murmur2_partition(key: &[u8]) -> i32 {
    let m: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ u32::try_from(key.len()).unwrap();
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(m);
        k ^= k >> 24;
        h = h.wrapping_mul(m) ^ k.wrapping_mul(m);
    }
    let rest = chunks.remainder();
    for (index, byte) in rest.iter().enumerate().rev() {
        h ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(m);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(m);
    h ^= h >> 15;
    i32::try_from(h & 0x7fff_ffff).unwrap() % PARTITIONS
}

#[test]
fn a_topic_that_is_missing_ends_the_start() {
    let cluster = MockCluster::new(1).unwrap();
    let running = start(settings(&cluster.bootstrap_servers()));
    let Err(Failure::Config(lines)) = running.end() else {
        panic!("it must not start")
    };
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("webhooks.raw: is missing"),
        "{lines:?}"
    );
}

#[test]
fn fewer_partitions_than_the_settings_say_end_the_start() {
    let cluster = MockCluster::new(1).unwrap();
    cluster
        .create_topic("webhooks.raw", PARTITIONS - 1, 1)
        .unwrap();
    let running = start(settings(&cluster.bootstrap_servers()));
    let Err(Failure::Config(lines)) = running.end() else {
        panic!("it must not start")
    };
    assert_eq!(
        lines,
        [
            "webhooks.raw: has 3 partitions and must have at least 4: set topics.partitions to 3 and \
             topics.key_partitions to 3: see \"More partitions\" in docs/operating.md"
        ]
    );
}

#[test]
fn while_kafka_is_away_requests_are_answered_503() {
    // A port without a listener.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = socket.local_addr().unwrap().to_string();
    drop(socket);
    let running = start(settings(&nobody));
    let answer = post(running.address, "msg_1");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(get(running.admin, "/readyz").contains("topics: "));
    assert!(get(running.admin, "/livez").starts_with("HTTP/1.1 200"));
    running.shutdown.cancel();
    running.end().unwrap();
}
