//! The topics that a worker's transactions may write to.

use rdkafka::metadata::{Metadata, MetadataTopic};
use sluice_schemas::providers::ALL;
use sluice_schemas::settings::Settings;
use sluice_schemas::topic::TopicNames;

use crate::kafka::BrokerUnavailable;

/// The topics that the settings have a worker write to.
pub fn configured(settings: &Settings) -> Vec<String> {
    let names = &settings.topics.names;
    let mut topics = vec![
        names.duplicates(),
        names.rejected(),
        names.dead_letter(),
        names.dedup_log(),
    ];
    topics.extend(settings.event_topics());
    topics
}

/// Whether a worker's transactions may write to a topic, now or in an earlier release of the settings.
pub fn is_output(names: &TopicNames, topic: &str) -> bool {
    let event = |provider: &str| {
        let events = topic.strip_prefix(names.prefix.as_str());
        let events = events.and_then(|rest| rest.strip_prefix("events."));
        let events = events.and_then(|rest| rest.strip_prefix(provider));
        events.is_some_and(|rest| rest.starts_with('.'))
    };
    [
        names.duplicates(),
        names.rejected(),
        names.dead_letter(),
        names.dedup_log(),
    ]
    .iter()
    .any(|name| name == topic)
        || ALL.iter().any(|provider| event(provider.spec().name))
}

/// How many partitions a topic has, the only one of these metadata. No topic has none: the broker does not
/// know it at the moment.
pub fn partition_count(metadata: &Metadata, topic: &str) -> Result<u32, BrokerUnavailable> {
    let found = metadata.topics().first();
    let count = found.map_or(0, |found| found.partitions().len());
    let error = found.and_then(MetadataTopic::error);
    if count == 0 || error.is_some() {
        return Err(BrokerUnavailable(format!(
            "{topic} is not described ({error:?})"
        )));
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}
