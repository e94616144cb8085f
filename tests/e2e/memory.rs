//! The dedup indexes take all that they may, under load: consumption pauses, and goes on once they may take
//! more.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_tests::harness::client;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::{Running, site};

const SAID: &str = "worker-0-memory: consumption pauses: the dedup indexes take ";

/// More events than the least bound has room for.
const MOST: u64 = 60_000;

#[test]
#[ignore = "two minutes: the simulation has the same, and this is run by its name"]
fn without_room_for_identities_consumption_pauses_under_load_and_nothing_is_lost() {
    let mut site = site("memory");
    site.set(&["processor", "dedup_memory"], json!("1MiB"));
    // Tables that are nearly empty take half of it.
    site.set(&["topics", "partitions"], json!(12));
    let (mut running, file) = Running::on_one_file(site);
    let source = running.source("flowcode");
    let fates = |running: &Running| {
        running
            .processor
            .metrics()
            .expect("metrics")
            .sum("sluice_fates_total", &[])
    };
    let readyz = |running: &Running| {
        let admin = running.processor.admin().expect("an admin port");
        String::from_utf8(client::get(admin, "/readyz").expect("an answer").body).expect("text")
    };
    let mut n = 0;
    let mut load = |running: &mut Running, count: u64| {
        for _ in 0..count {
            n += 1;
            let request = source.signed("scan.created", n, now()).expect("a request");
            running.accept(&request);
        }
        n
    };
    while !readyz(&running).contains(SAID) {
        assert!(load(&mut running, 200) < MOST, "{}", readyz(&running));
    }
    println!("{}", readyz(&running));
    // A transaction that was under way ends.
    std::thread::sleep(Duration::from_secs(2));
    let (before, at) = (fates(&running), Instant::now());
    let mut sent = 0;
    while at.elapsed() < Duration::from_secs(10) {
        sent = load(&mut running, 200);
    }
    let metrics = running.processor.metrics().expect("metrics");
    let (held, bound) = (
        metrics.sum("sluice_dedup_bytes", &[]),
        metrics.sum("sluice_dedup_limit_bytes", &[]),
    );
    println!("{sent} sent, {before} judged, {held} of {bound} bytes");
    assert!(
        (fates(&running) - before).abs() < 0.5,
        "judged without room"
    );
    assert!(held >= bound && held < bound * 1.5, "{held} of {bound}");
    assert!(metrics.sum("sluice_dedup_pauses_total", &[]) >= 1.0);

    running
        .site
        .set(&["processor", "dedup_memory"], json!("1GiB"));
    let next = file.with_extension("next");
    std::fs::write(&next, running.site.settings.to_string()).expect("a file");
    std::fs::rename(&next, &file).expect("an atomic swap");
    running
        .processor
        .wait_ready()
        .expect("it goes on by itself");
    wait_for("all to be judged", PATIENCE, || {
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        Ok((fates(&running) > sent as f64 - 0.5).then_some(()))
    })
    .expect("all are judged");
    running.finish(&["the dedup indexes take"]);
}
