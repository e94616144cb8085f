//! How each topic differs from what it must be, for a report. Makes and changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;

use super::compare::{Difference, differences, partitions_fault};
use super::{TopicSpec, planned};
use sluice_schemas::settings::Settings;

/// How many topics one request names: brokers bound their requests too.
const MAX_TOPICS_A_REQUEST: usize = 100;

/// A topic next to what it must be.
#[derive(Debug)]
pub struct Examined {
    /// What it must be.
    pub spec: TopicSpec,
    /// How many partitions it has; 0: it is missing, or may not be seen.
    pub partitions: usize,
    /// What is wrong with that number.
    pub partitions_fault: Option<String>,
    /// Which of its settings differ, or why they cannot be read.
    pub settings: Result<Vec<Difference>, String>,
}

/// The topics under these settings, next to how many partitions each has by the metadata. Their own settings
/// are not looked at yet.
pub fn examine(settings: &Settings, partitions: &BTreeMap<String, usize>) -> Vec<Examined> {
    let examined = |spec: TopicSpec| {
        let partitions = partitions.get(&spec.name).copied().unwrap_or_default();
        let fault = partitions_fault(&spec, partitions).filter(|_| partitions > 0);
        Examined {
            spec,
            partitions,
            partitions_fault: fault,
            settings: Ok(Vec::new()),
        }
    };
    planned(settings).into_iter().map(examined).collect()
}

/// Looks at the settings of the topics that are there. Any broker can describe them; one that is named
/// answers where the client would wait for a controller.
pub async fn examine_settings<C: ClientContext>(
    client: &AdminClient<C>,
    topics: &mut [Examined],
    broker: Option<i32>,
    timeout: Duration,
) {
    let options = AdminOptions::new()
        .request_timeout(Some(timeout))
        .operation_timeout(Some(timeout))
        .broker_id(broker);
    let there = topics.iter_mut().filter(|topic| topic.partitions > 0);
    let mut there: Vec<&mut Examined> = there.collect();
    for some in there.chunks_mut(MAX_TOPICS_A_REQUEST) {
        let resources: Vec<ResourceSpecifier<'_>> = some
            .iter()
            .map(|topic| ResourceSpecifier::Topic(&topic.spec.name))
            .collect();
        match client.describe_configs(&resources, &options).await {
            Err(error) => {
                for topic in some.iter_mut() {
                    topic.settings = Err(unreadable(&error.to_string()));
                }
            }
            // The answers are in the order of the request.
            Ok(results) => {
                for (topic, result) in some.iter_mut().zip(results) {
                    topic.settings = match result {
                        // The wrapper drops a refusal and leaves no setting; a topic has dozens.
                        Ok(resource) if resource.entries.is_empty() => {
                            Err(unreadable("the principal may lack DESCRIBE_CONFIGS"))
                        }
                        Ok(resource) => Ok(differences(&topic.spec, &resource)),
                        Err(RDKafkaErrorCode::UnsupportedFeature) => {
                            Err("the brokers cannot describe its settings".to_owned())
                        }
                        Err(code) => Err(unreadable(&code.to_string())),
                    };
                }
            }
        }
    }
}

fn unreadable(reason: &str) -> String {
    format!("its settings cannot be read: {reason}")
}
