//! `sluicectl replay`: a few hundred records of all kinds, judged again on real Kafka.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sluice_schemas::fate::{REASON, REDRIVE_COUNT};
use sluice_schemas::providers::ALL;
use sluice_schemas::providers::testing::Unsigned;
use sluice_schemas::record::Record;
use sluice_schemas::timestamp::rfc3339;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::offsets;
use sluice_tests::harness::topics::{Isolation, read, with_prefix};

use crate::ctl::{Ran, run};
use crate::harness::{Running, produce_raw};
use crate::refusals::signed;

/// Requests of each source.
const EACH: u64 = 24;

/// What shadow topics begin with.
const INTO: &str = "shadow-of-replay.";

fn millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    i64::try_from(since.as_millis()).expect("a time")
}

/// A version of an article, from an environment.
fn article(source: &Source, environment: &str, id: u64, title: &str) -> Outgoing {
    let unsigned = Unsigned {
        headers: vec![
            ("x-flockler-action".into(), "update".into()),
            ("x-flockler-env".into(), environment.into()),
        ],
        body: json!({"action": "update", "article": {"id": id, "title": title}})
            .to_string()
            .into_bytes(),
        delivery_id: String::new(),
    };
    source.sign(&unsigned, now()).expect("a request")
}

/// Sends records of all kinds: how many came to raw, and the time between the originals and what repeats
/// them.
fn sent(running: &mut Running) -> (u64, i64) {
    let at = now();
    let mut requests = Vec::new();
    for provider in ALL {
        let source = running.source(provider.spec().name);
        for n in 0..EACH {
            let events = source.samples().expect("samples");
            let event = events[usize::try_from(n).expect("small") % events.len()];
            requests.push(source.signed(event, 1_000 + n, at).expect("a request"));
        }
        requests.push(signed(&source, &[], "{no json".to_owned()));
        let mut forged = source
            .signed(source.samples().expect("samples")[0], 1, at)
            .expect("a request");
        forged.body = "{}".into();
        requests.push(forged);
    }
    let flockler = running.source("flockler");
    for title in ["A", "A", "B", "A", "A"] {
        requests.push(article(&flockler, "production", 9, title));
    }
    for title in ["C", "C", "D"] {
        requests.push(article(&flockler, "staging", 10, title));
    }
    let ids: Vec<String> = requests
        .iter()
        .map(|request| running.accept(request))
        .collect();
    running.outcomes(ids.len());
    rotate(running);
    let between = millis() + 50;
    while millis() <= between + 50 {
        std::thread::sleep(Duration::from_millis(10));
    }
    // What repeats, half an hour of retries in a moment; and new ones by the new secret.
    for request in requests.iter().step_by(3) {
        running.accept(request);
    }
    let source = running.source("flowcode");
    let secret = std::fs::read(running.site.secret_path("new-secret")).expect("the secret");
    for n in 0..5 {
        let unsigned = source
            .unsigned("scan.created", 5_000 + n, at)
            .expect("a sample");
        let request = source
            .sign_with(&unsigned, &secret, now())
            .expect("a request");
        running.accept(&request);
    }
    redriven(running, &requests, &ids);
    running.wait_caught_up();
    let count = requests.len() + requests.len().div_ceil(3) + 5 + 2;
    (u64::try_from(count).expect("small"), between)
}

/// A new secret before the old one, which is still good.
fn rotate(running: &mut Running) {
    let old = running.source("flowcode").secret_file.expect("a secret");
    let file = running.site.secret_path("new-secret");
    std::fs::write(file, "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3").expect("the secret");
    running.site.set(
        &["sources", "my-flowcode", "secrets"],
        json!(["new-secret", old]),
    );
    running.processor.stop().expect("an end");
    running.start_processor();
}

/// An event and a dead letter, as they are after a redrive.
fn redriven(running: &Running, requests: &[Outgoing], ids: &[String]) {
    let dead = usize::try_from(EACH).expect("small");
    for at in [0, dead] {
        let request = running.raw_request(&ids[at]);
        produce_raw(
            &running.site,
            &request,
            &requests[at].body,
            &[(REDRIVE_COUNT, "1")],
        );
    }
}

struct Replayed {
    ran: Ran,
    summary: Value,
    differences: Vec<Value>,
}

/// Runs `replay` with these arguments, and other settings to judge by.
#[track_caller]
fn replay(running: &Running, status: i32, new: Option<&Value>, arguments: &[&str]) -> Replayed {
    let file = running.site.dir().join("new.yaml");
    let file = file.to_str().expect("a path");
    let mut all = vec!["replay", "--json"];
    if let Some(new) = new {
        std::fs::write(file, serde_json::to_vec(new).expect("JSON")).expect("the settings");
        all.extend(["--settings", file]);
    }
    all.extend(arguments);
    let ran = run(&running.site, &running.site.settings, &all);
    assert_eq!(ran.status, Some(status), "{}\n{}", ran.out, ran.err);
    let mut objects = ran.objects();
    let summary = objects.pop().unwrap_or_default();
    let counted = summary["differences"].as_u64().unwrap_or_default()
        + summary["uncertain"].as_u64().unwrap_or_default();
    assert_eq!(
        usize::try_from(counted).expect("small"),
        objects.len(),
        "{summary}"
    );
    Replayed {
        ran,
        summary,
        differences: objects,
    }
}

