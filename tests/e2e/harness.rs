//! What all tests share: one Kafka node for the whole binary, and an installation for each test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sluice_schemas::audit::{Acked, Verdict, audit, digest};
use sluice_schemas::providers::partition_key;
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::topic::TopicNames;
use sluice_tests::harness::client::{Answer, Client, Outgoing};
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, Source};
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::topics::{Isolation, Reader, read, with_prefix};
use sluice_tests::harness::wait::PATIENCE;
use sluice_tests::report::{Outcome, outcome};
use uuid::Uuid;

/// One node for all tests; it dies with the test binary.
static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| Cluster::start(1, Purpose::Tests).expect("Kafka starts"));

/// Where the node is.
pub fn bootstrap() -> String {
    CLUSTER.bootstrap()
}

/// Where the node has a partition's segments.
pub fn partition_folder(topic: &str, partition: i32) -> PathBuf {
    CLUSTER.folder(0, topic, partition)
}

/// A site whose topics no other test sees.
pub fn site(test: &str) -> Site {
    Site::new(&format!("{test}."), &bootstrap()).expect("a site")
}

/// Both services of a site at work, and what was sent to them.
pub struct Running {
    pub site: Site,
    pub ingest: Service,
    pub processor: Service,
    acked: Vec<Acked>,
    runtime: tokio::runtime::Runtime,
    client: Client,
    reader: Reader,
}

impl Running {
    /// Starts both services under the settings that every test has.
    pub fn start(test: &str) -> Self {
        Self::on(site(test))
    }

    /// Starts both services of a site.
    pub fn on(site: Site) -> Self {
        let ingest = site.ingest().expect("ingest starts");
        let processor = site.processor("p0").expect("the processor starts");
        Self::of(site, ingest, processor)
    }

    /// Starts both services of a site on one settings file, which is given back.
    pub fn on_one_file(site: Site) -> (Self, PathBuf) {
        let started = |binary, part| site.start(binary, part, &site.settings);
        let ingest = started("sluice-ingest", "ingest").expect("ingest starts");
        let processor = started("sluice-processor", "processor").expect("the processor starts");
        let file = site.dir().join("settings-0.yaml");
        let other = site.dir().join("settings-1.yaml");
        let running = Self::of(site, ingest, processor);
        // The content is the same, so nobody sees that it is one file from now on.
        let link = other.with_extension("link");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        std::fs::rename(&link, &other).expect("an atomic swap");
        (running, file)
    }

    /// Both services of a site, once they are ready.
    pub fn of(site: Site, mut ingest: Service, mut processor: Service) -> Self {
        ingest.wait_ready().expect("ingest is ready");
        processor.wait_ready().expect("the processor is ready");
        let reader = Reader::new(site.bootstrap(), &fate_topics(&site), Isolation::Committed);
        Self {
            client: Client::new(site.listen()),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            acked: Vec::new(),
            reader: reader.expect("a reader"),
            site,
            ingest,
            processor,
        }
    }

    pub fn source(&self, provider: &str) -> Source {
        self.site.source(provider).expect("a source").clone()
    }

    pub fn names(&self) -> TopicNames {
        self.site.names()
    }

    /// Posts a request and takes whatever answer comes.
    pub fn post(&mut self, request: &Outgoing) -> Answer {
        let answer = self
            .runtime
            .block_on(self.client.post(request))
            .expect("an answer");
        if let Ok(id) = answer.id() {
            self.acked.push(Acked {
                id,
                digest: digest(&request.body),
            });
        }
        answer
    }

    /// These were accepted too.
    pub fn also_acked(&mut self, acked: Vec<Acked>) {
        self.acked.extend(acked);
    }

    /// Posts a request that must be accepted; its id.
    #[track_caller]
    pub fn accept(&mut self, request: &Outgoing) -> String {
        self.post(request).id().expect("an accepted request")
    }

    /// What became of every request so far, by id: waits until `n` have a fate.
    #[track_caller]
    pub fn outcomes(&mut self, n: usize) -> BTreeMap<String, Outcome> {
        let names = self.names();
        self.reader
            .until("fates", PATIENCE, |records| records.len() >= n)
            .unwrap_or_else(|error| {
                panic!("{error:#}\n{}", self.processor.log().unwrap_or_default())
            });
        let records = self.reader.records.iter();
        records
            .filter_map(|record| outcome(&names, record))
            .collect()
    }

