//! Passwords change under traffic: nothing is lost, nothing is twice, and no process ends.

use sluice_tests::harness::deployment::now;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::{CHANGED, NODE, REFUSED, SERVICES, scram, source, write};

const JOINED: &str = "joins again with new credentials";
const FAILURES: &str = "sluice_reload_failures_total";

#[test]
fn passwords_are_rotated_under_traffic_and_a_wrong_one_changes_nothing() {
    let secured = scram("secured-rotation");
    let principals = secured.principals.clone();
    let files = SERVICES.map(|(name, _)| secured.site.secret_path(&format!("{name}-password")));
    let mut running = secured.run();
    let (source, event) = source(&running);
    let processes = [running.ingest.id(), running.processor.id()];
    let mut n = 0;
    let mut until = |running: &mut crate::harness::Running,
                     what: &str,
                     holds: &dyn Fn(&str) -> bool| {
        wait_for(what, PATIENCE, || {
            n += 1;
            let request = source.signed(event, n, now())?;
            // Each is accepted, whatever happens to the clients.
            running.accept(&request);
            std::thread::sleep(std::time::Duration::from_millis(10));
            let ingest = running.ingest.log()?;
            let processor = running.processor.log()?;
            Ok((holds(&ingest) && holds(&processor)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", running.processor.log().unwrap_or_default()));
    };
    for (principal, file) in principals.iter().zip(&files) {
        NODE.1.scram(principal, "second").expect("a password");
        write(file, "second");
    }
    until(&mut running, "new clients", &|log| log.contains(CHANGED));
    let joined = running.processor.wait_log(JOINED, PATIENCE);
    joined.expect("the worker joins again");
    running.wait_caught_up();

    for file in &files {
        write(file, "of somebody else");
    }
    until(&mut running, "an ERROR", &|log| log.contains(REFUSED));
    for service in [&running.ingest, &running.processor] {
        let metrics = service.metrics().expect("metrics");
        assert!(metrics.sum(FAILURES, &[("what", "kafka")]) > 0.5);
        assert!(service.is_ready());
    }
    for file in &files {
        write(file, "second");
    }
    let restored = "the files hold the credentials for Kafka that are in use again";
    until(&mut running, "the good ones", &|log| log.contains(restored));
    assert_eq!([running.ingest.id(), running.processor.id()], processes);
    running.finish(&[REFUSED, "librdkafka"]);
}