#[test]
fn raw_is_judged_again_and_differs_in_what_was_changed_alone() {
    let mut running = Running::start("replay");
    let (count, between) = sent(&mut running);
    let whole = replay(&running, 0, None, &["--since", "1h"]);
    assert_eq!(
        (&whole.summary["judged"], &whole.summary["same"]),
        (&json!(count), &json!(count)),
        "{}",
        whole.summary
    );
    // The originals are read ahead, or the repetitions would be events.
    let since = rfc3339(between).expect("a time");
    let late = replay(&running, 0, None, &["--since", &since]);
    let ahead = late.summary["read_ahead"].as_u64().expect("a number");
    let judged = late.summary["judged"].as_u64().expect("a number");
    assert!(
        ahead > 100 && judged > 30 && ahead + judged == count,
        "{}",
        late.summary
    );
    let early = replay(&running, 0, None, &["--since", "1h", "--until", &since]);
    assert_eq!(early.summary["judged"], json!(ahead), "{}", early.summary);
    changed_settings(&running);
    shadows(&running, count);
    what_is_not_there_any_more(&mut running);
}

fn changed_settings(running: &Running) {
    an_environment_more(running);
    a_topic_less(running);
    a_secret_less(running);
    a_secret_renamed(running);
}

fn an_environment_more(running: &Running) {
    let mut new = running.site.settings.clone();
    new["sources"]["my-flockler"]["options"]["environments"] = json!(["production", "staging"]);
    let more = replay(running, 1, Some(&new), &["--since", "1h"]);
    let reason = json!("environment_not_accepted");
    let is_expected =
        |one: &Value| one["topics"]["reason"] == reason && one["differs"] == json!(["fate"]);
    assert!(more.differences.iter().all(is_expected), "{}", more.summary);
    let dead = read(
        running.site.bootstrap(),
        &[running.names().dead_letter()],
        Isolation::Committed,
    );
    let dead = dead.expect("dead letters");
    let refused = dead
        .iter()
        .filter(|one| one.text(REASON) == reason.as_str())
        .count();
    assert_eq!(more.differences.len(), refused, "{}", more.summary);
    let events = more
        .differences
        .iter()
        .filter(|one| one["judged"]["fate"] == json!("event"));
    // C, C, D, and those of them that were sent again.
    assert!(events.count() >= 2 && refused > 3, "{}", more.summary);
}

fn a_topic_less(running: &Running) {
    let mut new = running.site.settings.clone();
    new["sources"]["my-flowcode"]["events"] = json!([]);
    let moved = replay(running, 1, Some(&new), &["--since", "1h"]);
    let expected = json!({"topic": EACH / 2 + 5});
    assert_eq!(moved.summary["fields"], expected, "{}", moved.summary);
    let topic = json!(format!("{}events.flowcode.other", running.names().prefix));
    assert!(
        moved
            .differences
            .iter()
            .all(|one| one["judged"]["topic"] == topic)
    );
}

