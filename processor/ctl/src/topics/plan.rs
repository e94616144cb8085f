//! What exists, what differs, and what would be done about it. Makes and changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::{MetadataBroker, MetadataTopic};
use sluice_schemas::acl::Operation;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{TopicSpec, creation, examine, examine_settings};

use super::steps::{State, Step, of_existing};
use crate::client::{TIMEOUT, is_refusal};
use crate::failure::Failure;
use crate::records::reader::{Topics, refusal};

/// The client that makes and alters topics, or why there is none.
pub type Admin<'a> = Result<&'a AdminClient<DefaultClientContext>, &'a String>;

/// Each topic under these settings, and what is to be done to it.
pub fn steps(
    settings: &Settings,
    topics: &Topics,
    admin: Admin<'_>,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<Step>, Failure> {
    let metadata = topics.metadata(None)?;
    let seen = metadata.topics().iter();
    let seen: BTreeMap<&str, &MetadataTopic> = seen
        .filter(|topic| topic.error().is_none())
        .map(|topic| (topic.name(), topic))
        .collect();
    let partitions = seen.iter();
    let partitions: BTreeMap<String, usize> = partitions
        .map(|(name, topic)| ((*name).to_owned(), topic.partitions().len()))
        .collect();
    let mut examined = examine(settings, &partitions);
    match admin {
        Ok(admin) => {
            let broker = metadata.brokers().first().map(MetadataBroker::id);
            runtime.block_on(examine_settings(admin, &mut examined, broker, TIMEOUT));
        }
        Err(reason) => {
            for topic in &mut examined {
                topic.settings = Err(format!("its settings cannot be read: {reason}"));
            }
        }
    }
    let mut steps = Vec::new();
    for topic in &examined {
        if topic.partitions == 0 {
            steps.push(missing(settings, topics, &topic.spec)?);
            continue;
        }
        let found = seen.get(topic.spec.name.as_str());
        let replicas = found.map_or(0, |topic| replicas(topic));
        steps.extend(of_existing(settings, topic, replicas));
    }
    Ok(steps)
}

/// The fewest replicas that a partition has.
fn replicas(topic: &MetadataTopic) -> usize {
    let counts = topic.partitions().iter().map(|one| one.replicas().len());
    counts.min().unwrap_or_default()
}

/// A topic that is not listed: it is not there, or hidden.
fn missing(settings: &Settings, topics: &Topics, spec: &TopicSpec) -> Result<Step, Failure> {
    let TopicSpec {
        name,
        partitions,
        replication,
        configs,
        ..
    } = spec;
    let metadata = topics.metadata(Some(name))?;
    let error = metadata.topics().first().and_then(MetadataTopic::error);
    if error.is_some_and(|code| is_refusal(RDKafkaErrorCode::from(code))) {
        let line = refusal(name, Operation::Describe);
        return Ok(Step::new(State::Unknown, name, line));
    }
    let mut message = format!("{partitions} partitions, {replication} replicas");
    for (key, value, _) in configs {
        // Writing to a String cannot fail.
        let _ = write!(message, ", {key}={value}");
    }
    Ok(Step {
        mend: Some(creation(settings, spec)),
        ..Step::new(State::Create, name, message)
    })
}
