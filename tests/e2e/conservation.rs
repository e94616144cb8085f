//! What came in is what became of it, by the metrics of both services alone.

use serde_json::json;
use sluice_tests::balance::balance;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::wait::PATIENCE;

use crate::harness::{Running, site};
use crate::refusals::{signed, with};

#[test]
fn the_sums_of_both_services_balance_at_rest() {
    let mut site = site("conservation");
    let spool = site.dir().join("spool");
    site.set(&["ingest", "spool"], json!({"dir": spool}));
    let mut running = Running::on(site);
    let flock = running.source("flock");
    for n in 0..10 {
        let good = flock
            .signed("referral.accepted", n, now())
            .expect("a request");
        let forged = with(good.clone(), "x-flock-signature", Some(&"0".repeat(64)));
        let nameless = signed(
            &flock,
            &[],
            format!(r#"{{"entityId":"{n}","timestamp":{}}}"#, now()),
        );
        for request in [good.clone(), good, forged, nameless] {
            running.accept(&request);
        }
    }
    let balance = balance(&running.ingest, &running.processor, PATIENCE).expect("the sums");
    assert!(balance.holds(), "{balance:?}");
    assert!((balance.accepted - 40.0).abs() < 0.5, "{balance:?}");
    let each = balance.fates.map(|fate| (fate - 10.0).abs() < 0.5);
    assert_eq!(each, [true; 4], "{balance:?}");
    running.finish(&[]);
}
