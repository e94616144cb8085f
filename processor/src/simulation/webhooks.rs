//! Signed raw records of every provider, and what the processor needs to judge them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use sluice_schemas::providers::{ALL, Provider, partition_key, testing};
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
use sluice_service::admin::Readiness;
use sluice_service::secrets::Store;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::state::Stored;
use crate::engine::worker::Shared;
use crate::kafka::base::Base;
use crate::metrics::Metrics;
use crate::pipeline::route::{Framing, Router};
use crate::rules::{ActiveRules, RulesHandle};

/// When the webhooks were signed and received, seconds since 1970.
pub const AT: i64 = 1_700_000_000;

/// How many different deliveries there are of each provider.
const DELIVERIES: u64 = 12;

/// How many entities the deliveries of a provider are of.
const ENTITIES: u64 = 4;

/// The settings, and webhooks to choose from.
pub struct Site {
    _dir: tempfile::TempDir,
    pub shared: Shared,
    /// What the engine counts over all runs on this site.
    pub counted: Registry,
    /// The rules with all sources.
    pub all: Arc<ActiveRules>,
    /// The rules before one of the sources was added.
    pub before: Arc<ActiveRules>,
    /// The file has settings that are not in force yet.
    pub pending: Arc<AtomicBool>,
    deliveries: Vec<Delivery>,
    /// The bodies of those that are signed with what is not the secret.
    forged: BTreeSet<Vec<u8>>,
}

/// A delivery without a request id, ready to be put on raw.
struct Delivery {
    key: Vec<u8>,
    body: Vec<u8>,
    request: RawRequest,
}

impl Site {
    pub fn new(partitions: i32) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut sources = serde_json::Map::new();
        let mut deliveries = Vec::new();
        let mut forged = BTreeSet::new();
        for provider in ALL {
            let name = format!("my-{}", provider.spec().name);
            let source = provider.sender().source(&name);
            for (file, content) in &source.files {
                std::fs::write(dir.path().join(file), content).expect("a secret");
            }
            let secret = source.files.first().map(|(_, content)| content.clone());
            sources.insert(name.clone(), source.settings);
            for n in 0..DELIVERIES {
                let token = source.token.is_some();
                // The last of them is signed with what is not the secret: it must be rejected.
                let genuine = n + 1 < DELIVERIES;
                let secret = secret.as_deref().filter(|_| genuine).unwrap_or_default();
                let delivery = delivery(provider, &name, secret, token, n);
                if !genuine {
                    forged.insert(delivery.body.clone());
                }
                deliveries.push(delivery);
            }
        }
        let all = rules(dir.path(), partitions, &sources);
        let added = sources.keys().next().cloned().expect("a source");
        sources.remove(&added);
        let before = rules(dir.path(), partitions, &sources);
        let settings = Arc::clone(&all.settings);
        let shutdown = CancellationToken::new();
        let mut counted = Registry::default();
        let pending = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            current: Arc::new(RulesHandle::probing(Arc::clone(&all), {
                let pending = Arc::clone(&pending);
                move || pending.load(Ordering::Relaxed)
            })),
            base: Arc::new(Base::new(rdkafka::ClientConfig::new(), shutdown.clone())),
            spans: crate::spans::Spans::default(),
            metrics: Metrics::new(&mut counted),
            memory: Arc::default(),
            statistics: sluice_service::kafka::statistics::ClientStatistics::default(),
            positions: Arc::default(),
            readiness: Readiness::default(),
            shutdown,
            settings,
        };
        Self {
            _dir: dir,
            shared,
            counted,
            all,
            before,
            pending,
            deliveries,
            forged,
        }
    }

    /// Adds what the engine counted, by series.
    pub fn add_counted(&self, sums: &mut BTreeMap<String, f64>) {
        let mut text = String::new();
        encode(&mut text, &self.counted).expect("a text takes all");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((series, value)) = line.rsplit_once(' ') {
                *sums.entry(series.to_owned()).or_default() += value.parse().unwrap_or(0.0);
            }
        }
    }

    /// Whether a webhook is signed with what is not the secret.
    pub fn is_forged(&self, record: &Stored) -> bool {
        self.forged.contains(&record.value)
    }

    /// Any webhook, as ingest would write it: its partition, and the record.
    pub fn webhook(&self, chance: &mut Chance, partitions: i32) -> (i32, Stored) {
        let delivery = &self.deliveries[chance.place(self.deliveries.len())];
        let mut request = delivery.request.clone();
        let high = u128::from(chance.next()) << 64;
        request.id = uuid::Uuid::from_u128(high | u128::from(chance.next()));
        // Any partition will do, as long as one key is always in the same.
        let sum: i32 = delivery.key.iter().map(|byte| i32::from(*byte)).sum();
        let record = Stored {
            offset: 0,
            appended_ms: 0,
            created_ms: None,
            key: Some(delivery.key.clone()),
            value: delivery.body.clone(),
            headers: vec![(REQUEST.to_owned(), Some(request.encode()))],
            transaction: None,
        };
        (sum % partitions, record)
    }
}

/// The rules of settings with these sources.
fn rules(
    dir: &Path,
    partitions: i32,
    sources: &serde_json::Map<String, Value>,
) -> Arc<ActiveRules> {
    let file = dir.join("settings.yaml");
    let text = json!({
        "kafka": {"bootstrap_servers": "localhost:1"},
        "topics": {"partitions": partitions},
        "secrets_dir": dir,
        "sources": sources,
    });
    std::fs::write(&file, text.to_string()).expect("the settings");
    let settings = sluice_service::settings::load(&file).expect("settings without faults");
    let settings = Arc::new(settings);
    Arc::new(ActiveRules {
        credentials: Arc::new(Store::load(&settings).expect("secrets without faults")),
        router: Router::new(&settings, |_| Framing::SingleObject).expect("a router"),
        settings,
    })
}

fn delivery(provider: &dyn Provider, source: &str, secret: &[u8], token: bool, n: u64) -> Delivery {
    let sender = provider.sender();
    let events = sender.events();
    let event = events[usize::try_from(n).expect("small") % events.len()];
    // Where a delivery has no id of the provider's, several are of one entity, each with a time of its own.
    let at = AT + i64::try_from(n).expect("small");
    let mut unsigned = sender.sample(event, n % ENTITIES, at);
    if !unsigned.delivery_id.is_empty() {
        unsigned = sender.sample(event, n, at);
    }
    let mut headers = unsigned.headers.clone();
    headers.extend(sender.sign(&unsigned, secret, at));
    let headers = Headers(
        headers
            .into_iter()
            .map(|(name, value)| (name.to_lowercase(), value.into_bytes()))
            .collect(),
    );
    let verifier = testing::verifier(provider);
    let key = partition_key(verifier.as_ref(), &headers, &unsigned.body);
    let request = RawRequest {
        id: uuid::Uuid::nil(),
        source: source.to_owned(),
        provider: provider.spec().name.to_owned(),
        received_at: AT * 1_000_000,
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{source}"),
        peer: IpAddr::from([127, 0, 0, 1]),
        token,
        ack: Ack::Broker,
        headers,
    };
    Delivery {
        key,
        body: unsigned.body,
        request,
    }
}

/// Headers by name, as a check wants them.
pub fn header<'a>(record: &'a Stored, name: &str) -> Option<&'a str> {
    let headers: BTreeMap<&str, &Option<Vec<u8>>> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    let value = headers.get(name)?.as_ref()?;
    std::str::from_utf8(value).ok()
}
