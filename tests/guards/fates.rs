//! What the processor makes of raw records, byte for byte: of every fixture, of every request of the
//! playground, and of records that the processor itself refuses.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};
use sluice_processor::dedup::index::{BatchOverlay, DedupIndex};
use sluice_processor::pipeline::notes::Notes;
use sluice_processor::pipeline::outgoing::{FateTopics, outgoing};
use sluice_processor::pipeline::route::{Framing, Router};
use sluice_processor::pipeline::{Rules, judge};
use sluice_processor::record::Record;
use sluice_schemas::dedup_log::DedupRecord;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::providers::{by_name, partition_key};
use sluice_schemas::raw::{Ack, Headers, RawRequest};
use sluice_schemas::reason::Reason;
use sluice_schemas::settings::Settings;
use sluice_service::secrets::Store;
use sluice_tests::harness::deployment::Site;
use sluice_tests::load::mix::cases::{self, Case, Expected};
use uuid::Uuid;

use crate::fixture::{Fixture, fixtures};
use crate::golden::compare;

/// When the playground's requests are signed and received, seconds since 1970.
const AT: i64 = 1_700_000_000;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The schema id that a registry would give.
const SCHEMA_ID: u32 = 0x0102_0304;

/// All that a judgement depends on.
struct Bench {
    settings: Settings,
    store: Store,
    router: Router,
    topics: FateTopics,
    index: DedupIndex,
}

impl Bench {
    fn new(settings: &Value, framing: Framing) -> Self {
        let dir = settings["secrets_dir"].as_str().expect("a folder");
        let file = Path::new(dir).join("settings.yaml");
        std::fs::write(&file, settings.to_string()).expect("the settings");
        let settings =
            sluice_service::settings::load(&file).unwrap_or_else(|faults| panic!("{faults:?}"));
        Self {
            store: Store::load(&settings).unwrap_or_else(|faults| panic!("{faults:?}")),
            router: Router::new(&settings, |_| framing).expect("a router"),
            topics: FateTopics::new(&settings.topics.names),
            index: DedupIndex::new(72 * 3_600),
            settings,
        }
    }

