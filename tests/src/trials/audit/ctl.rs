//! `sluicectl audit` over very many raw records: seconds, and the most memory that it held.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;
use serde_json::{Value, json};
use sluice_schemas::providers::partition_key;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::metrics::peak_memory;
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::find;
use sluice_tests::load::mix::numbered::{Sums, expected, request};

use crate::trials::frame;

/// How long the processor and the audit may each take.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    records: u64,
    fill_seconds: f64,
    judge_seconds: f64,
    audit_seconds: f64,
    peak_mebibytes: f64,
    expected: Sums,
    audit: Value,
}

/// Fills raw, lets the processor judge it, and audits; whether it balances with the numbers that it must
/// have.
pub fn run(records: u64) -> Result<bool> {
    eprintln!("starting Kafka and both services");
    let cluster = Cluster::start(1, Purpose::Bench)?;
    let mut site = Site::new("", &cluster.bootstrap())?;
    site.set(&["topics", "partitions"], json!(6));
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let mut processor = site.processor("audit")?;
    processor.wait_ready()?;
    ingest.stop()?;
    eprintln!("filling raw with {records} records");
    let since = Instant::now();
    fill(&site, records)?;
    let fill = since.elapsed();
    eprintln!("waiting for the processor");
    offsets::wait_caught_up(
        site.bootstrap(),
        &site.group(),
        &site.names().raw(),
        PATIENCE,
    )?;
    let judge = since.elapsed();
    processor.stop()?;
    eprintln!("sluicectl audit");
    let since = Instant::now();
    let (audit, peak) = audit(&site)?;
    let seconds = since.elapsed();
    let sums = expected(records);
    let found = |name: &str| audit[name].as_u64().unwrap_or_default();
    let holds = audit["balanced"] == json!(true)
        && found("raw") == records
        && found("events") == sums.events
        && found("duplicates") == sums.duplicates
        && found("rejected") == sums.rejected
        && found("dead_letters") == sums.dead_letters;
    #[expect(clippy::cast_precision_loss, reason = "a size for a person")]
    let report = Report {
        holds,
        records,
        fill_seconds: fill.as_secs_f64(),
        judge_seconds: judge.as_secs_f64(),
        audit_seconds: seconds.as_secs_f64(),
        peak_mebibytes: peak as f64 / 1_048_576.0,
        expected: sums,
        audit,
    };
    frame::conclude(&report, holds, &[], None)
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
    let (raw, at) = (site.names().raw(), now());
    for n in 0..records {
        let outgoing = request(site, n, at)?;
        let source = source(site, &outgoing)?;
        let header = raw_request(source, &outgoing, n, at);
        let verifier = verifier(source.provider()?);
        let key = partition_key(verifier.as_ref(), &header.headers, &outgoing.body);
        let value = header.encode();
        let headers = OwnedHeaders::new().insert(Header {
            key: REQUEST,
            value: Some(&value),
        });
        let mut record = BaseRecord::to(&raw)
            .key(key.as_slice())
            .payload(outgoing.body.as_ref())
            .headers(headers);
        while let Err((error, back)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            if error != full {
                return Err(error.into());
            }
            record = back;
            std::thread::sleep(LOOK);
        }
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

/// The source that a request goes to.
fn source<'s>(site: &'s Site, request: &Outgoing) -> Result<&'s Source> {
    let found = site
        .sources
        .iter()
        .find(|source| source.path() == request.path);
    found.context("a source of the site")
}

/// A request as ingest would write it.
fn raw_request(source: &Source, request: &Outgoing, n: u64, at: i64) -> RawRequest {
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.clone().into_bytes()));
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
        headers: Headers(headers.collect()),
    }
}

/// What the audit printed, and the most memory that its process held.
fn audit(site: &Site) -> Result<(Value, u64)> {
    let settings = site.dir().join("ctl.yaml");
    std::fs::write(&settings, serde_json::to_vec(&site.settings)?)?;
    let out = site.dir().join("audit.json");
    let mut child = Command::new(find("sluicectl")?)
        .arg("--config")
        .arg(&settings)
        .args(["audit", "--json"])
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .spawn()?;
    let (deadline, mut peak) = (Instant::now() + PATIENCE, 0);
    while child.try_wait()?.is_none() {
        // Of a process that has just ended there is none.
        peak = peak_memory(child.id()).unwrap_or(peak).max(peak);
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("the audit did not end within {PATIENCE:?}");
        }
        std::thread::sleep(LOOK);
    }
    let printed = std::fs::read_to_string(&out)?;
    let report = serde_json::from_str(&printed).context("the audit printed no report")?;
    Ok((report, peak))
}
