//! What strangers can make of metrics and spans: no series more than the settings have, and no span beyond
//! the stated rates.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;
use sluice_schemas::providers::ALL;
use sluice_schemas::providers::testing::Unsigned;
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest, TRACEPARENT};
use sluice_service::secrets::Store;
use sluice_service::telemetry::{Span, Traces};

use crate::dedup::index::{BatchOverlay, DedupIndex};
use crate::engine::observed::Observed;
use crate::metrics::Metrics;
use crate::pipeline::notes::Notes;
use crate::pipeline::outgoing::{FateTopics, outgoing};
use crate::pipeline::route::{Framing, Router};
use crate::pipeline::{Rules, judge};
use crate::record::Record;
use crate::spans::Spans;

/// Ingest's time of each record, seconds since 1970.
const AT: i64 = 1_700_000_000;

/// A record of a random source, type and trace: one in two of a source that is configured, one in four
/// signed.
fn record(n: u64, random: &mut fastrand::Rng) -> Record {
    let provider = ALL[random.usize(..ALL.len())];
    let (sender, name) = (provider.sender(), provider.spec().name);
    let word: String = (0..12).map(|_| random.alphanumeric()).collect();
    let sample = sender.sample(&word, n, AT);
    let secret = sender.source(name).files[0].1.clone();
    let secret = if random.u8(..2) == 0 {
        secret
    } else {
        b"of somebody else".to_vec()
    };
    let mut headers = sample.headers.clone();
    headers.extend(sender.sign(&sample, &secret, AT));
    let Unsigned { body, .. } = sample;
    let source = if random.bool() {
        name.to_owned()
    } else {
        word.clone()
    };
    let request = RawRequest {
        id: uuid::Uuid::from_u128(u128::from(n)),
        source,
        provider: name.to_owned(),
        received_at: AT * 1_000_000,
        method: "POST".to_owned(),
        target: "/".to_owned(),
        peer: IpAddr::from([127, 0, 0, 1]),
        token: true,
        ack: Ack::Broker,
        headers: Headers(
            headers
                .into_iter()
                .map(|(name, value)| (name, value.into_bytes()))
                .collect(),
        ),
    };
    let trace = match random.u8(..4) {
        0 => format!("00-{:032x}-{:016x}-00", random.u128(1..), random.u64(1..)),
        1 => format!(
            "00-{:032x}-{:016x}-00-{word}",
            random.u128(1..),
            random.u64(1..)
        ),
        2 => word.repeat(1_000),
        _ => "00-00000000000000000000000000000000-0000000000000000-01".to_owned(),
    };
    Record {
        partition: 0,
        offset: i64::try_from(n).expect("small"),
        appended_ms: AT * 1_000,
        key: None,
        value: body,
        headers: vec![
            (REQUEST.to_owned(), Some(request.encode())),
            (TRACEPARENT.to_owned(), Some(trace.into_bytes())),
        ],
    }
}

fn series(registry: &Registry) -> usize {
    let mut text = String::new();
    encode(&mut text, registry).expect("text");
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn ten_thousand_strangers_add_no_series_and_few_spans() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sources = serde_json::Map::new();
    for provider in ALL {
        let name = provider.spec().name;
        let source = provider.sender().source(name);
        for (file, content) in &source.files {
            std::fs::write(dir.path().join(file), content).expect("a secret");
        }
        sources.insert(name.to_owned(), source.settings);
    }
    let file = dir.path().join("settings.yaml");
    let text = json!({
        "kafka": {"bootstrap_servers": "b"}, "secrets_dir": dir.path(), "sources": sources,
    });
    std::fs::write(&file, text.to_string()).expect("the settings");
    let settings = sluice_service::settings::load(&file).expect("settings without faults");
    let store = Store::load(&settings).expect("secrets without faults");
    let router = Router::new(&settings, |_| Framing::SingleObject).expect("a router");
    let rules = Rules {
        settings: &settings,
        credentials: store.snapshot(),
        router: &router,
    };
    let topics = FateTopics::new(&settings.topics.names);
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    metrics.sources(&settings);
    let before = series(&registry);

    let seen = Arc::<Mutex<Vec<Span>>>::default();
    let sink = Arc::clone(&seen);
    let spans = Spans::new(Traces::to(move |span| sink.lock().push(span)));
    let started = std::time::Instant::now();
    let mut random = fastrand::Rng::with_seed(7);
    for n in 0..10_000 {
        let record = record(n, &mut random);
        let (index, overlay) = (DedupIndex::new(3600), BatchOverlay::default());
        let mut notes = Notes::default();
        let disposition = judge(&record, &rules, &index, &overlay, &mut notes);
        let out = outgoing(disposition.expect("a known version"), &record, &topics);
        metrics.count(&out.label.into(), 1);
        let mut observed = Observed::default();
        observed.record(&record, out.label, notes, &spans);
        metrics.observed(&observed);
        spans.committed(observed.spans, observed.limited, None);
    }
    assert_eq!(series(&registry), before);
    let intervals = usize::try_from(started.elapsed().as_secs()).expect("few") + 2;
    let made = seen.lock().len();
    assert!(
        made > 0 && made <= 20 * intervals,
        "{made} spans in {intervals} intervals"
    );
}
