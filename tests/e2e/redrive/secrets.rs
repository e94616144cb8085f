//! What was rejected while a secret lacked, and a stranger's forgery.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sluice_schemas::timestamp::rfc3339;
use sluice_tests::harness::deployment::now;

use super::reading::{events, has, only};
use crate::ctl::run;
use crate::harness::Running;

/// A time after all that is on raw, and before all that comes.
fn between() -> String {
    let millis = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        i64::try_from(since.expect("a clock").as_millis()).expect("a time")
    };
    let between = millis() + 50;
    while millis() <= between + 50 {
        std::thread::sleep(Duration::from_millis(10));
    }
    rfc3339(between).expect("a time")
}

/// What `replay` counts as different, and as redriven.
#[track_caller]
fn nothing_differs_but(running: &Running, times: &[&str], status: i32, counted: (u64, u64)) {
    let mut all = vec!["replay", "--json"];
    if !times.contains(&"--since") {
        all.extend(["--since", "1h"]);
    }
    all.extend(times);
    let ran = run(&running.site, &running.site.settings, &all);
    assert_eq!(ran.status, Some(status), "{}\n{}", ran.out, ran.err);
    let objects = ran.objects();
    let summary = objects.last().expect("a summary");
    assert_eq!(
        (&summary["differences"], &summary["redriven"]),
        (&json!(counted.0), &json!(counted.1)),
        "{summary}"
    );
    let is_said = ran.err.contains("differ by a redrive alone");
    assert_eq!(is_said, counted.1 > 0, "{}", ran.err);
}

#[test]
fn a_secret_that_is_added_later_lets_through_what_was_right() {
    let mut running = Running::start("redrive-secret");
    let source = running.source("flockler");
    let kind = source.samples().expect("samples")[0];
    let unsigned = |n| source.unsigned(kind, n, now()).expect("a sample");
    let right = source.sign_with(&unsigned(1), b"rotated-too-early", now());
    let right = running.accept(&right.expect("a request"));
    let forged = source.sign_with(&unsigned(2), b"a stranger's", now());
    running.accept(&forged.expect("a request"));
    running.wait_caught_up();
    let select = [
        "rejected",
        "redrive",
        "--reason=signature_mismatch",
        "--json",
    ];
    let found = only(&running.site, &running.site.settings, &select, 0);
    has(&found, &[("selected", 2), ("same_verdict", 2), ("sent", 0)]);

    let file = running.site.secret_path("new");
    std::fs::write(file, "rotated-too-early").expect("a secret");
    let old = source.secret_file.clone().expect("a secret");
    let secrets = json!([old, "new"]);
    running
        .site
        .set(&["sources", "my-flockler", "secrets"], secrets);
    running.processor.stop().expect("the processor ends");
    running.start_processor();
    nothing_differs_but(&running, &[], 1, (1, 0));
    let between = between();
    let found = only(&running.site, &running.site.settings, &select, 0);
    has(&found, &[("selected", 2), ("same_verdict", 1), ("sent", 1)]);
    running.wait_caught_up();
    let events = events(&running.site);
    let ids: Vec<&str> = events
        .iter()
        .map(|event| event.request_id.as_str())
        .collect();
    assert_eq!(ids, [right]);
    nothing_differs_but(&running, &[], 0, (0, 2));
    // The copy is behind what is compared, or what was refused is before it.
    nothing_differs_but(&running, &["--until", &between], 0, (0, 1));
    nothing_differs_but(&running, &["--since", &between], 0, (0, 1));
    // Under a bad address nothing is done, and it may be tried again.
    let mut away = running.site.settings.clone();
    away["kafka"]["bootstrap_servers"] = json!("127.0.0.1:1");
    let ran = run(&running.site, &away, &select);
    assert_eq!(ran.status, Some(75), "{}", ran.err);
}
