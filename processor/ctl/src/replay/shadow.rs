//! Shadow topics: what is judged, written under another prefix. The real topics cannot be written to: a
//! producer is given a [`ShadowTopic`] alone, and one is only made of a name that is none of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;
use sluice_schemas::acl::Operation;
use sluice_schemas::settings::Settings;
use sluice_schemas::topic::{TopicNames, is_event_type};
use sluice_service::kafka::topics::{TopicSpec, create_topics, wanted};

use crate::client::{self, is_refusal};
use crate::failure::Failure;
use crate::records::reader::{Topics, refusal};

/// How long new topics may take to be seen with their leaders.
const SEEN: Duration = Duration::from_secs(30);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest prefix, as in the settings.
const MAX_PREFIX_BYTES: usize = 64;

/// The name of a shadow topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowTopic(String);

/// By the name of the real topic.
#[derive(Debug)]
pub struct Shadow {
    prefix: String,
    topics: BTreeMap<String, ShadowTopic>,
    specs: Vec<TopicSpec>,
}

impl Shadow {
    /// The shadow topics of what these settings write to, under a prefix that no topic of the installation
    /// can have.
    pub fn new(prefix: &str, settings: &Settings, judging: &Settings) -> Result<Self, Failure> {
        check(prefix, &settings.topics.names).map_err(Failure::Usage)?;
        let of = |settings: &Settings| -> Vec<String> {
            wanted(settings).into_iter().map(|spec| spec.name).collect()
        };
        let real: BTreeSet<String> = of(settings).into_iter().chain(of(judging)).collect();
        let names = &judging.topics.names;
        let never = [names.raw(), names.dedup_log()];
        let (mut topics, mut specs) = (BTreeMap::new(), Vec::new());
        for mut spec in wanted(judging)
            .into_iter()
            .filter(|spec| !never.contains(&spec.name))
        {
            let shadow = ShadowTopic::new(prefix, &names.prefix, &spec.name, &real)
                .map_err(Failure::Usage)?;
            let name = std::mem::replace(&mut spec.name, shadow.0.clone());
            topics.insert(name, shadow);
            specs.push(spec);
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            topics,
            specs,
        })
    }

    /// Makes what is missing. Topics that hold anything are refused: what is there would not be
    /// known from what comes.
    pub fn prepare(&self, settings: &Settings, topics: &Topics) -> Result<(), Failure> {
        let metadata = topics.metadata(None)?;
        let listed: BTreeSet<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
        let names = TopicNames {
            prefix: self.prefix.clone(),
        };
        if let Some(name) = [names.raw(), names.dedup_log()]
            .iter()
            .find(|name| listed.contains(name.as_str()))
        {
            return Err(Failure::Usage(format!(
                "{name} is there: --into {} is the prefix of an installation; take one that nothing has",
                self.prefix
            )));
        }
        let there = self
            .specs
            .iter()
            .filter(|spec| listed.contains(spec.name.as_str()));
        let there: Vec<String> = there.map(|spec| spec.name.clone()).collect();
        let opened = topics.open(&there, None)?;
        if let Some(held) = opened.ranges.iter().find(|range| range.end > 0) {
            return Err(Failure::Usage(format!(
                "{} holds or held records: delete the topics under {}, or take another prefix",
                held.topic, self.prefix
            )));
        }
        let missing = self
            .specs
            .iter()
            .filter(|spec| !listed.contains(spec.name.as_str()));
        let missing: Vec<&TopicSpec> = missing.collect();
        create(settings, &missing)?;
        self.wait_seen(topics)
    }

    fn wait_seen(&self, topics: &Topics) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let metadata = topics.metadata(None)?;
            let has_leaders = |spec: &TopicSpec| {
                let found = metadata
                    .topics()
                    .iter()
                    .find(|topic| topic.name() == spec.name);
                found.is_some_and(|topic| {
                    let partitions = topic.partitions();
                    !partitions.is_empty() && partitions.iter().all(|one| one.leader() >= 0)
                })
            };
            let Some(unseen) = self.specs.iter().find(|spec| !has_leaders(spec)) else {
                return Ok(());
            };
            let name = &unseen.name;
            is_visible(topics, name)?;
            if since.elapsed() > SEEN {
                let line = format!("{name} was made, and its partitions have no leaders yet");
                return Err(Failure::TryAgain(line));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What was written where, and how it is deleted.
    pub fn ends(&self, written: u64) -> String {
        format!(
            "{written} records written to shadow topics: {} topics {}*; they hold persons' data: delete them \
             after use: kafka-topics.sh --bootstrap-server … --delete --topic '{}.*'",
            self.topics.len(),
            self.prefix,
            self.prefix.replace('.', "\\.")
        )
    }

    /// The shadow of a topic.
    pub fn of(&self, topic: &str) -> Option<&ShadowTopic> {
        self.topics.get(topic)
    }

    /// `max.message.bytes` of the topics.
    pub fn largest(&self) -> Option<&str> {
        let mut configs = self.specs.iter().flat_map(|spec| &spec.configs);
        let found = configs.find(|(key, _, _)| *key == "max.message.bytes");
        found.map(|(_, value, _)| value.as_str())
    }
}

