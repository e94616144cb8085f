//! The settings file changes while both services run and requests come.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_schemas::event::{CONTENT_TYPE, CONTENT_TYPE_CONFLUENT};
use sluice_schemas::fate::{Fate, REDRIVE_COUNT};
use sluice_schemas::identity::sha256;
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
use sluice_schemas::reason::Reason;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::process::Service;
use sluice_tests::harness::registry::Registry;
use sluice_tests::harness::topics::{Isolation, Record, read, with_prefix};
use sluice_tests::harness::wait::{PATIENCE, wait_for};
use sluice_tests::report::outcome;

use crate::harness::{Running, fresh_id, produce_raw, site};

const FAILURES: &str = "sluice_settings_reload_failures_total";
const IN_FORCE: &str = "sluice_settings_in_force";

/// Both services on one file, and requests that must all be accepted.
struct Reloaded {
    running: Running,
    file: PathBuf,
    n: u64,
}

impl Reloaded {
    fn start(test: &str) -> Self {
        Self::on(site(test))
    }

    fn on(site: Site) -> Self {
        let (running, file) = Running::on_one_file(site);
        Self {
            running,
            file,
            n: 0,
        }
    }

    /// Puts a file in the place of the one that is there, as a careful hand does.
    fn write(&self, content: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, content).expect("a file");
        std::fs::rename(&next, &self.file).expect("an atomic swap");
    }

    fn write_settings(&self) {
        self.write(&self.running.site.settings.to_string());
    }

    fn signed(&mut self, source: &Source, event: &str) -> Outgoing {
        self.n += 1;
        source.signed(event, self.n, now()).expect("a request")
    }

    /// One request, which must be accepted.
    #[track_caller]
    fn accepted(&mut self, source: &Source, event: &str) -> String {
        let request = self.signed(source, event);
        self.running.accept(&request)
    }

    /// Sends to a source that is always there, until something holds.
    #[track_caller]
    fn load_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let steady = self.running.source("flowcode");
        wait_for(what, PATIENCE, || {
            for _ in 0..5 {
                self.accepted(&steady, "scan.created");
            }
            Ok(holds(self).then_some(()))
        })
        .expect(what);
    }

    /// Waits under load until both services stand to the file like this.
    #[track_caller]
    fn load_until_in_force(&mut self, wanted: f64) {
        self.load_until("both have seen the file", |reloaded| {
            let Running {
                ingest, processor, ..
            } = &reloaded.running;
            let stands = |service: &Service| {
                let metrics = service.metrics().expect("metrics");
                (metrics.sum(IN_FORCE, &[]) - wanted).abs() < 0.5
            };
            stands(ingest) && stands(processor)
        });
    }

    /// A source like Flowcode's under another name, with a topic of its own, in the settings and in no
    /// file yet.
    fn late(&mut self, name: &str, event: &str) -> Source {
        let like = self.running.source("flowcode");
        let site = &mut self.running.site;
        let mut settings = site.settings["sources"][&like.name].clone();
        settings["events"] = json!(["scan.created", event]);
        site.set(&["sources", name], settings);
        Source {
            name: name.to_owned(),
            ..like
        }
    }

    fn records(&self) -> Vec<Record> {
        let site = &self.running.site;
        let topics = with_prefix(site.bootstrap(), &site.names().prefix).expect("topics");
        read(site.bootstrap(), &topics, Isolation::Committed).expect("records")
    }

    /// The topics of what became of a source's requests, and how many there are on each.
    fn became(&self, source: &str) -> BTreeMap<String, usize> {
        self.running.wait_caught_up();
        let names = self.running.names();
        let mut found = BTreeMap::new();
        for record in &self.records() {
            if let Some((_, outcome)) = outcome(&names, record)
                && outcome.source == source
            {
                *found.entry(outcome.topic).or_default() += 1;
            }
        }
        found
    }
}

/// The raw record of a request, as ingest would write it.
fn raw_of(source: &Source, request: &Outgoing) -> RawRequest {
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.clone().into_bytes()));
    RawRequest {
        id: fresh_id(),
        source: source.name.clone(),
        provider: source.provider.to_owned(),
        received_at: now() * 1_000_000,
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{}", source.name),
        peer: IpAddr::from([127, 0, 0, 1]),
        token: false,
        ack: Ack::Broker,
        headers: Headers(headers.collect()),
    }
}