    /// What became of one request.
    #[track_caller]
    pub fn outcome(&mut self, id: &str) -> Outcome {
        let n = self.reader.records.len();
        let mut found = self.outcomes(n);
        for more in 1..1_000 {
            if let Some(outcome) = found.remove(id) {
                return outcome;
            }
            found = self.outcomes(n + more);
        }
        panic!("no fate of {id}");
    }

    /// The request as it stands on raw.
    #[track_caller]
    pub fn raw_request(&self, id: &str) -> RawRequest {
        let raw = read(
            self.site.bootstrap(),
            &[self.names().raw()],
            Isolation::Committed,
        );
        let records = raw.expect("raw");
        let requests = records.iter().filter_map(|record| record.header(REQUEST));
        let mut requests = requests.filter_map(|header| RawRequest::decode(header).ok());
        requests
            .find(|request| request.id.to_string() == id)
            .expect("the request is on raw")
    }

    /// Kills the processor and starts it again.
    pub fn kill_processor(&mut self) {
        self.processor.kill().expect("a kill");
        self.start_processor();
    }

    /// Starts the processor again, once it has ended, and waits for it.
    pub fn start_processor(&mut self) {
        self.processor = self.site.processor("p0").expect("the processor starts");
        self.processor.wait_ready().expect("the processor is ready");
    }

    /// Waits until all of raw has been judged.
    pub fn wait_caught_up(&self) {
        let raw = self.names().raw();
        offsets::wait_caught_up(self.site.bootstrap(), &self.site.group(), &raw, PATIENCE)
            .expect("the processor catches up");
    }

    /// Ends both services, audits all topics, and looks at the logs.
    #[track_caller]
    pub fn finish(mut self, allowed: &[&str]) -> Verdict {
        self.wait_caught_up();
        self.ingest.stop().expect("ingest ends by itself");
        self.processor.stop().expect("the processor ends by itself");
        let names = self.names();
        let topics = with_prefix(self.site.bootstrap(), &names.prefix).expect("topics");
        let records = read(self.site.bootstrap(), &topics, Isolation::Committed).expect("records");
        let verdict = audit(&names, &records, &self.acked);
        assert!(verdict.holds(), "{verdict:#?}");
        self.site.check_logs(allowed).expect("quiet logs");
        verdict
    }
}

/// All topics of a site that fates go to.
pub fn fate_topics(site: &Site) -> Vec<String> {
    let names = site.names();
    let mut topics = with_prefix(site.bootstrap(), &names.prefix).expect("topics");
    topics.retain(|topic| *topic != names.raw() && *topic != names.dedup_log());
    topics
}

/// An id that no other request of this run has.
pub fn fresh_id() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128((7 << 76) | (2 << 62) | u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Writes to raw as the operator's redrive would: what no sender can bring about.
pub fn produce_raw(site: &Site, request: &RawRequest, body: &[u8], more: &[(&str, &str)]) {
    produce_raw_to(site, request, body, more, None);
}

/// The same, to any partition.
pub fn produce_raw_to(
    site: &Site,
    request: &RawRequest,
    body: &[u8],
    more: &[(&str, &str)],
    partition: Option<i32>,
) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("partitioner", "murmur2_random")
        .create()
        .expect("a producer");
    let header = request.encode();
    let mut headers = OwnedHeaders::new().insert(Header {
        key: REQUEST,
        value: Some(&header),
    });
    for (key, value) in more {
        headers = headers.insert(Header {
            key,
            value: Some(value.as_bytes()),
        });
    }
    let provider = sluice_schemas::providers::by_name(&request.provider);
    let key = provider.map_or_else(
        || b"key".to_vec(),
        |provider| partition_key(verifier(provider).as_ref(), &request.headers, body),
    );
    let topic = site.names().raw();
    let mut record = BaseRecord::to(&topic)
        .key(&key)
        .payload(body)
        .headers(headers);
    record.partition = partition;
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("a record");
    producer.flush(Duration::from_secs(30)).expect("a flush");
}
