//! Doing what the plan says. Each topic stands for itself: one that does not work holds up no other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewPartitions,
    ResourceSpecifier,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use sluice_schemas::acl::Operation;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{create_topics, planned};

use super::plan::steps;
use super::steps::{State, Step};
use crate::client::{TIMEOUT, is_refusal};
use crate::failure::Failure;
use crate::records::reader::{Topics, refusal};

/// How long what was done may take to be seen.
const SEEN: Duration = Duration::from_secs(15);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What it is done with.
pub struct Applying<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// Who looks at topics.
    pub topics: &'a Topics,
    /// Who makes and alters them.
    pub admin: &'a AdminClient<DefaultClientContext>,
    /// Where requests of the latter are waited for.
    pub runtime: &'a tokio::runtime::Handle,
}

impl Applying<'_> {
    /// Does all steps, and reports each; whether the topics are as they must be then.
    pub fn all(&self, plan: &[Step], report: &mut dyn FnMut(&Step)) -> Result<bool, Failure> {
        let mut holds = true;
        let mut done = Vec::new();
        for step in plan {
            let worked = match step.state {
                State::Create => self.create(step),
                State::Alter => self.alter(step, &done),
                State::Grow => self.grow(step),
                State::Ok | State::Refused | State::Unknown | State::Done | State::Failed => {
                    report(step);
                    holds &= step.holds();
                    continue;
                }
            };
            match worked {
                Ok(()) => done.push(step),
                Err(reason) => {
                    report(&step.became(State::Failed, reason));
                    holds = false;
                }
            }
        }
        if done.is_empty() {
            return Ok(holds);
        }
        let left = self.left(&done)?;
        for step in done {
            let is_left = left.iter().any(|one| is_same(one, step));
            holds &= !is_left;
            report(&if is_left {
                let message = &step.message;
                let message = format!("{message}: the brokers took it and do not show it yet");
                step.became(State::Failed, message)
            } else {
                step.became(State::Done, step.done.as_str())
            });
        }
        Ok(holds)
    }

    /// What is still to be done of what was done: brokers hear of it one after the other.
    fn left(&self, done: &[&Step]) -> Result<Vec<Step>, Failure> {
        let since = Instant::now();
        loop {
            let mut now = steps(self.settings, self.topics, Ok(self.admin), self.runtime)?;
            now.retain(|step| done.iter().any(|one| is_same(one, step)));
            if now.is_empty() || since.elapsed() > SEEN {
                return Ok(now);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn create(&self, step: &Step) -> Result<(), String> {
        let specs = planned(self.settings);
        let spec = specs.iter().find(|spec| spec.name == step.topic);
        let spec = spec.ok_or_else(|| "the settings have no such topic".to_owned())?;
        let lines = self.runtime.block_on(create_topics(self.admin, &[spec]));
        match lines.map_err(|error| error.to_string())?.first() {
            None => Ok(()),
            Some(line) => Err(line.clone()),
        }
    }

    /// Gives a topic settings, and leaves it those that it has. The request of this client replaces all of
    /// a topic's own settings, so that they are read first and sent again.
    fn alter(&self, step: &Step, done: &[&Step]) -> Result<(), String> {
        let resource = [ResourceSpecifier::Topic(&step.topic)];
        let asked = self.admin.describe_configs(&resource, &options());
        let described = self.runtime.block_on(asked).map_err(words)?;
        let entries = match described.into_iter().next() {
            Some(Ok(resource)) if !resource.entries.is_empty() => resource.entries,
            _ => return Err(refusal(&step.topic, Operation::DescribeConfigs)),
        };
        let mut altered = AlterConfig::new(ResourceSpecifier::Topic(&step.topic));
        for (key, value) in to_send(&entries, done, step)? {
            altered = altered.set(key, value);
        }
        let asked = self.admin.alter_configs([&altered], &options());
        let answer = self.runtime.block_on(asked).map_err(words)?;
        match answer.into_iter().next() {
            Some(Err((_, code))) => Err(self.refused(step, Operation::AlterConfigs, code)),
            _ => Ok(()),
        }
    }

    fn grow(&self, step: &Step) -> Result<(), String> {
        let more = [NewPartitions::new(&step.topic, step.partitions)];
        let asked = self.admin.create_partitions(&more, &options());
        let answer = self.runtime.block_on(asked).map_err(words)?;
        match answer.into_iter().next() {
            Some(Err((_, code))) => Err(self.refused(step, Operation::Alter, code)),
            _ => Ok(()),
        }
    }

    fn refused(&self, step: &Step, operation: Operation, code: RDKafkaErrorCode) -> String {
        if is_refusal(code) {
            refusal(&step.topic, operation)
        } else {
            let servers = &self.settings.kafka.bootstrap_servers;
            format!("{}: the brokers ({servers}) answer {code}", step.message)
        }
    }
}

/// Whether two steps are the same thing to be done.
fn is_same(one: &Step, other: &Step) -> bool {
    (&one.topic, one.state, &one.configs) == (&other.topic, other.state, &other.configs)
}

/// The settings that a topic has of its own. One whose value is hidden could not be sent again.
fn own(entries: &[ConfigEntry]) -> Result<Vec<(&str, &str)>, String> {
    let own = entries.iter();
    let own = own.filter(|entry| entry.source == ConfigSource::DynamicTopic);
    own.map(|entry| match &entry.value {
        Some(value) if !entry.is_sensitive => Ok((entry.name.as_str(), value.as_str())),
        _ => Err(format!(
            "its setting {} is hidden, and would be lost: alter it by Kafka's own tool",
            entry.name
        )),
    })
    .collect()
}

/// All settings that a topic must have of its own after a step: those that it has, those that steps before
/// gave it, for the broker that was asked may not know of them yet, and those of the step.
fn to_send<'s>(
    entries: &'s [ConfigEntry],
    done: &[&'s Step],
    step: &'s Step,
) -> Result<BTreeMap<&'s str, &'s str>, String> {
    let before = done.iter().copied().filter(|one| one.topic == step.topic);
    let given = before.chain([step]).flat_map(|one| &one.configs);
    let given = given.map(|(key, value)| (*key, value.as_str()));
    Ok(own(entries)?.into_iter().chain(given).collect())
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT))
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn words(error: KafkaError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, value: Option<&str>, source: ConfigSource) -> ConfigEntry {
        ConfigEntry {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            source,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        }
    }

    #[test]
    fn a_topics_own_settings_are_sent_again_and_a_hidden_one_is_never_lost() {
        let entries = [
            entry("a", Some("1"), ConfigSource::DynamicTopic),
            entry("b", Some("2"), ConfigSource::Default),
            entry("c", Some("3"), ConfigSource::StaticBroker),
        ];
        assert_eq!(own(&entries), Ok(vec![("a", "1")]));
        let given = |topic: &str, key: &'static str| Step {
            configs: vec![(key, "5".to_owned())],
            ..Step::new(State::Alter, topic, "")
        };
        let (before, others, step) = (given("t", "e"), given("u", "f"), given("t", "a"));
        let sent = to_send(&entries, &[&before, &others], &step).expect("settings");
        assert_eq!(sent, BTreeMap::from([("a", "5"), ("e", "5")]));
        let hidden = [entry("d", None, ConfigSource::DynamicTopic)];
        assert!(own(&hidden).expect_err("hidden").contains("setting d"));
    }
}