fn a_secret_less(running: &Running) {
    let mut new = running.site.settings.clone();
    new["sources"]["my-flowcode"]["secrets"] = json!(["new-secret"]);
    let rotated = replay(running, 1, Some(&new), &["--since", "1h"]);
    let reason = |one: &Value| one["judged"]["reason"] == json!("signature_mismatch");
    assert!(
        rotated.differences.iter().all(reason),
        "{}",
        rotated.summary
    );
    let hint = |one: &Value| {
        one["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("sources.*.secrets"))
    };
    let events = rotated
        .differences
        .iter()
        .filter(|one| one["topics"]["fate"] == json!("event"));
    assert_eq!(events.clone().count() as u64, EACH, "{}", rotated.summary);
    assert!(events.clone().all(hint), "{}", rotated.summary);
}

/// The event's column says which secret verified it.
fn a_secret_renamed(running: &Running) {
    let mut new = running.site.settings.clone();
    let old = running.source("flowcode").secret_file.expect("a secret");
    let renamed = running.site.secret_path("renamed");
    std::fs::copy(running.site.secret_path(&old), renamed).expect("a copy");
    new["sources"]["my-flowcode"]["secrets"] = json!(["new-secret", "renamed"]);
    let renamed = replay(running, 1, Some(&new), &["--since", "1h"]);
    let expected = json!({"columns.key_id": EACH});
    assert_eq!(renamed.summary["fields"], expected, "{}", renamed.summary);
    let column = &renamed.differences[0]["columns"][0];
    let both = (&column["topics"], &column["judged"]);
    assert_eq!(both, (&json!(old), &json!("renamed")));
}

/// All that a record says, without its place.
fn content(record: &Record, prefix: &str) -> String {
    let topic = record.topic.strip_prefix(prefix).expect("the prefix");
    let (key, value) = (&record.key, &record.value);
    format!(
        "{topic} {} {key:?} {value:?} {:?}",
        record.timestamp, record.headers
    )
}

fn contents(running: &Running, prefix: &str) -> Vec<String> {
    let mut topics = with_prefix(running.site.bootstrap(), prefix).expect("topics");
    let names = running.names();
    topics.retain(|topic| *topic != names.raw() && *topic != names.dedup_log());
    let records = read(running.site.bootstrap(), &topics, Isolation::Committed).expect("records");
    let mut contents: Vec<String> = records.iter().map(|one| content(one, prefix)).collect();
    contents.sort_unstable();
    contents
}

fn ends(running: &Running) -> Vec<Vec<i64>> {
    let topics = with_prefix(running.site.bootstrap(), &running.names().prefix).expect("topics");
    let ends = topics
        .iter()
        .map(|topic| offsets::ends(running.site.bootstrap(), topic).expect("ends"));
    ends.collect()
}

fn shadows(running: &Running, count: u64) {
    let before = ends(running);
    let real = running.names().prefix;
    for into in [real.as_str(), "replay", "re", "replay.shadow."] {
        let refused = replay_into(running, into);
        assert_eq!(refused.status, Some(2), "{into}: {}", refused.err);
    }
    let written = replay(running, 0, None, &["--since", "1h", "--into", INTO]);
    assert_eq!(
        written.summary["written"],
        json!(count),
        "{}",
        written.summary
    );
    assert!(
        written
            .ran
            .err
            .contains("--delete --topic 'shadow-of-replay\\..*'"),
        "{}",
        written.ran.err
    );
    assert_eq!(contents(running, INTO), contents(running, &real));
    let again = replay_into(running, INTO);
    assert_eq!(again.status, Some(2), "{}", again.err);
    assert!(again.err.contains("delete the topics"), "{}", again.err);
    assert_eq!(ends(running), before, "the real topics did not move");
}

fn replay_into(running: &Running, prefix: &str) -> Ran {
    let arguments = ["replay", "--since", "1h", "--into", prefix];
    run(&running.site, &running.site.settings, &arguments)
}

/// Raw that begins in the window, a fate topic that lost its records, and what is not judged yet.
fn what_is_not_there_any_more(running: &mut Running) {
    let raw = running.names().raw();
    let bounds = offsets::bounds(running.site.bootstrap(), &raw).expect("bounds");
    let half: Vec<(i32, i64)> = (0..)
        .zip(&bounds)
        .map(|(partition, (_, end))| (partition, end * 2 / 3))
        .collect();
    offsets::delete_records(running.site.bootstrap(), &raw, &half).expect("deleted");
    let cut = replay(running, 0, None, &["--since", "1h"]);
    assert!(
        cut.summary["uncertain"].as_u64() > Some(0),
        "{}",
        cut.summary
    );
    assert_eq!(cut.summary["differences"], json!(0), "{}", cut.summary);
    assert!(cut.differences.iter().all(|one| {
        one["uncertain"] == json!(true) && one["topics"]["fate"] == json!("duplicate")
    }));
    assert!(cut.ran.err.contains("marked uncertain"), "{}", cut.ran.err);

    let rejected = running.names().rejected();
    let bounds = offsets::bounds(running.site.bootstrap(), &rejected).expect("bounds");
    let all: Vec<(i32, i64)> = (0..)
        .zip(&bounds)
        .map(|(partition, (_, end))| (partition, *end))
        .collect();
    offsets::delete_records(running.site.bootstrap(), &rejected, &all).expect("deleted");
    running.processor.stop().expect("an end");
    let source = running.source("flowcode");
    let request = source
        .signed("scan.created", 9_999, now())
        .expect("a request");
    running.accept(&request);
    let last = replay(running, 0, None, &["--since", "1h"]);
    assert_eq!(last.summary["in_flight"], json!(1), "{}", last.summary);
    assert!(
        last.summary["expired"].as_u64() > Some(0),
        "{}",
        last.summary
    );
    assert!(
        last.ran.err.contains("not judged by the processor yet"),
        "{}",
        last.ran.err
    );
    let empty = replay(running, 0, None, &["--since", "1ms"]);
    assert_eq!(empty.summary["judged"], json!(0));
    assert!(
        empty.ran.err.contains("has no judged record in this range"),
        "{}",
        empty.ran.err
    );
}
