//! Raw records as ingest writes them, without HTTP: what the processor and its floor work through.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use sluice_schemas::providers::partition_key;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest, TRACEPARENT};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, Source};

use super::case::{Case, Maker};

/// How long the last records may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A queue that is full is tried again after this.
const FULL: Duration = Duration::from_millis(20);

/// Writes the records of these numbers, and returns when the brokers have them all.
pub fn fill(site: &Site, case: Case, numbers: Range<u64>) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("partitioner", "murmur2_random")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .create()?;
    let raw = site.names().raw();
    let maker = Maker::new(case, site)?;
    for n in numbers {
        let (source, request) = maker.make(n)?;
        let raw_request = raw_request(source, &request, n, maker.at());
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
            std::thread::sleep(FULL);
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
fn raw_request(source: &Source, request: &Outgoing, n: u64, at: i64) -> RawRequest {
    let own = [
        ("host", "localhost".to_owned()),
        ("content-length", request.body.len().to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let headers = own.iter().chain(&request.headers);
    let headers = headers
        .map(|(name, value)| (name.to_lowercase(), value.clone().into_bytes()))
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
