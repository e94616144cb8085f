//! How each topic differs from what it must be, for a report. Makes and changes nothing.

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;

use super::compare::{Difference, differences, partitions_fault};
use super::ensure::{EnsureError, MAX_TOPICS_A_REQUEST, fetch_topics, settings_of};
use super::{TopicSpec, wanted};
use crate::kafka::client::base_config;
use sluice_schemas::settings::Settings;

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

/// Looks at all topics under these settings. Must run within a tokio runtime; requests for metadata block
/// it.
pub async fn examine(settings: &Settings) -> Result<Vec<Examined>, EnsureError> {
    let config = base_config(settings)
        .map_err(|faults| EnsureError::Faults(faults.iter().map(ToString::to_string).collect()))?;
    let client = client(&config)?;
    let seen = fetch_topics(&client)?;
    let mut examined: Vec<Examined> = wanted(settings)
        .into_iter()
        .map(|spec| {
            let partitions = seen
                .topics
                .get(&spec.name)
                .map_or(0, |found| found.partitions);
            let fault = partitions_fault(&spec, partitions).filter(|_| partitions > 0);
            Examined {
                spec,
                partitions,
                partitions_fault: fault,
                settings: Ok(Vec::new()),
            }
        })
        .collect();
    let mut present: Vec<&mut Examined> = examined
        .iter_mut()
        .filter(|topic| topic.partitions > 0)
        .collect();
    for some in present.chunks_mut(MAX_TOPICS_A_REQUEST) {
        let specs: Vec<&TopicSpec> = some.iter().map(|topic| &topic.spec).collect();
        let results = settings_of(&client, &specs, seen.broker).await?;
        let all = |sentence: &str| specs.iter().map(|_| Err(sentence.to_owned())).collect();
        let found: Vec<Result<Vec<Difference>, String>> = match results {
            None => all("the brokers cannot describe topic settings"),
            Some(results) => (specs.iter().zip(results))
                .map(|(spec, result)| match result {
                    Ok(resource) => Ok(differences(spec, &resource)),
                    Err(code) => Err(format!("its settings cannot be read: {code}")),
                })
                .collect(),
        };
        for (topic, settings) in some.iter_mut().zip(found) {
            topic.settings = settings;
        }
    }
    Ok(examined)
}

fn client(config: &ClientConfig) -> Result<AdminClient<DefaultClientContext>, EnsureError> {
    config
        .create()
        .map_err(|error| EnsureError::Faults(vec![format!("kafka: {error}")]))
}
