//! Signed raw records of every provider, and what the processor needs to judge them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;
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

/// The settings, and webhooks to choose from.
pub struct Site {
    _dir: tempfile::TempDir,
    pub shared: Shared,
    deliveries: Vec<Delivery>,
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
                deliveries.push(delivery(provider, &name, secret, token, n));
            }
        }
        let file = dir.path().join("settings.yaml");
        let text = json!({
            "kafka": {"bootstrap_servers": "localhost:1"},
            "topics": {"partitions": partitions},
            "secrets_dir": dir.path(),
            "sources": sources,
        });
        std::fs::write(&file, text.to_string()).expect("the settings");
        let settings = sluice_service::settings::load(&file).expect("settings without faults");
        let settings = Arc::new(settings);
        let rules = ActiveRules {
            settings: Arc::clone(&settings),
            credentials: Arc::new(Store::load(&settings).expect("secrets without faults")),
            router: Router::new(&settings, |_| Framing::SingleObject).expect("a router"),
        };
        let shutdown = CancellationToken::new();
        let shared = Shared {
            current: Arc::new(RulesHandle::new(rules, None)),
            base: Arc::new(Base::new(rdkafka::ClientConfig::new(), shutdown.clone())),
            spans: crate::spans::Spans::default(),
            metrics: Metrics::default(),
            statistics: sluice_service::kafka::statistics::ClientStatistics::default(),
            positions: Arc::default(),
            readiness: Readiness::default(),
            shutdown,
            settings,
        };
        Self {
            _dir: dir,
            shared,
            deliveries,
        }
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

fn delivery(provider: &dyn Provider, source: &str, secret: &[u8], token: bool, n: u64) -> Delivery {
    let sender = provider.sender();
    let events = sender.events();
    let event = events[usize::try_from(n).expect("small") % events.len()];
    let unsigned = sender.sample(event, n, AT);
    let mut headers = unsigned.headers.clone();
    headers.extend(sender.sign(&unsigned, secret, AT));
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
