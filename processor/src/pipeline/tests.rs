//! The four verbs together, for every provider, without Kafka.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;
use sluice_schemas::fate::{DUPLICATE_OF, Fate, RAW_OFFSET, REDRIVE_COUNT};
use sluice_schemas::providers::testing::Unsigned;
use sluice_schemas::providers::{ALL, Provider, testing};
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
use sluice_schemas::reason::Reason;
use sluice_schemas::settings::Settings;
use sluice_service::secrets::Store;

use super::*;
use crate::pipeline::notes::Notes;
use crate::pipeline::outgoing::{FateTopics, Outgoing, outgoing};
use crate::pipeline::route::Framing;

const AT: i64 = 1_700_000_000;

struct Bench {
    settings: Settings,
    store: Store,
    router: Router,
    topics: FateTopics,
    _dir: tempfile::TempDir,
}

fn source_name(provider: &dyn Provider) -> String {
    format!("my-{}", provider.spec().name)
}

fn bench() -> Bench {
    bench_of(|_| {})
}

/// With the settings of each source changed.
fn bench_of(change: impl Fn(&mut serde_json::Value)) -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sources = serde_json::Map::new();
    for provider in ALL {
        let name = source_name(provider);
        let mut source = provider.sender().source(&name);
        change(&mut source.settings);
        for (file, content) in &source.files {
            std::fs::write(dir.path().join(file), content).expect("a secret");
        }
        sources.insert(name, source.settings);
    }
    let file = dir.path().join("settings.yaml");
    let text = json!({
        "kafka": {"bootstrap_servers": "localhost:1"},
        "secrets_dir": dir.path(),
        "sources": sources,
    });
    std::fs::write(&file, text.to_string()).expect("the settings");
    let settings = sluice_service::settings::load(&file).expect("settings without faults");
    let router = Router::new(&settings, |_| Framing::SingleObject).expect("a router");
    Bench {
        store: Store::load(&settings).expect("secrets without faults"),
        topics: FateTopics::new(&settings.topics.names),
        settings,
        router,
        _dir: dir,
    }
}

impl Bench {
    fn rules(&self) -> Rules<'_> {
        Rules {
            settings: &self.settings,
            credentials: self.store.snapshot(),
            router: &self.router,
        }
    }

    /// What one record becomes: topic, reason and the record's bytes as text, for comparison.
    fn judged(&self, record: &Record, index: &DedupIndex, overlay: &BatchOverlay) -> Judged {
        let rules = self.rules();
        let disposition = judge(record, &rules, index, overlay, &mut Notes::default())
            .expect("a version that is known");
        Judged::of(outgoing(disposition, record, &self.topics))
    }

    fn alone(&self, record: &Record) -> Judged {
        self.judged(record, &DedupIndex::new(3600), &BatchOverlay::default())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Judged {
    topic: String,
    fate: Fate,
    reason: Option<Reason>,
    value: Vec<u8>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    entry: Option<sluice_schemas::dedup_log::Entry>,
}

impl Judged {
    fn of(out: Outgoing<'_>) -> Self {
        Self {
            topic: out.topic.to_owned(),
            fate: out.label.fate,
            reason: out.label.reason,
            value: out.value.into_owned(),
            headers: out
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.map(std::borrow::Cow::into_owned)))
                .collect(),
            entry: out.entry,
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(found, _)| found == name)?;
        value
            .clone()
            .map(|value| String::from_utf8(value).expect("text"))
    }
}

fn record(provider: &dyn Provider, unsigned: &Unsigned, id: u128) -> Record {
    let sender = provider.sender();
    let source = sender.source(&source_name(provider));
    let secret = source
        .files
        .first()
        .map_or(&[][..], |(_, content)| content.as_slice());
    let mut headers = unsigned.headers.clone();
    headers.extend(sender.sign(unsigned, secret, AT));
    let request = RawRequest {
        id: uuid::Uuid::from_u128(id),
        source: source_name(provider),
        provider: provider.spec().name.to_owned(),
        received_at: AT * 1_000_000,
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{}", source_name(provider)),
        peer: IpAddr::from([127, 0, 0, 1]),
        token: source.token.is_some(),
        ack: Ack::Broker,
        headers: Headers(
            headers
                .into_iter()
                .map(|(name, value)| (name.to_lowercase(), value.into_bytes()))
                .collect(),
        ),
    };
    Record {
        partition: 3,
        offset: 42,
        appended_ms: AT * 1000,
        key: Some(b"key".to_vec()),
        value: unsigned.body.clone(),
        headers: vec![(REQUEST.to_owned(), Some(request.encode()))],
    }
}

fn every_sample() -> Vec<(&'static dyn Provider, &'static str, Record)> {
    let mut all = Vec::new();
    for provider in ALL {
        for (n, event) in (1..).zip(provider.sender().events()) {
            let unsigned = provider.sender().sample(event, n, AT);
            all.push((provider, *event, record(provider, &unsigned, u128::from(n))));
        }
    }
    all
}

