//! `sluicectl dead-letters redrive` and `rejected redrive`: what a mended cause lets through, each once.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sluice_schemas::fate::REDRIVE_COUNT;
use sluice_schemas::raw::{REQUEST, RawRequest, TRACEPARENT};
use sluice_schemas::record::Record;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::find;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::ctl::written;
use crate::harness::{Running, produce_raw, site};
use reading::{events, has, only, raw_ends, records};

mod limit;

mod outages;

mod reading;

mod secrets;

/// Of each of the two reasons.
const EACH: u64 = 500;

/// What selects the thousand.
const THOUSAND: [&str; 6] = [
    "dead-letters",
    "redrive",
    "--reason=unknown_source",
    "--reason=environment_not_accepted",
    "--source=my-flowcode,my-flockler",
    "--json",
];

/// Settings under which a source is not known and another one accepts another environment, and what mends
/// them.
struct Broken {
    running: Running,
    settings: Value,
}

impl Broken {
    fn on(mut site: Site) -> Self {
        // Over at once, so that no index keeps a second event away.
        site.set(&["sources", "my-flock", "dedup_window"], json!("1s"));
        // The largest of all, so that no topic grows when a source comes.
        site.set(&["sources", "my-flockler", "max_body"], json!("2MiB"));
        let mut settings = site.settings.clone();
        let sources = settings["sources"].as_object_mut().expect("sources");
        for unknown in ["my-flowcode", "my-flock"] {
            sources.remove(unknown).expect("a source");
        }
        settings["sources"]["my-flockler"]["options"]["environments"] = json!(["development"]);
        let ingest = site.ingest().expect("ingest starts");
        let processor = site.start("sluice-processor", "processor", &settings);
        let processor = processor.expect("the processor starts");
        let running = Running::of(site, ingest, processor);
        Self { running, settings }
    }

    /// The processor from now on has the settings that ingest has.
    fn mended(self) -> Running {
        let mut running = self.running;
        running.wait_caught_up();
        running.processor.stop().expect("the processor ends");
        running.start_processor();
        running
    }
}

#[test]
fn a_thousand_dead_letters_are_each_one_event_although_the_redrive_is_killed() {
    let mut broken = Broken::on(site("redrive"));
    let thousand = thousand_dead_letters(&mut broken.running);
    let retried = a_delivery_before_its_retry(&mut broken.running);
    before_it_is_mended_nothing_is_sent(&broken);
    let mut running = broken.mended();

    a_dry_run_sends_nothing(&running);
    let group = it_is_stopped_killed_and_completed(&running);
    running.wait_caught_up();
    each_is_one_event(&running, &thousand);
    nothing_is_left(&running, &group);
    the_audit_balances(&running, &thousand);
    what_is_an_event_already_is_skipped(&mut running, &retried);
    limit::past_the_limit_it_is_refused(&mut running);
    let mut quiet = running;
    quiet.ingest.stop().expect("ingest ends by itself");
    quiet
        .processor
        .stop()
        .expect("the processor ends by itself");
    quiet.site.check_logs(&[]).expect("quiet logs");
}

/// The ids of their requests.
fn thousand_dead_letters(running: &mut Running) -> Vec<String> {
    let mut ids = Vec::new();
    for provider in ["flowcode", "flockler"] {
        let source = running.source(provider);
        let kind = source.samples().expect("samples")[0];
        for n in 0..EACH {
            let request = source.signed(kind, n, now()).expect("a request");
            ids.push(running.accept(&request));
        }
    }
    ids
}

/// A request that is a dead letter, to be sent again by its provider when its source is known.
fn a_delivery_before_its_retry(running: &mut Running) -> Outgoing {
    let source = running.source("flock");
    let kind = source.samples().expect("samples")[0];
    let request = source.signed(kind, 7, now()).expect("a request");
    running.accept(&request);
    request
}

