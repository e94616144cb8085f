//! Comparing the topics that exist with what they must be like.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::admin::ConfigResource;

use super::{Rule, TopicSpec};

/// The settings of a topic in one line.
pub(super) fn listed(configs: &[(&'static str, String, Rule)]) -> String {
    let pairs: Vec<String> = configs
        .iter()
        .map(|(key, value, _)| format!("{key}={value}"))
        .collect();
    pairs.join(" ")
}

/// What is wrong with the number of partitions.
pub(super) fn partitions_fault(spec: &TopicSpec, has: usize) -> Option<String> {
    let (name, wanted) = (
        &spec.name,
        usize::try_from(spec.partitions).unwrap_or_default(),
    );
    match spec.partitions_rule {
        Rule::Exactly if has != wanted => Some(format!(
            "{name}: has {has} partitions and must have exactly {wanted}"
        )),
        Rule::AtLeast if has < wanted => Some(format!(
            "{name}: has {has} partitions and must have at least {wanted}"
        )),
        Rule::Exactly | Rule::AtLeast | Rule::Advised | Rule::AdvisedExactly => None,
    }
}

/// What is wrong with a topic's settings, a line each.
pub(super) fn config_faults(spec: &TopicSpec, resource: &ConfigResource) -> Vec<String> {
    let has: BTreeMap<&str, &str> = resource
        .entries
        .iter()
        .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
        .collect();
    differing(spec, &has)
}

fn differing(spec: &TopicSpec, has: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, wanted, rule) in &spec.configs {
        let Some(value) = has.get(key) else {
            // A broker that does not know a setting does not apply it either.
            if !matches!(rule, Rule::Advised | Rule::AdvisedExactly) {
                lines.push(format!("{}: the brokers do not know {key}", spec.name));
            }
            continue;
        };
        let (name, enough) = (&spec.name, is_at_least(value, wanted));
        match rule {
            Rule::Exactly if !is_same(value, wanted) => {
                lines.push(format!("{name}: {key} is {value} and must be {wanted}"));
            }
            Rule::AtLeast if !enough => {
                lines.push(format!(
                    "{name}: {key} is {value} and must be at least {wanted}"
                ));
            }
            Rule::Advised if !enough => {
                tracing::warn!(
                    topic = name,
                    "{key} is {value} and should be at least {wanted}"
                );
            }
            Rule::AdvisedExactly if !is_same(value, wanted) => {
                tracing::warn!(topic = name, "{key} is {value} and should be {wanted}");
            }
            Rule::Exactly | Rule::AtLeast | Rule::Advised | Rule::AdvisedExactly => {}
        }
    }
    lines
}

/// Whether these are the same words, in any order where the value is a list such as `compact,delete`.
fn is_same(value: &str, wanted: &str) -> bool {
    let words = |text: &str| -> BTreeSet<String> {
        text.split(',').map(|word| word.trim().to_owned()).collect()
    };
    words(value) == words(wanted)
}

fn is_at_least(value: &str, wanted: &str) -> bool {
    match (value.parse::<i64>(), wanted.parse::<i64>()) {
        (Ok(-1), Ok(_)) => true,
        (Ok(value), Ok(wanted)) => value >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TopicSpec {
        TopicSpec {
            name: "t".into(),
            partitions: 12,
            partitions_rule: Rule::Exactly,
            replication: 3,
            configs: vec![
                ("cleanup.policy", "delete".into(), Rule::Exactly),
                ("retention.ms", "1000".into(), Rule::AtLeast),
                ("min.insync.replicas", "2".into(), Rule::Advised),
            ],
        }
    }

    #[test]
    fn settings_are_compared_by_their_rules() {
        let good = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
        assert_eq!(
            differing(&spec(), &BTreeMap::from(good)),
            Vec::<String>::new()
        );
        let bad = [
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "999"),
            ("min.insync.replicas", "1"),
        ];
        assert_eq!(
            differing(&spec(), &BTreeMap::from(bad)),
            [
                "t: cleanup.policy is compact,delete and must be delete",
                "t: retention.ms is 999 and must be at least 1000",
            ]
        );
        let unknown = differing(&spec(), &BTreeMap::new());
        assert_eq!(unknown.len(), 2, "{unknown:?}");
    }

    #[test]
    fn partitions_are_compared_by_their_rule() {
        let mut spec = spec();
        assert_eq!(partitions_fault(&spec, 12), None);
        assert!(partitions_fault(&spec, 13).is_some());
        spec.partitions_rule = Rule::AtLeast;
        assert_eq!(partitions_fault(&spec, 13), None);
        assert!(partitions_fault(&spec, 11).is_some());
    }
}