#[test]
fn sources_come_under_load_and_each_of_their_requests_is_an_event() {
    let mut reloaded = Reloaded::start("reload-sources");
    let names = reloaded.running.names();
    for round in 0..3 {
        let (name, event) = (format!("late-{round}"), format!("late.event{round}"));
        let source = reloaded.late(&name, &event);
        reloaded.write_settings();
        // Before either service may have looked: a reader of raw reads the file first.
        let early = reloaded.signed(&source, &event);
        let raw = raw_of(&source, &early);
        produce_raw(&reloaded.running.site, &raw, &early.body, &[]);
        let mut taken = 1;
        reloaded.load_until("ingest takes the new source in", |reloaded| {
            let request = reloaded.signed(&source, &event);
            let status = reloaded.running.post(&request).status;
            assert!([200, 404].contains(&status), "{status}");
            taken += usize::from(status == 200);
            taken > 20
        });
        let topic = source.topic(&names, &event).expect("known");
        assert_ne!(topic, names.event("flowcode", &event), "not known at first");
        let own = names.event("flowcode", &event);
        assert_eq!(reloaded.became(&name), BTreeMap::from([(own, taken)]));
    }
    reloaded.load_until_in_force(1.0);
    reloaded.running.finish(&[]);
}

#[test]
fn tokens_are_rotated_under_load_and_no_request_is_refused() {
    let mut reloaded = Reloaded::start("reload-tokens");
    let mut source = reloaded.running.source("referralloop");
    let hash = |token: &str| -> String {
        let bytes = sha256(token.as_bytes());
        let add = |text: String, byte: &u8| text + &format!("{byte:02x}");
        bytes.iter().fold(String::new(), add)
    };
    let event = source.samples().expect("samples")[0];
    let path = ["sources", &source.name.clone(), "token_sha256"];
    let mut old = source.token.clone().expect("a token");
    for round in 0..3 {
        let new = format!("token-{round}");
        let both: Value = json!([hash(&old), hash(&new)]);
        reloaded.running.site.set(&path, both);
        reloaded.write_settings();
        let with_new = Source {
            token: Some(new.clone()),
            ..source.clone()
        };
        reloaded.load_until("the new token lets in", |reloaded| {
            reloaded.accepted(&source, event);
            let request = reloaded.signed(&with_new, event);
            reloaded.running.post(&request).status == 200
        });
        reloaded.running.site.set(&path, json!([hash(&new)]));
        reloaded.write_settings();
        let with_old = std::mem::replace(&mut source, with_new);
        reloaded.load_until("the old token does not", |reloaded| {
            reloaded.accepted(&source, event);
            let request = reloaded.signed(&with_old, event);
            reloaded.running.post(&request).status == 404
        });
        old = new;
    }
    reloaded.running.finish(&[]);
}

#[test]
fn a_bad_file_changes_nothing_and_a_part_that_needs_a_restart_waits() {
    let mut reloaded = Reloaded::start("reload-bad");
    let good = reloaded.running.site.settings.clone();
    let mut bad = vec!["sources: [".to_owned(), String::new()];
    let like = reloaded.running.source("flowcode").name;
    for (key, value) in [
        ("max_body", json!("64MiB")),
        ("dedup_window", json!("73h")),
        ("secrets", json!("x")),
    ] {
        let mut settings = good.clone();
        settings["sources"][&like][key] = value;
        bad.push(settings.to_string());
    }
    let failures = |service: &Service| service.metrics().expect("metrics").sum(FAILURES, &[]);
    for content in bad {
        let before = [
            failures(&reloaded.running.ingest),
            failures(&reloaded.running.processor),
        ];
        reloaded.write(&content);
        reloaded.load_until("both refuse the file", |reloaded| {
            let running = &reloaded.running;
            failures(&running.ingest) > before[0] && failures(&running.processor) > before[1]
        });
        reloaded.load_until_in_force(0.0);
        assert!(reloaded.running.ingest.is_ready(), "{content}");
        assert!(reloaded.running.processor.is_ready(), "{content}");
    }
    // Secrets are the processor's alone, so a source without them is good for ingest.
    let lacking = reloaded.late("lacking", "late.event");
    let path = ["sources", "lacking", "secrets"];
    reloaded.running.site.set(&path, json!(["not-there"]));
    let before = failures(&reloaded.running.processor);
    reloaded.write_settings();
    reloaded.load_until("the processor refuses the file", |reloaded| {
        failures(&reloaded.running.processor) > before
    });
    let secret = reloaded.running.site.secret_path("not-there");
    std::fs::write(secret, &lacking.secret).expect("a secret");
    // The file is as it was: it is tried again.
    reloaded.load_until_in_force(1.0);
    reloaded.accepted(&lacking, "late.event");

    reloaded
        .running
        .site
        .set(&["topics", "partitions"], json!(7));
    reloaded.write_settings();
    reloaded.load_until_in_force(0.0);
    reloaded.write(&good.to_string());
    reloaded.load_until_in_force(1.0);
    let gone = reloaded.signed(&lacking, "late.event");
    assert_eq!(reloaded.running.post(&gone).status, 404);
    let log = reloaded.running.processor.log().expect("a log");
    assert_eq!(
        log.matches("not-there is not there").count(),
        1,
        "logged once"
    );
    assert!(log.contains("wait for a restart"), "{log}");
    reloaded.running.finish(&[
        "the settings file has faults",
        "these settings changed and wait for a restart",
    ]);
}