    /// What a record becomes, as text. An event is learned, as if it were committed.
    fn judge(&mut self, what: &str, record: &Record) -> String {
        let rules = Rules {
            settings: &self.settings,
            credentials: self.store.snapshot(),
            router: &self.router,
        };
        let mut text = format!("== {what}\n");
        let disposition = match judge(
            record,
            &rules,
            &self.index,
            &BatchOverlay::default(),
            &mut Notes::default(),
        ) {
            Ok(disposition) => disposition,
            Err(halt) => return format!("{text}halt at version {}\n\n", halt.version),
        };
        let out = outgoing(disposition, record, &self.topics);
        let reason = out.label.reason.map_or("-", Reason::name);
        let (source, provider, fate) =
            (out.label.source, out.label.provider, out.label.fate.name());
        line(&mut text, "topic", out.topic);
        line(&mut text, "key", &out.key.map_or_else(|| "-".into(), hex));
        line(&mut text, "timestamp", &out.timestamp_ms.to_string());
        line(
            &mut text,
            "count",
            &format!("{source} {provider} {fate} {reason}"),
        );
        line(
            &mut text,
            "unverified",
            &out.unverified_signature.to_string(),
        );
        for (name, value) in &out.headers {
            // A sentence for a person, whose words are free.
            if *name != "fate.detail" {
                let value = value.as_deref().map_or_else(|| "-".into(), hex);
                line(&mut text, &format!("header {name}"), &value);
            }
        }
        line(&mut text, "value", &hex(&out.value));
        if let Some(entry) = out.entry {
            let log = DedupRecord {
                from: record.offset,
                to: record.offset + 1,
                partitions: 12,
                entries: vec![entry],
            };
            line(&mut text, "dedup-log", &hex(&log.encode()));
            self.index.insert(&entry);
        }
        text + "\n"
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name} {value}");
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A request on raw: the number decides its id and its offset.
fn record(number: u64, request: &RawRequest, body: &[u8]) -> Record {
    let provider = by_name(&request.provider).expect("a provider");
    Record {
        partition: 3,
        offset: 1_000 + i64::try_from(number).expect("small"),
        appended_ms: request.received_at / 1_000 + 5,
        key: Some(partition_key(
            verifier(provider).as_ref(),
            &request.headers,
            body,
        )),
        value: body.to_vec(),
        headers: vec![
            ("request".to_owned(), Some(request.encode())),
            ("traceparent".to_owned(), Some(TRACE.as_bytes().to_vec())),
        ],
    }
}

fn request(number: u64, source: &str, provider: &str, received_at: i64) -> RawRequest {
    let base = 0x0193_5b7a_0000_7000_8000_0000_0000_0000;
    RawRequest {
        id: Uuid::from_u128(base + u128::from(number)),
        source: source.to_owned(),
        provider: provider.to_owned(),
        received_at,
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{source}"),
        peer: IpAddr::from([192, 0, 2, 1]),
        token: false,
        ack: Ack::Broker,
        headers: Headers::default(),
    }
}

/// A fixture on raw, and the settings that it is judged under.
fn fixture(number: u64, fixture: &Fixture, dir: &Path) -> (Record, Value) {
    for (file, content) in &fixture.files {
        std::fs::write(dir.join(file), content).expect("a secret");
    }
    let request = RawRequest {
        method: fixture.method.clone(),
        target: fixture.target.clone(),
        token: fixture.token,
        headers: Headers(fixture.headers.clone()),
        ..request(
            number,
            fixture.provider,
            fixture.provider,
            fixture.received_at,
        )
    };
    let settings = json!({
        "kafka": {"bootstrap_servers": "localhost:9092"},
        "secrets_dir": dir,
        "sources": {fixture.provider: fixture.source},
    });
    (record(number, &request, &fixture.body), settings)
}

/// A request of the playground on raw; `None` where ingest refuses it.
fn case(number: u64, site: &Site, case: &Case) -> Option<Record> {
    if matches!(case.expected, Expected::Refused(_)) {
        return None;
    }
    let source = site.source(case.provider).expect("a source");
    let latin1 = |text: &str| {
        text.chars()
            .map(|c| u8::try_from(c).expect("Latin-1"))
            .collect()
    };
    let headers = case.outgoing.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_lowercase(), latin1(value)));
    let request = RawRequest {
        token: source.token.is_some(),
        headers: Headers(headers.collect()),
        ..request(number, &source.name, source.provider, AT * 1_000_000)
    };
    Some(record(number, &request, &case.outgoing.body))
}

fn every_fixture(framing: Framing) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = String::new();
    for (number, one) in (0..).zip(fixtures()) {
        let (record, settings) = fixture(number, &one, dir.path());
        text += &Bench::new(&settings, framing).judge(&one.name, &record);
    }
    text
}

fn playground(framing: Framing) -> String {
    let site = Site::new("", "localhost:9092").expect("a site");
    let mut bench = Bench::new(&site.settings, framing);
    let mut text = String::new();
    let cases = cases::all(&site, 1, AT).expect("cases");
    for (number, one) in (0..).zip(&cases) {
        if let Some(record) = case(number, &site, one) {
            text += &bench.judge(&format!("{}: {}", one.provider, one.what), &record);
        }
    }
    text
}

