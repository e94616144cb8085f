//! What is judged, and what judging depends on: a sample of each provider, signed, of an ordinary length.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::json;
use sluice_processor::dedup::index::{BatchOverlay, DedupIndex};
use sluice_processor::pipeline::notes::Notes;
use sluice_processor::pipeline::outgoing::{FateTopics, outgoing};
use sluice_processor::pipeline::route::{Framing, Router};
use sluice_processor::pipeline::{Rules, judge};
use sluice_processor::record::Record;
use sluice_schemas::dedup_log::Entry;
use sluice_schemas::identity::fingerprint;
use sluice_schemas::providers::testing::{Unsigned, request};
use sluice_schemas::providers::{ALL, Keyring, Provider, Validity, by_name, partition_key};
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest, TRACEPARENT};
use sluice_schemas::settings::{Environment, Settings, Source};
use uuid::Uuid;

/// The second at which all was sent, received and appended.
const AT: i64 = 1_700_000_000;

/// The least length of a body: an ordinary one has about as much.
const BODY: usize = 1_000;

/// How many events the partition remembers: so many that no table grows in what is counted.
const REMEMBERED: u64 = 5_000;

/// What judging depends on, for all providers.
pub struct World {
    pub settings: Settings,
    credentials: Arc<BTreeMap<String, Arc<Keyring>>>,
    pub router: Router,
    /// Without the headers of `CloudEvents`.
    pub plain: Router,
    topics: FateTopics,
}

/// One record of a provider, before it is judged.
pub struct Case {
    pub world: &'static World,
    pub record: Record,
    pub index: DedupIndex,
    pub overlay: BatchOverlay,
}

fn name(provider: &dyn Provider) -> String {
    format!("my-{}", provider.spec().name)
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let settings = settings(true);
        let router = |settings| Router::new(settings, |_| Framing::SingleObject).expect("a router");
        World {
            credentials: Arc::new(ALL.map(|provider| keyring(provider, &settings)).into()),
            router: router(&settings),
            plain: router(&self::settings(false)),
            topics: FateTopics::new(&settings.topics.names),
            settings,
        }
    })
}

/// A source of each provider.
fn settings(cloudevents: bool) -> Settings {
    let sources = ALL.map(|provider| {
        let name = name(provider);
        let settings = provider.sender().source(&name).settings;
        (name, settings)
    });
    let text = json!({
        "kafka": {"bootstrap_servers": "localhost:1"},
        "processor": {"cloudevents_headers": cloudevents},
        "sources": serde_json::Map::from_iter(sources),
    });
    let environment = Environment {
        member: Some("member-0"),
        property_fault: &|_, _| None,
    };
    let path = Path::new("settings.yaml");
    Settings::parse(path, text.to_string().as_bytes(), &environment).expect("good settings")
}

/// A source with what its secret files hold.
fn keyring(provider: &dyn Provider, settings: &Settings) -> (String, Arc<Keyring>) {
    let name = name(provider);
    let files = provider.sender().source(&name).files.into_iter();
    let secrets = files.map(|(file, content)| {
        let mut key = settings.sources[&name]
            .verifier
            .key(&content)
            .expect("a key");
        key.name = file;
        (Validity::default(), key)
    });
    let keyring = Keyring::new(&secrets.collect::<Vec<_>>(), &BTreeMap::new());
    (name, Arc::new(keyring))
}

impl World {
    fn rules(&self) -> Rules<'_> {
        Rules {
            settings: &self.settings,
            credentials: Arc::clone(&self.credentials),
            router: &self.router,
        }
    }

    pub fn keyring(&self, source: &Source) -> &Keyring {
        &self.credentials[&source.name]
    }
}

/// The provider's n-th request, as ingest writes it to the raw topic.
fn sample(provider: &dyn Provider, n: u64) -> Record {
    let source = provider.sender().source(&name(provider));
    let Unsigned { headers, body, .. } = request(provider, &source, (n, AT), BODY);
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value.into_bytes()));
    let raw = RawRequest {
        id: Uuid::from_u128(0x018b_cfe5_687b_7bab_abab_abab_abab_0000 + u128::from(n)),
        source: name(provider),
        provider: provider.spec().name.to_owned(),
        received_at: AT * 1_000_000,
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{}", name(provider)),
        peer: IpAddr::from([203, 0, 113, 7]),
        token: source.token.is_some(),
        ack: Ack::Broker,
        headers: Headers(headers.collect()),
    };
    let verifier = &world().settings.sources[&name(provider)].verifier;
    let trace = b"00-abababababababababababababababab-cdcdcdcdcdcdcdcd-00";
    Record {
        partition: 3,
        offset: 1_000_000 + i64::try_from(n).expect("small"),
        appended_ms: AT * 1_000,
        key: Some(partition_key(verifier.as_ref(), &raw.headers, &body)),
        value: body,
        headers: vec![
            (REQUEST.to_owned(), Some(raw.encode())),
            (TRACEPARENT.to_owned(), Some(trace.to_vec())),
        ],
    }
}

/// An identity that no sample has.
fn other(n: u64) -> Entry {
    Entry {
        identity: fingerprint("other", [n.to_be_bytes().as_slice()]),
        appended: u32::try_from(AT).expect("before 2106"),
        sequence: None,
    }
}

/// The provider's record with what a partition remembers. Another record was judged before, so that all that
/// is made once is there.
pub fn case(provider: &str) -> &'static mut Case {
    let provider = by_name(provider).expect("a provider");
    let mut index = DedupIndex::new(72 * 3600);
    let mut overlay = BatchOverlay::default();
    for n in 0..REMEMBERED {
        index.insert(&other(n));
        overlay.insert(other(REMEMBERED + n));
    }
    let mut case = Case {
        world: world(),
        record: sample(provider, 1),
        index,
        overlay,
    };
    for _ in 0..2 {
        let entry = case.entry();
        case.index.insert(&entry);
        case.overlay.insert(entry);
        assert!(case.judged().is_none(), "a duplicate");
    }
    case.record = sample(provider, 2);
    Box::leak(Box::new(case))
}

impl Case {
    /// What the record adds to the dedup index, if it is an event.
    pub fn judged(&self) -> Option<Entry> {
        let disposition = judge(
            &self.record,
            &self.world.rules(),
            &self.index,
            &self.overlay,
            &mut Notes::default(),
        );
        let disposition = disposition.expect("a version that is known");
        outgoing(disposition, &self.record, &self.world.topics).entry
    }

    pub fn entry(&self) -> Entry {
        let (index, overlay) = (DedupIndex::new(3600), BatchOverlay::default());
        let rules = self.world.rules();
        let disposition = judge(
            &self.record,
            &rules,
            &index,
            &overlay,
            &mut Notes::default(),
        );
        let disposition = disposition.expect("a version that is known");
        let entry = outgoing(disposition, &self.record, &self.world.topics).entry;
        entry.expect("an event")
    }
}