/// Judged as before, and not forgotten: the same command looks at them again once the settings differ.
fn before_it_is_mended_nothing_is_sent(broken: &Broken) {
    broken.running.wait_caught_up();
    let site = &broken.running.site;
    let before = raw_ends(site);
    let found = only(site, &broken.settings, &THOUSAND, 0);
    has(
        &found,
        &[
            ("selected", 2 * EACH),
            ("same_verdict", 2 * EACH),
            ("sent", 0),
        ],
    );
    assert_eq!(raw_ends(site), before);
}

fn a_dry_run_sends_nothing(running: &Running) {
    let site = &running.site;
    let before = raw_ends(site);
    let dry = [&THOUSAND[..], &["--dry-run"]].concat();
    let found = only(site, &site.settings, &dry, 0);
    has(
        &found,
        &[("selected", 2 * EACH), ("to_send", 2 * EACH), ("sent", 0)],
    );
    assert_eq!(found["verdicts"].as_array().map(Vec::len), Some(2));
    assert_eq!(found["verdicts"][0]["now_fate"], "event");
    let group = found["group"].as_str().expect("a group");
    let topic = running.names().dead_letter();
    let at = offsets::committed(site.bootstrap(), group, &topic).expect("offsets");
    // What the run before has left there.
    assert_eq!(
        at,
        offsets::ends(site.bootstrap(), &topic)
            .expect("ends")
            .into_iter()
            .map(Some)
            .collect::<Vec<_>>()
    );
    assert_eq!(raw_ends(site), before);
}

/// Starts it at this rate and waits until it has sent so many.
fn started(site: &Site, arguments: &[&str], rate: &str, sent: i64) -> Child {
    let before = raw_ends(site);
    let child = Command::new(find("sluicectl").expect("the binary"))
        .arg("--config")
        .arg(written(site, &site.settings))
        .args(arguments)
        .args(["--rate", rate])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    wait_for("records on raw", PATIENCE, || {
        Ok((raw_ends(site) >= before + sent).then_some(()))
    })
    .expect("records on raw");
    child
}

/// The group.
fn it_is_stopped_killed_and_completed(running: &Running) -> String {
    let site = &running.site;
    let child = started(site, &THOUSAND, "100", 20);
    let pid = child.id().to_string();
    let term = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(term.expect("kill").success());
    let ended = child.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert!(said.contains("the same command goes on there"), "{said}");

    let mut child = started(site, &THOUSAND, "300", 400);
    child.kill().expect("kill -9");
    child.wait().expect("an end");

    let arguments = [&THOUSAND[..], &["--rate", "5000"]].concat();
    let found = only(site, &site.settings, &arguments, 0);
    assert_eq!(found["resumed"], json!(true), "{found}");
    let selected = found["selected"].as_u64().expect("a number");
    assert!((1..2 * EACH - 200).contains(&selected), "{found}");
    assert_eq!(found["sent"], found["to_send"], "{found}");
    let kept = records(site, &running.names().raw());
    let redriven: Vec<&Record> = kept
        .iter()
        .filter(|record| record.text(REDRIVE_COUNT) == Some("1"))
        .collect();
    assert!(redriven.len() >= 1_000, "{}", redriven.len());
    as_ingest_wrote_them(&kept, &redriven);
    found["group"].as_str().expect("a group").to_owned()
}

/// Key, value, request and trace are those of the first record, and so is the partition.
fn as_ingest_wrote_them(all: &[Record], redriven: &[&Record]) {
    let id = |record: &Record| {
        let request = RawRequest::decode(record.header(REQUEST).expect("a request"));
        request.expect("a request").id
    };
    let first = all
        .iter()
        .filter(|record| record.header(REDRIVE_COUNT).is_none());
    let first: BTreeMap<_, _> = first.map(|record| (id(record), record)).collect();
    for again in redriven {
        let one = first[&id(again)];
        assert_eq!(
            (again.partition, &again.key, &again.value),
            (one.partition, &one.key, &one.value)
        );
        for name in [REQUEST, TRACEPARENT] {
            assert_eq!(again.header(name), one.header(name), "{name}");
        }
        assert_eq!(again.headers.len(), one.headers.len() + 1);
    }
}

