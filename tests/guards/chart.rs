//! What the chart asks Strimzi for is what the services ask of the brokers: read from the snapshot of the
//! chart under `helm/ci/strimzi-values.yaml`, which `make chart` compares with the chart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use sluice_schemas::acl::{Acl, Pattern, Resource, Who, required};
use sluice_schemas::providers::ALL;
use sluice_schemas::settings::{Environment, Settings};
use sluice_service::kafka::topics::planned;

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
    let specs = planned(&settings);
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

/// A rule as a text: resource, name, pattern, operation.
fn rule(acl: &Acl) -> String {
    let (resource, name) = match &acl.resource {
        Resource::Topic(name) => ("topic", name.as_str()),
        Resource::Group(name) => ("group", name.as_str()),
        Resource::TransactionalId(name) => ("transactionalId", name.as_str()),
        Resource::Cluster => ("cluster", ""),
    };
    let pattern = match acl.pattern {
        Pattern::Literal => "literal",
        Pattern::Prefixed => "prefix",
    };
    format!("{resource} {name} {pattern} {}", acl.operation.argument())
}

/// The rules of a rendered `KafkaUser`.
fn granted(user: &Value) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for acl in user["spec"]["authorization"]["acls"]
        .as_array()
        .expect("a list")
    {
        let text = |key: &str| acl["resource"][key].as_str().expect("a text");
        let resource = ["type", "name", "patternType"].map(text).join(" ");
        for operation in acl["operations"].as_array().expect("a list") {
            rules.insert(format!(
                "{resource} {}",
                operation.as_str().expect("a text")
            ));
        }
    }
    rules
}

#[test]
fn each_user_of_strimzi_has_exactly_the_rules_that_its_process_needs() {
    let objects = objects();
    let settings = settings(&objects);
    for (who, name) in [
        (Who::Ingest, "ingest"),
        (Who::Processor, "processor"),
        (Who::Operator, "operator"),
    ] {
        let label = "app.kubernetes.io/component";
        let user = objects
            .iter()
            .find(|object| {
                object["kind"] == "KafkaUser" && object["metadata"]["labels"][label] == name
            })
            .unwrap_or_else(|| panic!("no KafkaUser of {name}"));
        let expected: BTreeSet<String> = required(&settings, who).iter().map(rule).collect();
        assert_eq!(granted(user), expected, "{name}");
    }
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
