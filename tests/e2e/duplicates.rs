//! What repeats and what does not, as a reader sees it.

use serde_json::json;
use sluice_schemas::fate::Fate;
use sluice_schemas::providers::ALL;
use sluice_schemas::providers::testing::Unsigned;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Source, now};

use crate::harness::{Running, site};

fn article(source: &Source, action: &str, id: u64, title: &str) -> Outgoing {
    let article = match action {
        "unpublish" => json!({"id": id}),
        _ => json!({"id": id, "site_id": 180, "title": title}),
    };
    let unsigned = Unsigned {
        headers: vec![
            ("x-flockler-action".into(), action.into()),
            ("x-flockler-env".into(), "production".into()),
        ],
        body: json!({"action": action, "article": article})
            .to_string()
            .into_bytes(),
        delivery_id: String::new(),
    };
    source.sign(&unsigned, now()).expect("a request")
}

/// The fates of requests that were sent one after the other.
fn fates(running: &mut Running, requests: &[Outgoing]) -> Vec<Fate> {
    let ids: Vec<String> = requests
        .iter()
        .map(|request| running.accept(request))
        .collect();
    ids.iter().map(|id| running.outcome(id).fate).collect()
}

#[test]
fn articles_repeat_by_sequence() {
    use Fate::{Duplicate, Event};
    let mut running = Running::start("sequence");
    let source = running.source("flockler");
    let update = |id, title| article(&source, "update", id, title);
    let (a, b) = (update(1, "A"), update(1, "B"));
    assert_eq!(
        fates(&mut running, &[a.clone(), a.clone()]),
        [Event, Duplicate],
        "A, A"
    );
    assert_eq!(
        fates(&mut running, &[b.clone(), a.clone(), a]),
        [Event, Event, Duplicate],
        "B, A, A"
    );
    let (publish, unpublish) = (
        article(&source, "publish", 2, "P"),
        article(&source, "unpublish", 2, ""),
    );
    let sequence = [publish.clone(), unpublish.clone(), unpublish, publish];
    assert_eq!(
        fates(&mut running, &sequence),
        [Event, Event, Duplicate, Event]
    );
    // Another article in between changes nothing.
    let (c, other) = (update(3, "C"), update(4, "C"));
    assert_eq!(
        fates(&mut running, &[c.clone(), other, c]),
        [Event, Event, Duplicate]
    );
    // The signature ignores case, and so does what repeats.
    let (d, upper) = (update(5, "quiet"), update(5, "QUIET"));
    assert_eq!(fates(&mut running, &[d, upper]), [Event, Duplicate]);
    running.finish(&[]);
}

#[test]
fn a_repetition_is_known_within_a_batch_and_after_a_kill_and_after_a_restart() {
    let mut running = Running::start("repeats");
    let at = now();
    let mut originals = Vec::new();
    for provider in ALL {
        let source = running.source(provider.spec().name);
        let event = source.samples().expect("samples")[0];
        originals.push(source.signed(event, 77, at).expect("a request"));
    }
    // While the processor is away both of each gather, and meet it in one batch.
    running.processor.kill().expect("a kill");
    let twice: Vec<Outgoing> = originals
        .iter()
        .flat_map(|one| [one.clone(), one.clone()])
        .collect();
    let ids: Vec<String> = twice
        .iter()
        .map(|request| running.accept(request))
        .collect();
    running.start_processor();
    let outcomes = running.outcomes(ids.len());
    for pair in ids.chunks(2) {
        assert_eq!(outcomes[&pair[0]].fate, Fate::Event);
        let event = outcomes[&pair[0]].event.as_ref().expect("an event");
        assert_eq!(outcomes[&pair[1]].fate, Fate::Duplicate);
        assert!(
            outcomes[&pair[1]].detail.contains(&event.id),
            "it names the event"
        );
    }
    running.kill_processor();
    let expected = vec![Fate::Duplicate; originals.len()];
    assert_eq!(fates(&mut running, &originals), expected, "after a kill");
    running.processor.stop().expect("an end");
    running.start_processor();
    assert_eq!(fates(&mut running, &originals), expected, "after a restart");
    running.finish(&[]);
}

#[test]
fn beyond_the_window_it_is_an_event_again_of_the_same_id() {
    let mut site = site("window");
    // A provider that sends a delivery once: the window of others is at least as long as they retry.
    let name = site.source("flock").expect("a source").name.clone();
    site.set(&["sources", &name, "dedup_window"], json!("2s"));
    let mut running = Running::on(site);
    let source = running.source("flock");
    let request = source
        .signed("campaign.launched", 1, now())
        .expect("a request");
    let first = running.accept(&request);
    let first = running.outcome(&first).event.expect("an event");
    // The window is counted between append times, so the condition is an event, not a moment.
    let mut tries = 0;
    let again = loop {
        let id = running.accept(&request);
        tries += 1;
        if let Some(event) = running.outcome(&id).event {
            break event;
        }
        assert!(tries < 10_000, "it stays a duplicate");
    };
    assert_eq!(again.id, first.id);
    assert!(
        again.received_at - first.received_at > 1_000,
        "not before the window's end"
    );
    running.processor.stop().expect("an end");
    running.ingest.stop().expect("an end");
    running.site.check_logs(&[]).expect("quiet logs");
}

#[test]
fn secrets_rotate_without_a_restart() {
    let mut running = Running::start("rotation");
    let source = running.source("flock");
    let new = b"the new secret of the same file".to_vec();
    let before = running.accept(
        &source
            .signed("referral.accepted", 1, now())
            .expect("a request"),
    );
    assert_eq!(running.outcome(&before).fate, Fate::Event);
    let file = source.secret_file.as_deref().expect("a secret");
    let path = running.site.secret_path(file);
    let next = path.with_extension("next");
    std::fs::write(&next, &new).expect("a file");
    std::fs::rename(&next, &path).expect("a rename");
    let sender = source.provider().expect("known").sender();
    let mut n = 2;
    let event = loop {
        let unsigned = sender.sample("referral.accepted", n, now());
        let id = running.accept(&source.sign_with(&unsigned, &new, now()).expect("a request"));
        let outcome = running.outcome(&id);
        if let Some(event) = outcome.event {
            break event;
        }
        assert_eq!(outcome.reason, "signature_mismatch");
        n += 1;
        assert!(n < 100_000, "the new secret is never read");
    };
    assert_eq!(event.key_id.as_deref(), Some(source.name.as_str()));
    let late = running.accept(
        &source
            .signed("referral.accepted", 1_000_000, now())
            .expect("a request"),
    );
    assert_eq!(
        running.outcome(&late).reason,
        "signature_mismatch",
        "the old one is gone"
    );
    running.finish(&[]);
}
