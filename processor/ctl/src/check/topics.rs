//! Are the topics there, and are they as they must be?

use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{
    Difference, Examined, Growth, alteration, configs_tool, creation, examine, examine_settings,
};

use super::brokers::Cluster;
use super::finding::Finding;
use crate::client::{self, TIMEOUT};

const CHECK: &str = "topics";

/// What makes and alters topics.
const APPLY: &str = "sluicectl topics apply";

fn or_by_hand(command: &str) -> String {
    format!("{APPLY}; or by hand: {command}")
}

/// All topics, as the processor verifies them. Makes none.
pub fn check(
    settings: &Settings,
    cluster: &Cluster,
    runtime: &tokio::runtime::Handle,
) -> Vec<Finding> {
    let mut topics = examine(settings, &cluster.partitions);
    let config = client::config(settings).and_then(|config| client::admin(&config));
    let skipped = match config {
        Ok(admin) => {
            let looked = examine_settings(&admin, &mut topics, cluster.broker, TIMEOUT);
            runtime.block_on(looked);
            None
        }
        Err(reason) => Some(Finding::skip(CHECK, "settings of topics", &reason)),
    };
    let found = topics.iter().flat_map(|topic| findings(settings, topic));
    found.chain(skipped).collect()
}

fn findings(settings: &Settings, topic: &Examined) -> Vec<Finding> {
    let spec = &topic.spec;
    let name = spec.name.as_str();
    if topic.partitions == 0 {
        let message = "is missing, or may not be seen";
        let finding = if name == settings.topics.names.subscriptions() {
            let message = format!("{message}: sluicectl keeps in it what it subscribed to");
            Finding::warn(CHECK, name, &message).mend(APPLY)
        } else if settings.topics.create {
            let message = format!(
                "{message}: a service makes it at its start (topics.create), and one that runs already does not"
            );
            Finding::warn(CHECK, name, &message).mend(APPLY)
        } else {
            Finding::fail(CHECK, name, message).mend(or_by_hand(&creation(settings, spec)))
        };
        return vec![finding];
    }
    let mut found = Vec::new();
    if let Some(fault) = &topic.partitions_fault {
        let message = fault.trim_start_matches(name).trim_start_matches(": ");
        let mend = Growth::new(settings).mend((name, spec.partitions), topic.partitions);
        found.push(Finding::fail(CHECK, name, message).mend(mend));
    }
    match &topic.settings {
        Err(message) => found.push(Finding::fail(CHECK, name, message)),
        Ok(differences) => {
            let (advice, faults): (Vec<&Difference>, Vec<&Difference>) =
                differences.iter().partition(|one| one.is_advice);
            for (some, make) in [
                (faults, Finding::fail as fn(_, &str, &str) -> Finding),
                (advice, Finding::warn),
            ] {
                if !some.is_empty() {
                    let sentences: Vec<&str> =
                        some.iter().map(|one| one.sentence.as_str()).collect();
                    let finding = make(CHECK, name, &sentences.join(", "));
                    let configs = some.iter().map(|one| one.config());
                    let command = alteration(&configs_tool(settings), name, configs);
                    found.push(finding.mend(or_by_hand(&command)));
                }
            }
        }
    }
    if found.is_empty() {
        let partitions = topic.partitions;
        let plural = if partitions == 1 { "" } else { "s" };
        let message = format!("{partitions} partition{plural}, as it must be");
        found.push(Finding::ok(CHECK, name, &message));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_topic_that_is_missing_has_a_mend_with_topics_create_or_without() {
        for (create, state) in [(true, State::Warn), (false, State::Fail)] {
            let dir = tempfile::tempdir().expect("a folder");
            let file = dir.path().join("settings.yaml");
            let text = format!(
                "kafka: {{bootstrap_servers: b}}\ntopics: {{create: {create}}}\n\
                 sources: {{s: {{provider: flock, secrets: [a]}}}}\n"
            );
            std::fs::write(&file, text).expect("the settings");
            let settings = sluice_service::settings::load(&file).expect("settings");
            let examined = examine(&settings, &BTreeMap::new());
            let raw = examined.iter().find(|one| one.spec.name == "webhooks.raw");
            let found = findings(&settings, raw.expect("raw"));
            assert_eq!(found[0].state, state);
            let mend = found[0].mend.as_deref().unwrap_or_default();
            assert!(mend.starts_with(APPLY), "{mend}");
            assert_eq!(mend.contains("kafka-topics.sh"), !create, "{mend}");
        }
    }
}
