//! Names, types, units and labels of all that the processor registers for `/metrics`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sluice_schemas::fate::Fate;
use sluice_schemas::reason::Reason;
use sluice_schemas::settings::Part;
use sluice_service::admin::Readiness;
use sluice_service::kafka::clocks::Clocks;
use sluice_service::kafka::statistics::{ClientStatistics, Statistics};
use sluice_service::metric::Readings;
use sluice_service::reload::Watcher;
use sluice_service::secrets::Store;
use sluice_service::telemetry::Telemetry;

use super::golden::compare;
use crate::lag::RawLag;
use crate::metrics::Metrics;
use crate::pipeline::outgoing::Label;

/// The lines of an exposition without values and without help, whose words are free.
fn shape(exposition: &str) -> String {
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(comment) if comment.starts_with("HELP") => None,
        Some(_) => Some(line.to_owned()),
        None => line.rsplit_once(' ').map(|(name, _)| name.to_owned()),
    };
    let lines: BTreeSet<String> = exposition.lines().filter_map(line).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    lines.join("\n") + "\n"
}

#[test]
fn every_metric_and_its_labels_are_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.yaml");
    std::fs::write(dir.path().join("f"), "secret").expect("a secret");
    let text = format!(
        "{{kafka: {{bootstrap_servers: b}}, secrets_dir: '{}', \
         sources: {{s: {{provider: flock, secrets: [f]}}}}}}",
        dir.path().display()
    );
    std::fs::write(&file, text).expect("the settings");
    let settings =
        Arc::new(sluice_service::settings::load(&file).expect("settings without faults"));

    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let store = Store::load(&settings).expect("secrets without faults");
    store.register(&mut registry);
    metrics.sources(&settings);
    metrics.index(0, Some((1, 1)));
    let secrets = ("secrets", store.failures());
    let telemetry = Telemetry::start(&settings.telemetry, "sluice-processor", &mut registry);
    let telemetry = telemetry.expect("no endpoint, no fault");
    let readiness = Readiness::default();
    readiness.set("start", Ok(()));
    let (watcher, _probe) = Watcher::new(settings, Part::Processor, &mut registry);
    let failures = vec![secrets, ("settings", watcher.failures())];
    registry.register_collector(Box::new(Readings::new(readiness, failures)));
    drop(telemetry);
    RawLag::new(&mut registry).show(0, 1, 1_000);
    let at = 1_800_000_000_000;
    Clocks::new(&mut registry).compared(1, (at, at, at));
    let clients = ClientStatistics::new(&mut registry);
    let reporting: Vec<Statistics> = ["producer", "consumer"]
        .into_iter()
        .map(|kind| {
            let client = clients.of(kind);
            client.take(&report(kind));
            client
        })
        .collect();
    // A family without a sample shows no labels.
    for reason in [
        None,
        Some(Reason::Duplicate),
        Some(Reason::SignatureMissing),
    ] {
        let label = Label {
            source: "s",
            provider: "flock",
            fate: reason.map_or(Fate::Event, Reason::fate),
            reason,
        };
        metrics.count(&label.into(), 1);
    }
    metrics.unverified("s", 1);
    metrics.held_back("t", Duration::from_secs(1));
    metrics.fate_bytes.show("t", 1);
    let mut exposition = String::new();
    encode(&mut exposition, &registry).expect("text");
    let exposition = exposition.replace(sluice_service::COMMIT, "COMMIT");
    compare("metrics-processor.txt", &shape(&exposition));
    drop(reporting);
}

/// What a client with one broker reports.
fn report(kind: &str) -> Vec<u8> {
    let broker = serde_json::json!({
        "nodeid": 1, "source": "learned", "rtt": {"cnt": 1}, "throttle": {"cnt": 1},
    });
    let report = serde_json::json!({"type": kind, "brokers": {"b/1": broker}});
    report.to_string().into_bytes()
}
