//! Readers not of our making: Confluent's client for Python, with a registry and without.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use sluice_tests::harness::cluster::{cache, root};
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::registry::Registry;

use crate::ctl::finds_the_schema;
use crate::harness::{Running, site};

/// Reads with Python; the events by request id.
fn read_with_python(
    running: &Running,
    count: usize,
    registry: Option<&Registry>,
) -> BTreeMap<String, Value> {
    let python = cache().join("venv/bin/python");
    assert!(
        python.exists(),
        "the Python packages are missing: make python"
    );
    let mut command = Command::new(python);
    command
        .arg(root().join("tests/python/read_events.py"))
        .args(["--bootstrap", running.site.bootstrap()])
        .args(["--prefix", &format!("{}events.", running.names().prefix)])
        .args(["--count", &count.to_string()])
        .arg("--schema")
        .arg(root().join("schemas/avro/webhook_event.avsc"));
    if let Some(registry) = registry {
        command.args(["--registry", &registry.url()]);
    }
    let output = command.output().expect("python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let id = record["event"]["request_id"]
                .as_str()
                .expect("an id")
                .to_owned();
            (id, record)
        })
        .collect()
}

/// One event of each kind of every provider, read back by Python and compared with our own reading.
fn compare(running: &mut Running, framing: &str, registry: Option<&Registry>) {
    let at = now();
    let mut ids = Vec::new();
    for source in running.site.sources.clone() {
        for (n, event) in (1..).zip(source.samples().expect("samples")) {
            ids.push(running.accept(&source.signed(event, n, at).expect("a request")));
        }
    }
    let ours = running.outcomes(ids.len());
    let theirs = read_with_python(running, ids.len(), registry);
    for id in &ids {
        let (ours, theirs) = (&ours[id], &theirs[id]);
        assert_eq!(theirs["framing"], framing);
        assert_eq!(theirs["topic"], ours.topic);
        let ours = serde_json::to_value(ours.event.as_ref().expect("an event")).expect("JSON");
        assert_eq!(theirs["event"], ours);
    }
}

#[test]
fn single_object_encoding_is_read_by_python() {
    let mut running = Running::start("python-single");
    compare(&mut running, "application/avro", None);
    running.finish(&[]);
}

#[test]
fn the_registry_s_schema_is_read_by_python() {
    let registry = Registry::start().expect("the registry");
    let mut site = site("python-registry");
    site.set(&["schema_registry"], json!({"url": registry.url()}));
    let mut running = Running::on(site);
    compare(
        &mut running,
        "application/vnd.confluent.avro",
        Some(&registry),
    );
    let subject = format!(
        "{}-value",
        running.names().event("flock", "referral.accepted")
    );
    let latest = registry
        .get(&format!("/subjects/{subject}/versions/latest"))
        .expect("a version");
    let schema = latest["schema"].as_str().expect("a schema");
    assert!(schema.contains("WebhookEvent"), "{schema}");
    finds_the_schema(&running.site, &subject);
    running.finish(&[]);
}

/// The program that the guide for the installation prints, run as it stands there.
#[test]
fn the_first_event_of_the_guide_is_read_by_its_own_program() {
    let guide = std::fs::read_to_string(root().join("docs/install.md")).expect("the guide");
    let program = guide
        .split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("a program");
    let registry = Registry::start().expect("the registry");
    let mut site = site("first-event");
    site.set(&["schema_registry"], json!({"url": registry.url()}));
    let mut running = Running::on(site);
    let source = running.source("flowcode");
    let event = source.samples().expect("samples")[0];
    let id = running.accept(&source.signed(event, 1, now()).expect("a request"));
    let ours = running.outcomes(1).remove(&id).expect("an outcome");
    let output = Command::new(cache().join("venv/bin/python"))
        .args(["-c", program])
        .env("BOOTSTRAP_SERVERS", running.site.bootstrap())
        .env("REGISTRY_URL", registry.url())
        .env("PREFIX", &running.names().prefix)
        .output()
        .expect("python starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let event = ours.event.expect("an event");
    assert!(
        printed.starts_with(&format!("{} {} {} ", ours.topic, event.id, event.r#type)),
        "{printed}"
    );
    running.finish(&[]);
}
