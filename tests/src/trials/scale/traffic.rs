//! The requests of a scene: for ingest as bytes on the wire, for the processor as raw records.

use std::fmt::Write as _;
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
use sluice_tests::harness::deployment::{Site, Source, now};

use super::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(60);

/// The n-th request of a scene, signed now, with a body of its length or a little more.
fn request<'a>(scene: &Scene, site: &'a Site, n: u64, at: i64) -> Result<(&'a Source, Outgoing)> {
    let (source, event) = scene.nth(site, n)?;
    let mut request = source.unsigned(&event, n, at)?;
    pad(&mut request.body, 1024 * usize::try_from(scene.body)?);
    Ok((source, source.sign(&request, at)?))
}

/// Further members of an object, up to this length or a little more.
fn pad(body: &mut Vec<u8>, length: usize) {
    let end = body.pop();
    let mut member = 0;
    while body.len() < length {
        let text = format!(r#","member_{member}":{{"id":{member},"text":"one of several"}}"#);
        body.extend_from_slice(text.as_bytes());
        member += 1;
    }
    body.extend(end);
}

/// Requests on the wire, so many.
pub fn on_the_wire(scene: &Scene, site: &Site, count: u64) -> Result<Vec<Vec<u8>>> {
    let at = now();
    let requests = (0..count).map(|n| Ok(laid_out(&request(scene, site, n, at)?.1)));
    requests.collect()
}

fn laid_out(request: &Outgoing) -> Vec<u8> {
    let mut head = format!("POST {} HTTP/1.1\r\nhost: localhost\r\n", request.path);
    for (name, value) in &request.headers {
        // Writing to memory cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", request.body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&request.body);
    bytes
}

/// A raw record before it is written.
pub struct Raw {
    key: Vec<u8>,
    value: bytes::Bytes,
    headers: OwnedHeaders,
}

/// Raw records as ingest writes them, of these numbers: no number twice, for it would be a duplicate.
pub fn raw(scene: &Scene, site: &Site, numbers: std::ops::Range<u64>) -> Result<Vec<Raw>> {
    let at = now();
    let records = numbers.map(|n| {
        let (source, request) = request(scene, site, n, at)?;
        let raw = raw_request(source, &request, n, at);
        let verifier = verifier(source.provider()?);
        let trace = format!("00-{n:032x}-{n:016x}-{:02x}", u8::from(n % 100 == 7));
        let headers = [(REQUEST, raw.encode()), (TRACEPARENT, trace.into_bytes())];
        let mut owned = OwnedHeaders::new_with_capacity(headers.len());
        for (key, value) in &headers {
            let value = Some(value);
            owned = owned.insert(Header { key, value });
        }
        Ok(Raw {
            key: partition_key(verifier.as_ref(), &raw.headers, &request.body),
            value: request.body,
            headers: owned,
        })
    });
    records.collect()
}

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

/// A writer of records.
pub struct Writer(ThreadedProducer<DefaultProducerContext>);

impl Writer {
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

    /// Writes raw records, and returns when all are written.
    pub fn write(&self, topic: &str, records: Vec<Raw>) -> Result<()> {
        for Raw {
            key,
            value,
            headers,
        } in records
        {
            let record = BaseRecord::to(topic).key(key.as_slice());
            self.send(record.payload(value.as_ref()).headers(headers))?;
        }
        self.flush()
    }

    /// Hands one record over, when there is room.
    pub fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let mut record = record;
        while let Err((error, back)) = self.0.send(record) {
            let full = RDKafkaErrorCode::QueueFull;
            if !matches!(error, KafkaError::MessageProduction(code) if code == full) {
                return Err(error.into());
            }
            record = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Returns when all that was handed over is written.
    pub fn flush(&self) -> Result<()> {
        Ok(self.0.flush(PATIENCE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::pad;

    #[test]
    fn a_padded_body_is_an_object_of_the_length() {
        let mut body = br#"{"a":1}"#.to_vec();
        pad(&mut body, 4096);
        assert!((4096..4200).contains(&body.len()), "{}", body.len());
        let object: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(object["a"], 1);
        assert_eq!(object["member_3"]["id"], 3);
    }
}
