//! The topics: names, partitions, replication, and every configuration entry with how an existing topic's
//! value is compared with it.

use std::fmt::Write as _;
use std::path::Path;

use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{Rule, TopicSpec, planned};

use crate::faults::remove_removed;
use crate::golden::compare;

/// The topics' part of the settings: the defaults, and all values changed.
const TOPICS: [&str; 2] = [
    "{}",
    "{prefix: 'eu.', partitions: 24, event_partitions: 6, replication: 1, rejected_bytes: 2GiB, \
     dead_letter_bytes: 3GiB, duplicates_bytes: 4GiB, \
     retention: {raw: 1d, events: 2d, duplicates: 3d, rejected: 4d, dead_letter: 5d}}",
];

/// The documented sample, which has a source of each provider.
const SAMPLE: &str = include_str!("every-key.json");

fn settings(dir: &Path, topics: &str) -> Settings {
    let mut tree: serde_json::Value = serde_json::from_str(SAMPLE).expect("JSON");
    remove_removed(&mut tree);
    tree["topics"] = serde_json::Value::Null;
    let file = dir.join("settings.yaml");
    let text = tree.to_string();
    let text = text.replace("\"topics\":null", &format!("\"topics\": {topics}"));
    std::fs::write(&file, text).expect("the settings");
    sluice_service::settings::load(&file).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::Exactly => "exactly",
        Rule::AtLeast => "at least",
        Rule::Advised => "advised, at least",
        Rule::AdvisedExactly => "advised, exactly",
        Rule::AtLeastAdvisedExactly => "at least; advised, exactly",
    }
}

fn show(text: &mut String, spec: &TopicSpec) {
    let TopicSpec {
        name,
        partitions,
        partitions_rule,
        replication,
        configs,
    } = spec;
    let partitions_rule = rule(*partitions_rule);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[{name}]");
    let _ = writeln!(text, "partitions = {partitions} ({partitions_rule})");
    let _ = writeln!(text, "replication = {replication}");
    for (key, value, how) in configs {
        let _ = writeln!(text, "{key} = {value} ({})", rule(*how));
    }
    text.push('\n');
}

#[test]
fn every_topic_is_specified_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = String::new();
    for topics in TOPICS {
        let _ = writeln!(text, "== topics: {topics}\n");
        for spec in planned(&settings(dir.path(), topics)) {
            show(&mut text, &spec);
        }
    }
    compare("topics.txt", &text);
}