impl ShadowTopic {
    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    fn new(
        prefix: &str,
        real_prefix: &str,
        name: &str,
        real: &BTreeSet<String>,
    ) -> Result<Self, String> {
        let rest = name.strip_prefix(real_prefix).unwrap_or(name);
        let shadow = format!("{prefix}{rest}");
        if real.contains(&shadow) {
            return Err(format!(
                "--into {prefix}: {shadow} is a topic of the installation"
            ));
        }
        Ok(Self(shadow))
    }
}

/// A list of topics leaves out those that the user may not see; asked for by its name, the brokers
/// refuse one. To have made it is not enough.
fn is_visible(topics: &Topics, name: &str) -> Result<(), Failure> {
    let metadata = topics.metadata(Some(name))?;
    let error = metadata.topics().iter().find_map(MetadataTopic::error);
    match error.map(RDKafkaErrorCode::from) {
        Some(code) if is_refusal(code) => Err(Failure::Failed(refusal(name, Operation::Write))),
        _ => Ok(()),
    }
}

/// Why a prefix is none for shadow topics.
fn check(prefix: &str, names: &TopicNames) -> Result<(), String> {
    let real = names.prefix.as_str();
    let say = |why: &str| Err(format!("--into {prefix}: {why}"));
    if prefix.is_empty() || prefix.len() > MAX_PREFIX_BYTES || !is_event_type(prefix) {
        return say("must be letters, digits, . _ - and at most 64 long, such as shadow.");
    }
    let is_under_real = !real.is_empty() && prefix.starts_with(real);
    // Readers of `events.*` would read shadows.
    let families = ["webhooks.", "events."];
    let reads_as_real = families.iter().any(|family| {
        let family = format!("{real}{family}");
        prefix.starts_with(&family) || family.starts_with(prefix)
    });
    if is_under_real || real.starts_with(prefix) || reads_as_real {
        return say(
            "meets the names of the installation's topics: take a prefix that neither begins with theirs nor \
             is the beginning of one, such as shadow.",
        );
    }
    Ok(())
}

fn create(settings: &Settings, missing: &[&TopicSpec]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("making {} shadow topics", missing.len());
    let config = client::config(settings).map_err(Failure::Failed)?;
    let admin = client::admin(&config).map_err(|reason| {
        Failure::Failed(format!(
            "shadow topics cannot be made: {reason}; make them by Kafka's own tools"
        ))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let made = runtime.block_on(create_topics(&admin, missing));
    match made
        .map_err(|error| Failure::TryAgain(error.to_string()))?
        .first()
    {
        None => Ok(()),
        Some(line) => Err(Failure::Failed(line.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str) -> TopicNames {
        TopicNames {
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn a_prefix_that_meets_the_installations_names_is_refused() {
        for (real, good) in [
            ("", "shadow."),
            ("eu.", "shadow."),
            ("eu.", "shadow.eu."),
            ("eu.", "e-"),
        ] {
            assert_eq!(check(good, &names(real)), Ok(()), "{real} {good}");
        }
        for (real, bad) in [
            ("", ""),
            ("eu.", ""),
            ("eu.", "eu."),
            ("eu.", "eu.shadow."),
            ("eu.", "e"),
            ("", "events."),
            ("", "events.flowcode."),
            ("", "webhooks.shadow."),
            ("", "web"),
            ("", "a b"),
            ("", "shädow."),
        ] {
            assert!(check(bad, &names(real)).is_err(), "{real} {bad}");
        }
    }

    fn settings(prefix: &str) -> Settings {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        let text = format!(
            "kafka: {{bootstrap_servers: b}}\ntopics: {{prefix: '{prefix}'}}\n\
             sources: {{s: {{provider: flock, secrets: [a]}}}}\n"
        );
        std::fs::write(&file, text).expect("the settings");
        sluice_service::settings::load(&file).expect("settings without faults")
    }

    #[test]
    fn no_topic_of_the_installation_is_a_shadow_and_raw_has_none() {
        let settings = settings("eu.");
        let shadow = Shadow::new("shadow.", &settings, &settings).expect("a shadow");
        let real: BTreeSet<String> = wanted(&settings)
            .into_iter()
            .map(|spec| spec.name)
            .collect();
        assert_eq!(shadow.topics.len() + 2, real.len());
        for (name, ShadowTopic(topic)) in &shadow.topics {
            assert!(real.contains(name) && !real.contains(topic));
            assert!(
                topic.starts_with("shadow.") && !topic.contains("eu."),
                "{topic}"
            );
        }
        assert!(
            shadow
                .specs
                .iter()
                .all(|spec| spec.name.starts_with("shadow."))
        );
        assert!(!shadow.topics.contains_key("eu.webhooks.raw"));
        assert!(Shadow::new("eu.", &settings, &settings).is_err());
        // The last defence, whatever a prefix is checked for.
        let taken = ShadowTopic::new("eu.", "", "webhooks.rejected", &real);
        assert!(taken.is_err_and(|why| why.contains("is a topic of the installation")));
    }
}
