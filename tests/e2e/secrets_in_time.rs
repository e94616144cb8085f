//! A secret that was rotated too early, and what mends it, while both services run.

use std::path::Path;

use serde_json::{Value, json};
use sluice_schemas::fate::Fate;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::ctl::run;
use crate::harness::{Running, site};

/// Writes settings in the place of those that the services read.
fn write(file: &Path, settings: &Value) {
    let next = file.with_extension("next");
    std::fs::write(&next, settings.to_string()).expect("a file");
    std::fs::rename(&next, file).expect("an atomic swap");
}

#[test]
fn a_secret_that_expired_verifies_nothing_until_its_bound_is_mended_and_events_name_it() {
    let mut site = site("secrets-in-time");
    let source: Source = site.source("flock").expect("a source").clone();
    let name = source.name.clone();
    let path = ["sources", &name, "secrets"];
    let secrets =
        |not_after: &str| json!([{"name": name, "not_after": not_after, "key_id": "flock-2020"}]);
    site.set(&path, secrets("2020-01-01T00:00:00Z"));
    let (mut running, file) = Running::on_one_file(site);
    let early = source
        .signed("referral.accepted", 1, now())
        .expect("a request");
    let id = running.accept(&early);
    let outcome = running.outcome(&id);
    assert_eq!(
        (outcome.fate, outcome.reason.as_str()),
        (Fate::Rejected, "signature_mismatch")
    );
    assert_eq!(
        outcome.detail,
        "no secret of the source was valid when the request was received"
    );

    let at = |what: &str| format!("sources.{name}.secrets: {what}");
    let checked = run(&running.site, &running.site.settings, &["check"]);
    checked.line(&["WARN", &at("all secrets have expired")]);
    let looked = run(
        &running.site,
        &running.site.settings,
        &["secret", "check", &name],
    );
    assert_eq!(looked.status, Some(0));
    looked.line(&["WARN", &name, "flock-2020", "not valid now"]);
    let sent = run(&running.site, &running.site.settings, &["send", &name]);
    assert_eq!(sent.status, Some(78), "{}", sent.err);
    assert!(sent.err.contains(&at("none is valid now")), "{}", sent.err);

    running.site.set(&path, secrets("9999-01-01T00:00:00Z"));
    write(&file, &running.site.settings);
    let mut n = 1;
    let event = wait_for("an event under the new bound", PATIENCE, || {
        n += 1;
        let request = source.signed("referral.accepted", n, now())?;
        let id = running.accept(&request);
        Ok(running.outcome(&id).event)
    });
    assert_eq!(
        event.expect("an event").key_id.as_deref(),
        Some("flock-2020")
    );
    let url = format!("http://{}", running.site.listen());
    let sent = run(
        &running.site,
        &running.site.settings,
        &["send", &name, "--wait", "60s", "--url", &url],
    );
    assert_eq!(sent.status, Some(0), "{}{}", sent.out, sent.err);
    let metrics = running.processor.metrics().expect("metrics");
    let verified = "sluice_key_last_verified_timestamp_seconds";
    assert!(metrics.sum(verified, &[("source", &name), ("key_id", "flock-2020")]) > 1e9);
}