/// What the processor decides without the provider.
fn processor(framing: Framing) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let first = &fixtures()[0];
    let (good, settings) = fixture(0, first, dir.path());
    let with = |name: &str, value: &str| {
        let mut record = good.clone();
        record
            .headers
            .push((name.to_owned(), Some(value.as_bytes().to_vec())));
        record
    };
    let without_key = Record {
        key: None,
        ..good.clone()
    };
    let mut without_request = good.clone();
    without_request.headers.remove(0);
    let mut without_trace = good.clone();
    without_trace.headers.pop();
    let large = Record {
        key: Some(vec![b'k'; 2 << 20]),
        ..good.clone()
    };
    let mut foreign = request(0, first.provider, "flowcode", 0);
    foreign.headers = Headers(first.headers.clone());
    let cases = [
        ("as recorded", good.clone()),
        ("without a key", without_key),
        ("without a trace", without_trace),
        ("redriven three times", with("redrive.count", "3")),
        ("redriven a hundred times", with("redrive.count", "100")),
        (
            "redriven so often as no number says",
            with("redrive.count", "x"),
        ),
        ("without a request", without_request),
        ("a request that is no JSON", with("request", "{")),
        (
            "a request of a newer version",
            with("request", r#"{"v":2}"#),
        ),
        (
            "of a source that is not configured",
            record(0, &request(0, "s", "flock", 0), b"{}"),
        ),
        (
            "of another provider than the source",
            record(0, &foreign, &first.body),
        ),
        ("too large with its key", large),
    ];
    let mut text = String::new();
    for (what, record) in &cases {
        let judged = Bench::new(&settings, framing).judge(what, record);
        // A key of 2 MiB says nothing.
        text += &judged.replace(&"6b".repeat(2 << 20), "(2 MiB)");
    }
    text + &redrives(&settings, framing, with) + &windows(&settings, framing, &good)
}

/// How often a record may be redriven.
fn redrives(settings: &Value, framing: Framing, with: impl Fn(&str, &str) -> Record) -> String {
    let mut bench = Bench::new(settings, framing);
    let refused = |count: &u32| {
        let record = with("redrive.count", &count.to_string());
        bench.judge("", &record).contains("redrive_limit")
    };
    let first = (0..1_000).find(refused);
    format!("== redrives\nfirst refused {first:?}\n\n")
}

/// For how long an event suppresses its repetition, in seconds, and how old a delivery may be.
fn windows(settings: &Value, framing: Framing, good: &Record) -> String {
    let mut text = "== the default window, and the age of each provider\n".to_owned();
    for seconds in [0, 1, 72 * 3_600 - 1, 72 * 3_600, 72 * 3_600 + 1] {
        let mut bench = Bench::new(settings, framing);
        bench.judge("first", good);
        let later = Record {
            appended_ms: good.appended_ms + seconds * 1_000,
            ..good.clone()
        };
        let again = bench.judge("again", &later).contains("duplicate.of");
        line(
            &mut text,
            &format!("again after {seconds} s: duplicate"),
            &again.to_string(),
        );
    }
    let site = Site::new("", "localhost:9092").expect("a site");
    for source in &site.sources {
        let event = source.samples().expect("samples")[0];
        for seconds in [-86_400, -301, -300, 0, 300, 301, 86_400] {
            let signed = source.signed(event, 1, AT - seconds).expect("a request");
            let one = Case {
                provider: source.provider,
                what: String::new(),
                outgoing: signed,
                expected: Expected::Event {
                    topic: String::new(),
                },
            };
            let record = case(0, &site, &one).expect("a record");
            let judged = Bench::new(&site.settings, framing).judge("", &record);
            let stale = judged.contains("timestamp_stale");
            let name = format!("{} signed {seconds} s before: stale", source.provider);
            line(&mut text, &name, &stale.to_string());
        }
    }
    text
}

#[test]
fn every_fixture_has_the_same_fate() {
    compare("fates-fixtures.txt", &every_fixture(Framing::SingleObject));
    let registry = every_fixture(Framing::Confluent(SCHEMA_ID));
    compare("fates-fixtures-registry.txt", &registry);
}

#[test]
fn every_request_of_the_playground_has_the_same_fate() {
    compare("fates-playground.txt", &playground(Framing::SingleObject));
    let registry = playground(Framing::Confluent(SCHEMA_ID));
    compare("fates-playground-registry.txt", &registry);
}

#[test]
fn what_the_processor_decides_alone_is_the_same() {
    compare("fates-processor.txt", &processor(Framing::SingleObject));
}
