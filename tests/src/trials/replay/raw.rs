//! Writing raw records of all kinds, as ingest lays them out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use sluice_schemas::fate::REDRIVE_COUNT;
use sluice_schemas::providers::partition_key;
use sluice_schemas::providers::testing::{Unsigned, verifier};
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::load::mix::{broken, forged};
use uuid::Uuid;

/// The provider whose option is changed, and which repeats by sequence.
pub const CHANGED: &str = "flockler";

/// Writes raw.
pub struct Raw {
    producer: BaseProducer,
    topic: String,
    /// How many of each kind were written.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Records of the changed source that prove who sent them and can be read.
    pub authentic: u64,
    /// Those that are repeated and redriven.
    kept: Vec<Kept>,
}

#[derive(Clone)]
struct Kept {
    source: Source,
    request: Outgoing,
    good: bool,
    /// Its `received_at`, which a redrive keeps.
    received_us: i64,
}

impl Raw {
    /// Nothing yet.
    pub fn new(site: &Site) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", site.bootstrap())
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .create()?;
        Ok(Self {
            producer,
            topic: site.names().raw(),
            kinds: BTreeMap::new(),
            authentic: 0,
            kept: Vec::new(),
        })
    }

    /// Of every hundred: twelve repetitions, six versions of one article of which some come back, three
    /// forgeries, two that cannot be read, two that were redriven, and events.
    pub fn write(&mut self, site: &Site, numbers: std::ops::Range<u64>) -> Result<()> {
        let at = now();
        for n in numbers {
            let source = &site.sources[usize::try_from(n)? % site.sources.len()];
            let events = source.samples()?;
            let event = events[usize::try_from(n / 4)? % events.len()];
            let (kind, source, request, redriven, good) = match n % 100 {
                slot @ (10..22 | 30..32) if self.kept.len() > 100 => {
                    let back = usize::try_from(n * 7 % 97)? + 1;
                    let kept = self.kept[self.kept.len() - back].clone();
                    let (kind, redriven) = if slot < 22 {
                        ("repetition", None)
                    } else {
                        ("redriven", Some(kept.received_us))
                    };
                    (kind, kept.source, kept.request, redriven, kept.good)
                }
                slot @ 40..46 => {
                    let source = site.source(CHANGED)?;
                    let version = [0, 0, 1, 0, 1, 1][usize::try_from(slot - 40)?];
                    (
                        "sequence",
                        source.clone(),
                        article(source, n / 1_000, version, at)?,
                        None,
                        true,
                    )
                }
                50..53 => match forged(source, event, n, at)? {
                    Some(request) => ("forgery", source.clone(), request, None, false),
                    None => (
                        "event",
                        source.clone(),
                        source.signed(event, n, at)?,
                        None,
                        true,
                    ),
                },
                60..62 => {
                    let request = source.sign(&broken(source, event, n, at)?, at)?;
                    ("broken", source.clone(), request, None, false)
                }
                _ => (
                    "event",
                    source.clone(),
                    source.signed(event, n, at)?,
                    None,
                    true,
                ),
            };
            self.authentic += u64::from(good && source.provider == CHANGED);
            *self.kinds.entry(kind).or_default() += 1;
            let received_us = self.append(&source, &request, redriven)?;
            if !matches!(kind, "repetition" | "redriven") && n % 3 == 0 {
                self.kept.push(Kept {
                    source,
                    request,
                    good,
                    received_us,
                });
            }
        }
        self.producer.flush(Duration::from_secs(60))?;
        Ok(())
    }

    /// Lays a request out as ingest does, or as a redrive does one that was received before; when it was
    /// received.
    fn append(&self, source: &Source, request: &Outgoing, redriven: Option<i64>) -> Result<i64> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let headers = request.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_lowercase(), value.clone().into_bytes()));
        let raw = RawRequest {
            id: Uuid::from_u128((7 << 76) | (2 << 62) | since.as_nanos()),
            source: source.name.clone(),
            provider: source.provider.to_owned(),
            received_at: redriven.map_or_else(|| i64::try_from(since.as_micros()), Ok)?,
            method: "POST".to_owned(),
            target: format!("/v1/hooks/{}", source.name),
            peer: IpAddr::from([127, 0, 0, 1]),
            token: source.token.is_some(),
            ack: Ack::Broker,
            headers: Headers(headers.collect()),
        };
        let key = partition_key(
            verifier(source.provider()?).as_ref(),
            &raw.headers,
            &request.body,
        );
        let header = raw.encode();
        let mut headers = OwnedHeaders::new().insert(Header {
            key: REQUEST,
            value: Some(&header),
        });
        if redriven.is_some() {
            headers = headers.insert(Header {
                key: REDRIVE_COUNT,
                value: Some("1"),
            });
        }
        let body: &[u8] = &request.body;
        let mut record = BaseRecord::to(&self.topic)
            .key(&key)
            .payload(body)
            .headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(50));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(raw.received_at)
    }
}

/// A version of an article.
fn article(source: &Source, id: u64, version: u64, at: i64) -> Result<Outgoing> {
    let unsigned = Unsigned {
        headers: vec![
            ("x-flockler-action".into(), "update".into()),
            ("x-flockler-env".into(), "production".into()),
        ],
        body: json!({"action": "update", "article": {"id": id, "title": format!("version {version}")}})
            .to_string()
            .into_bytes(),
        delivery_id: String::new(),
    };
    source.sign(&unsigned, at)
}