#[test]
fn every_event_of_every_provider_goes_to_its_topic_the_same_each_time() {
    let bench = bench();
    for (provider, event, record) in every_sample() {
        let spec = provider.spec();
        let judged = bench.alone(&record);
        assert_eq!((judged.fate, judged.reason), (Fate::Event, None), "{event}");
        let source = &bench.settings.sources[&source_name(provider)];
        let own = source.topic_types().any(|r#type| r#type == event);
        let names = &bench.settings.topics.names;
        let topic = names.event(spec.name, if own { event } else { "other" });
        assert_eq!(judged.topic, topic);
        assert_eq!(judged.header("ce_type").as_deref(), Some(event));
        let time = judged.header("ce_time");
        assert_eq!(time.as_deref(), Some("2023-11-14T22:13:20.000Z"));
        assert_eq!(
            judged,
            bench.alone(&record),
            "the verdict can be recomputed"
        );
    }
}

#[test]
fn a_repetition_is_a_duplicate_whether_its_event_is_committed_or_not() {
    let bench = bench();
    for (_, event, record) in every_sample() {
        let first = bench.alone(&record);
        let entry = first.entry.expect("an event");
        let mut index = DedupIndex::new(3600);
        index.insert(&entry);
        let mut overlay = BatchOverlay::default();
        overlay.insert(entry);
        for (index, overlay) in [
            (&index, &BatchOverlay::default()),
            (&DedupIndex::new(3600), &overlay),
        ] {
            let again = bench.judged(&record, index, overlay);
            assert_eq!(again.reason, Some(Reason::Duplicate), "{event}");
            assert_eq!(again.header(DUPLICATE_OF), first.header("ce_id"), "{event}");
            assert_eq!(again.value, record.value, "as received");
        }
    }
}

#[test]
fn the_redrive_limit_is_checked_before_all_else() {
    let bench = bench();
    for (_, _, record) in every_sample() {
        for (count, stays) in [
            ("10", false),
            ("11", true),
            ("-1", true),
            ("x", true),
            ("", true),
        ] {
            let mut record = record.clone();
            let header = (REDRIVE_COUNT.to_owned(), Some(count.as_bytes().to_vec()));
            record.headers.push(header);
            let judged = bench.alone(&record);
            assert_eq!(
                judged.reason == Some(Reason::RedriveLimit),
                stays,
                "{count}"
            );
            record.headers[0].1 = Some(b"{\"v\":1}".to_vec());
            assert_ne!(bench.alone(&record).fate, Fate::Event);
        }
    }
}

#[test]
fn what_does_not_say_its_source_is_kept_and_what_is_newer_stops() {
    let bench = bench();
    let (_, _, good) = every_sample().swap_remove(0);
    for header in [
        None,
        Some(&b"\xff"[..]),
        Some(b"{}"),
        Some(br#"{"v":1,"id":3}"#),
    ] {
        let mut record = good.clone();
        record.headers = header
            .map(|header| (REQUEST.to_owned(), Some(header.to_vec())))
            .into_iter()
            .collect();
        let judged = bench.alone(&record);
        assert_eq!(judged.reason, Some(Reason::UnknownSource));
        assert_eq!(judged.header(RAW_OFFSET).as_deref(), Some("42"));
    }
    let mut newer = good.clone();
    newer.headers[0].1 = Some(br#"{"v":2,"what":"ever"}"#.to_vec());
    let rules = bench.rules();
    let (index, overlay) = (DedupIndex::new(1), BatchOverlay::default());
    let halt = judge(&newer, &rules, &index, &overlay, &mut Notes::default()).err();
    assert_eq!(halt, Some(UnsupportedVersion { version: 2 }));
}

#[test]
fn a_source_of_another_name_or_provider_is_unknown() {
    let bench = bench();
    let (_, _, record) = every_sample().swap_remove(0);
    let header = record.header(REQUEST).expect("a request").to_vec();
    for (field, value) in [("source", "nobody"), ("provider", "flockler")] {
        let mut request: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&header).expect("JSON");
        request.insert(field.to_owned(), json!(value));
        let mut other = record.clone();
        other.headers[0].1 = Some(serde_json::to_vec(&request).expect("JSON"));
        assert_eq!(
            bench.alone(&other).reason,
            Some(Reason::UnknownSource),
            "{field}"
        );
    }
}

#[test]
fn an_event_that_outgrows_its_topic_is_a_dead_letter() {
    let bench = bench();
    let provider = ALL
        .into_iter()
        .find(|provider| {
            let verifier = testing::verifier(*provider);
            !verifier.by_sequence() && verifier.max_body() > 1 << 20
        })
        .expect("a provider with large bodies");
    // The type stands in the body, in a column and in a header: three times its length.
    let body = json!({"type": "x".repeat(1 << 20)}).to_string();
    let unsigned = Unsigned {
        body: body.into_bytes(),
        ..provider
            .sender()
            .sample(provider.sender().events()[0], 1, AT)
    };
    let judged = bench.alone(&record(provider, &unsigned, 1));
    assert_eq!(judged.reason, Some(Reason::TooLargeForTopic));
    assert_eq!(judged.value, unsigned.body);
}

#[test]
fn no_credentials_accept_nothing_that_must_be_signed() {
    let bench = bench();
    for (provider, event, record) in every_sample() {
        let rules = Rules {
            credentials: Arc::default(),
            ..bench.rules()
        };
        let (index, overlay) = (DedupIndex::new(1), BatchOverlay::default());
        let disposition = judge(&record, &rules, &index, &overlay, &mut Notes::default())
            .expect("a known version");
        let judged = Judged::of(outgoing(disposition, &record, &bench.topics));
        let token = provider.sender().source("x").token.is_some();
        assert!(token || judged.fate == Fate::Rejected, "{event}");
    }
}

mod characters;

mod secrets;