#[test]
fn a_dead_letter_of_an_unknown_source_is_an_event_once_the_source_is_known() {
    let mut reloaded = Reloaded::start("reload-redrive");
    let source = reloaded.late("late", "late.event");
    let request = reloaded.signed(&source, "late.event");
    let raw = raw_of(&source, &request);
    produce_raw(&reloaded.running.site, &raw, &request.body, &[]);
    let names = reloaded.running.names();
    let outcome = reloaded.running.outcome(&raw.id.to_string());
    assert_eq!(outcome.reason, Reason::UnknownSource.name());
    assert_eq!(outcome.fate, Fate::DeadLetter);

    reloaded.write_settings();
    // As it lies there, and once more.
    let letters = read_topic(&reloaded, &names.dead_letter());
    let header = letters[0].header(REQUEST).expect("the request");
    let kept = RawRequest::decode(header).expect("a request");
    let again = [(REDRIVE_COUNT, "1")];
    produce_raw(&reloaded.running.site, &kept, &letters[0].value, &again);
    let became = reloaded.became("late");
    let event = names.event("flowcode", "late.event");
    let expected = BTreeMap::from([(event, 1), (names.dead_letter(), 1)]);
    assert_eq!(became, expected);
    // The audit has no word for a redrive: a request that is on raw twice is a fault to it.
    let Running {
        mut ingest,
        mut processor,
        site,
        ..
    } = reloaded.running;
    ingest.stop().expect("ingest ends by itself");
    processor.stop().expect("the processor ends by itself");
    site.check_logs(&[]).expect("quiet logs");
}

#[test]
fn a_new_topic_has_its_schema_before_an_event_goes_there() {
    let registry = Registry::start().expect("the registry");
    let mut site = site("reload-registry");
    site.set(&["schema_registry"], json!({"url": registry.url()}));
    let mut reloaded = Reloaded::on(site);
    let source = reloaded.late("late", "late.event");
    reloaded.write_settings();
    reloaded.load_until("the new source is let in", |reloaded| {
        let request = reloaded.signed(&source, "late.event");
        reloaded.running.post(&request).status == 200
    });
    reloaded.running.wait_caught_up();
    let topic = reloaded.running.names().event("flowcode", "late.event");
    let events = read_topic(&reloaded, &topic);
    let latest = registry.get(&format!("/subjects/{topic}-value/versions/latest"));
    let id = latest.expect("a version")["id"].as_u64().expect("an id");
    let id = u32::try_from(id).expect("small").to_be_bytes();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].value[..5], [&[0], &id[..]].concat());
    let content_type = events[0].text(CONTENT_TYPE);
    assert_eq!(content_type, Some(CONTENT_TYPE_CONFLUENT));
    reloaded.running.finish(&[]);
}

fn read_topic(reloaded: &Reloaded, topic: &str) -> Vec<Record> {
    let bootstrap = reloaded.running.site.bootstrap();
    read(bootstrap, &[topic.to_owned()], Isolation::Committed).expect("records")
}