fn each_is_one_event(running: &Running, thousand: &[String]) {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for event in events(&running.site) {
        *found.entry(event.request_id).or_default() += 1;
        *ids.entry(event.id).or_default() += 1;
    }
    assert!(
        ids.values().all(|count| *count == 1),
        "an event is there twice"
    );
    for id in thousand {
        assert_eq!(found.get(id), Some(&1), "{id}");
    }
    assert_eq!(found.len(), thousand.len());
}

fn nothing_is_left(running: &Running, group: &str) {
    let site = &running.site;
    let topic = running.names().dead_letter();
    let at = offsets::committed(site.bootstrap(), group, &topic).expect("offsets");
    let ends = offsets::ends(site.bootstrap(), &topic).expect("ends");
    assert_eq!(
        at.into_iter().flatten().collect::<Vec<_>>(),
        ends,
        "{group}"
    );
    // The next run looks at all of them again.
    let before = raw_ends(site);
    let found = only(site, &site.settings, &THOUSAND, 0);
    has(
        &found,
        &[
            ("selected", 2 * EACH),
            ("already_event", 2 * EACH),
            ("sent", 0),
        ],
    );
    assert_eq!(raw_ends(site), before);
}

/// Each of them is on raw at least twice, as a dead letter and as the event, and all of it is accounted for.
fn the_audit_balances(running: &Running, thousand: &[String]) {
    let site = &running.site;
    let found = only(site, &site.settings, &["audit", "--json"], 0);
    assert_eq!(found["balanced"], json!(true), "{found}");
    assert_eq!(found["raw"], json!(raw_ends(site)), "{found}");
    has(
        &found,
        &[
            ("events", thousand.len() as u64),
            ("dead_letters", thousand.len() as u64 + 1),
            ("rejected", 0),
            ("in_flight", 0),
            ("expired", 0),
        ],
    );
}

/// The provider's retry has become the event, and the window in which it suppresses repetitions is over.
fn what_is_an_event_already_is_skipped(running: &mut Running, retried: &Outgoing) {
    let id = running.accept(retried);
    running.wait_caught_up();
    let of_the_retry = |site: &Site| {
        let events = events(site).into_iter();
        events.filter(|event| event.source == "my-flock").count()
    };
    assert_eq!(of_the_retry(&running.site), 1, "{id}");
    let site = &running.site;
    let appended = |records: &[Record]| records.iter().map(|record| record.timestamp).max();
    let event = appended(&records(site, &running.names().raw())).expect("a time");
    let arguments = ["dead-letters", "redrive", "--source=my-flock", "--json"];
    wait_for("the end of the window", PATIENCE, || {
        Ok((now() * 1000 > event + 2_000).then_some(()))
    })
    .expect("the end of the window");
    let before = raw_ends(site);
    let found = only(site, &site.settings, &arguments, 0);
    has(
        &found,
        &[("selected", 1), ("already_event", 1), ("sent", 0)],
    );
    assert_eq!(raw_ends(site), before);
    // Nothing but the look has kept the second one away.
    let letters = records(site, &running.names().dead_letter());
    let request = |record: &Record| {
        let header = record.header(REQUEST).expect("a request");
        RawRequest::decode(header).expect("a request")
    };
    let letter = letters.iter().find(|one| request(one).source == "my-flock");
    let letter = letter.expect("the dead letter");
    produce_raw(
        site,
        &request(letter),
        &letter.value,
        &[(REDRIVE_COUNT, "1")],
    );
    running.wait_caught_up();
    assert_eq!(of_the_retry(&running.site), 2);
}
