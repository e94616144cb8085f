//! What the chart asks Strimzi for is what the services ask of the brokers: read from the snapshot of the
//! chart under `helm/ci/strimzi-values.yaml`, which `make chart` compares with the chart.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sluice_schemas::providers::ALL;
use sluice_schemas::settings::{Environment, Settings};
use sluice_service::kafka::topics::wanted;

const RENDERED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/chart/snapshots/strimzi.yaml");

fn objects() -> Vec<Value> {
    let text = std::fs::read_to_string(RENDERED).expect("the snapshot");
    serde_saphyr::from_multiple(&text).expect("YAML")
}

/// The settings that the chart rendered.
fn settings(objects: &[Value]) -> Settings {
    let text = objects
        .iter()
        .find_map(|object| object["data"]["settings.yaml"].as_str());
    let environment = Environment {
        member: Some("m"),
        property_fault: &|_, _| None,
    };
    let text = text.expect("a ConfigMap of the settings");
    Settings::parse(Path::new("settings.yaml"), text.as_bytes(), &environment)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Partitions, replicas and each configuration entry, as texts.
type Topic = BTreeMap<String, String>;

fn rendered(spec: &Value) -> Topic {
    let config = spec["config"].as_object().expect("a mapping");
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let mut topic: Topic = config
        .iter()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect();
    for key in ["partitions", "replicas"] {
        topic.insert(key.to_owned(), text(&spec[key]));
    }
    topic
}

#[test]
fn strimzi_makes_exactly_the_topics_that_the_services_verify() {
    let objects = objects();
    let topics = objects
        .iter()
        .filter(|object| object["kind"] == "KafkaTopic");
    let found: BTreeMap<&str, Topic> = topics
        .map(|object| {
            let spec = &object["spec"];
            (spec["topicName"].as_str().expect("a name"), rendered(spec))
        })
        .collect();
    let settings = settings(&objects);
    let specs = wanted(&settings);
    let expected: BTreeMap<&str, Topic> = specs
        .iter()
        .map(|spec| {
            let entries = spec.configs.iter();
            let mut topic: Topic = entries
                .map(|(key, value, _)| ((*key).to_owned(), value.clone()))
                .collect();
            topic.insert("partitions".to_owned(), spec.partitions.to_string());
            topic.insert("replicas".to_owned(), spec.replication.to_string());
            (spec.name.as_str(), topic)
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_values_for_strimzi_have_a_source_of_each_provider() {
    let settings = settings(&objects());
    for provider in ALL {
        let name = provider.spec().name;
        let has = settings
            .sources
            .values()
            .any(|source| source.provider.spec().name == name);
        assert!(
            has,
            "helm/ci/strimzi-values.yaml has no source of {name}: give it one, and helm/files/providers.yaml its types"
        );
    }
}
