//! A record that was redriven as often as it may be.

use sluice_schemas::fate::{REDRIVE_COUNT, REDRIVE_LIMIT};

use super::reading::{has, only, raw_ends};
use crate::ctl::run;
use crate::harness::{Running, produce_raw};
use crate::refusals::signed;

pub fn past_the_limit_it_is_refused(running: &mut Running) {
    let source = running.source("flowcode");
    let id = running.accept(&signed(&source, &[], "no JSON"));
    running.wait_caught_up();
    let request = running.raw_request(&id);
    let count = REDRIVE_LIMIT.to_string();
    produce_raw(
        &running.site,
        &request,
        b"no JSON",
        &[(REDRIVE_COUNT, &count)],
    );
    running.wait_caught_up();
    let site = &running.site;
    let before = raw_ends(site);
    let select = ["dead-letters", "redrive", "--id", &id, "--json"];
    // Judged as before, neither is sent; with --all the later copy is past the limit, and stands for both.
    let found = only(site, &site.settings, &select, 0);
    has(&found, &[("selected", 2), ("same_verdict", 2), ("sent", 0)]);
    let found = only(site, &site.settings, &[&select[..], &["--all"]].concat(), 1);
    has(
        &found,
        &[("redriven_before", 1), ("past_limit", 1), ("sent", 0)],
    );
    assert_eq!(raw_ends(site), before);
    let nobody = ["dead-letters", "redrive", "--id", "nobody"];
    let ran = run(site, &site.settings, &nobody);
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    assert!(ran.err.contains("no such record on"), "{}", ran.err);
}
