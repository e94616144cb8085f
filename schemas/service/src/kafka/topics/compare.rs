//! Comparing the topics that exist with what they must be like.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::admin::ConfigResource;

use super::command::alteration;
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
        Rule::Exactly
        | Rule::AtLeast
        | Rule::Advised
        | Rule::AdvisedExactly
        | Rule::AtLeastAdvisedExactly => None,
    }
}

/// A setting of a topic that is not as it must or should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting.
    pub key: &'static str,
    /// What it is; `None` where the brokers do not know it.
    pub has: Option<String>,
    /// What it must or should be.
    pub wanted: String,
    /// Worth a warning and no more.
    pub is_advice: bool,
    /// What it is and what it must be.
    pub sentence: String,
}

impl Difference {
    /// The setting, and what it must or should be.
    pub fn config(&self) -> (&str, &str) {
        (self.key, &self.wanted)
    }
}

/// What is wrong with a topic's settings, a line each. What is advised alone is logged, with the command that
/// mends it by `tool`.
pub(super) fn config_faults(
    tool: &str,
    spec: &TopicSpec,
    resource: &ConfigResource,
) -> Vec<String> {
    let mut lines = Vec::new();
    for difference in differences(spec, resource) {
        let sentence = &difference.sentence;
        if difference.is_advice {
            let command = alteration(tool, &spec.name, std::iter::once(difference.config()));
            tracing::warn!(topic = spec.name, command, "{sentence}");
        } else {
            lines.push(format!("{}: {sentence}", spec.name));
        }
    }
    lines
}

/// Which of a topic's settings differ.
pub(super) fn differences(spec: &TopicSpec, resource: &ConfigResource) -> Vec<Difference> {
    let has: BTreeMap<&str, &str> = resource
        .entries
        .iter()
        .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
        .collect();
    differing(spec, &has)
}

fn differing(spec: &TopicSpec, has: &BTreeMap<&str, &str>) -> Vec<Difference> {
    let difference = |(key, wanted, rule): &(&'static str, String, Rule)| {
        let value = has.get(key);
        let is_advice = match rule {
            Rule::Exactly | Rule::AtLeast => false,
            Rule::Advised | Rule::AdvisedExactly => true,
            Rule::AtLeastAdvisedExactly => value.is_some_and(|value| is_at_least(value, wanted)),
        };
        let sentence = match (value, rule) {
            // A broker that does not know a setting does not apply it either.
            (None, Rule::Exactly | Rule::AtLeast | Rule::AtLeastAdvisedExactly) => {
                format!("the brokers do not know {key}")
            }
            (Some(value), Rule::Exactly) if !is_same(value, wanted) => {
                format!("{key} is {value} and must be {wanted}")
            }
            (Some(value), Rule::AtLeast | Rule::AtLeastAdvisedExactly)
                if !is_at_least(value, wanted) =>
            {
                format!("{key} is {value} and must be at least {wanted}")
            }
            (Some(value), Rule::AtLeastAdvisedExactly) if !is_same(value, wanted) => {
                format!("{key} is {value} and should be no more than {wanted}")
            }
            (Some(value), Rule::Advised) if !is_at_least(value, wanted) => {
                format!("{key} is {value} and should be at least {wanted}")
            }
            (Some(value), Rule::AdvisedExactly) if !is_same(value, wanted) => {
                format!("{key} is {value} and should be {wanted}")
            }
            (None | Some(_), _) => return None,
        };
        Some(Difference {
            key,
            has: value.map(|value| (*value).to_owned()),
            wanted: wanted.clone(),
            is_advice,
            sentence,
        })
    };
    spec.configs.iter().filter_map(difference).collect()
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
    fn a_topic_of_three_replicas_should_have_two_in_sync_whatever_the_settings_say() {
        let mut spec = spec();
        spec.configs = vec![("min.insync.replicas", "1".into(), Rule::Advised)];
        let has = BTreeMap::from([("min.insync.replicas", "1")]);
        for (replicas, warns) in [(0, false), (1, false), (2, false), (3, true), (5, true)] {
            let found = differing(&spec.on_replicas(replicas), &has);
            let advice = found.iter().filter(|found| found.is_advice);
            assert_eq!(advice.count(), usize::from(warns), "{replicas}: {found:?}");
        }
    }

    #[test]
    fn settings_are_compared_by_their_rules() {
        let good = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
        assert_eq!(differing(&spec(), &BTreeMap::from(good)), []);
        let bad = [
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "999"),
            ("min.insync.replicas", "1"),
        ];
        let found = differing(&spec(), &BTreeMap::from(bad));
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.sentence.as_str(), one.is_advice))
            .collect();
        assert_eq!(
            found,
            [
                ("cleanup.policy is compact,delete and must be delete", false),
                ("retention.ms is 999 and must be at least 1000", false),
                ("min.insync.replicas is 1 and should be at least 2", true),
            ]
        );
        let unknown = differing(&spec(), &BTreeMap::new());
        assert_eq!(unknown.len(), 2, "{unknown:?}");
    }

    #[test]
    fn what_is_kept_for_longer_is_advice_and_for_less_a_fault() {
        let mut spec = spec();
        spec.configs = vec![("retention.ms", "1000".into(), Rule::AtLeastAdvisedExactly)];
        let found = |value| {
            let found = differing(&spec, &BTreeMap::from([("retention.ms", value)]));
            let found = found.into_iter();
            found
                .map(|one| (one.sentence, one.is_advice))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("1000"), []);
        for longer in ["1001", "-1"] {
            let sentence = format!("retention.ms is {longer} and should be no more than 1000");
            assert_eq!(found(longer), [(sentence, true)]);
        }
        let sentence = "retention.ms is 999 and must be at least 1000".to_owned();
        assert_eq!(found("999"), [(sentence, false)]);
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
