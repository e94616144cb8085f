//! Whether the clients of a worker can be made at all: `--check` asks before the start does.

use rdkafka::ClientConfig;
use sluice_schemas::settings::{Fault, Settings};
use sluice_service::kafka::check::{Kind, client_fault};
use sluice_service::kafka::statistics::ClientStatistics;

use super::cluster::Cluster;
use super::watchdog::Calls;
use super::{consumer, lag, producer, reader};

/// What is wrong with the properties of the clients. `base` is Kafka's part of the settings. Connects
/// nowhere.
pub fn faults(settings: &Settings, base: &ClientConfig) -> Vec<Fault> {
    let (calls, statistics) = (Calls::default(), ClientStatistics::default());
    let cluster = Cluster {
        settings,
        base,
        worker: 0,
        calls: &calls,
        statistics: &statistics,
        reads_for: "reader",
    };
    let restorer = reader::config::config(&cluster, "read_committed");
    let clients = [
        ("producer", producer::config(&cluster), Kind::Producer),
        ("consumer", consumer::config(&cluster), Kind::Consumer),
        ("restorer", restorer, Kind::Consumer),
        ("lag", lag::config(settings, base), Kind::Consumer),
    ];
    let fault =
        |(name, config, kind): (&str, ClientConfig, Kind)| client_fault(name, &config, kind);
    clients.into_iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use sluice_service::kafka::client::base_config;

    use super::*;

    /// The messages of all faults under these properties.
    fn found(properties: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        let yaml = format!(
            "kafka: {{bootstrap_servers: 'localhost:1', properties: {{{properties}}}}}\n\
             sources: {{s: {{provider: flock, secrets: [s]}}}}\n"
        );
        std::fs::write(&file, yaml).expect("the settings");
        let settings = sluice_service::settings::load(&file).expect("each property alone is good");
        let base = base_config(&settings).expect("so they are together");
        let faults = faults(&settings, &base).into_iter();
        faults.map(|fault| fault.message).collect()
    }

    #[test]
    fn properties_that_do_not_fit_each_other_are_found_before_the_start() {
        assert_eq!(found(""), [""; 0]);
        let faults = found("socket.timeout.ms: '300000'");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("transaction.timeout.ms"), "{faults:?}");
        assert!(faults[0].starts_with("the client producer"), "{faults:?}");
        let faults = found("session.timeout.ms: '3600000', max.poll.interval.ms: '1000'");
        let consumer = |fault: &&String| fault.contains("the client consumer");
        assert_eq!(faults.iter().filter(consumer).count(), 1, "{faults:?}");
    }
}
