//! What was rejected while a secret lacked, and a stranger's forgery.

use serde_json::json;
use sluice_tests::harness::deployment::now;

use super::reading::{events, has, only};
use crate::ctl::run;
use crate::harness::Running;

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
    let found = only(&running.site, &running.site.settings, &select, 0);
    has(&found, &[("selected", 2), ("same_verdict", 1), ("sent", 1)]);
    running.wait_caught_up();
    let events = events(&running.site);
    let ids: Vec<&str> = events
        .iter()
        .map(|event| event.request_id.as_str())
        .collect();
    assert_eq!(ids, [right]);
    // Under a bad address nothing is done, and it may be tried again.
    let mut away = running.site.settings.clone();
    away["kafka"]["bootstrap_servers"] = json!("127.0.0.1:1");
    let ran = run(&running.site, &away, &select);
    assert_eq!(ran.status, Some(75), "{}", ran.err);
}
