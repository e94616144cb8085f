//! Raw records as ingest writes them, without HTTP: what the processor is given to work through.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use sluice_schemas::providers::partition_key;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest, TRACEPARENT};
use uuid::Uuid;

use crate::harness::client::Outgoing;
use crate::harness::deployment::Source;

/// How long the last records may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A queue that is full is tried again after this.
const FULL: Duration = Duration::from_millis(10);

/// A raw record before it is written.
pub struct Raw {
    key: Vec<u8>,
    value: Bytes,
    headers: OwnedHeaders,
}

impl Raw {
    /// Of the n-th request, received at a second since 1970. No number twice: it would be a duplicate.
    pub fn new(source: &Source, request: Outgoing, n: u64, at: i64) -> Result<Self> {
        let raw = raw_request(source, &request, n, at);
        let verifier = verifier(source.provider()?);
        // One in a hundred is sampled, as by default.
        let trace = format!("00-{n:032x}-{n:016x}-{:02x}", u8::from(n % 100 == 7));
        let headers = [(REQUEST, raw.encode()), (TRACEPARENT, trace.into_bytes())];
        let mut owned = OwnedHeaders::new_with_capacity(headers.len());
        for (key, value) in &headers {
            let value = Some(value);
            owned = owned.insert(Header { key, value });
        }
        Ok(Self {
            key: partition_key(verifier.as_ref(), &raw.headers, &request.body),
            value: request.body,
            headers: owned,
        })
    }
}

/// The request as ingest would write it.
fn raw_request(source: &Source, request: &Outgoing, n: u64, at: i64) -> RawRequest {
    let own = [
        ("host", "localhost".to_owned()),
        ("content-length", request.body.len().to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let headers = own.iter().chain(&request.headers);
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.clone().into_bytes()));
    RawRequest {
        id: Uuid::from_u128(0x0193_5b7a_0000_7000_8000_0000_0000_0000 | u128::from(n)),
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

/// A writer of very many records.
pub struct Writer(ThreadedProducer<DefaultProducerContext>);

impl Writer {
    /// One that is not connected yet.
    pub fn new(bootstrap: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("partitioner", "murmur2_random")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .create()?;
        Ok(Self(producer))
    }

    /// Hands a raw record over, when there is room.
    pub fn write(&self, topic: &str, raw: Raw) -> Result<()> {
        let record = BaseRecord::to(topic).key(raw.key.as_slice());
        self.send(record.payload(raw.value.as_ref()).headers(raw.headers))
    }

    /// Hands any record over, when there is room.
    pub fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let mut record = record;
        while let Err((error, back)) = self.0.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            record = back;
            std::thread::sleep(FULL);
        }
        Ok(())
    }

    /// Returns when all that was handed over is written.
    pub fn flush(&self) -> Result<()> {
        Ok(self.0.flush(PATIENCE)?)
    }
}
