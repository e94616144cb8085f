//! What every client of Kafka has in common.

use rdkafka::ClientConfig;

use super::credentials::read_secret;
use super::settings::Settings;
use crate::config::Fault;

/// The name under which the brokers know these processes, where the settings do not give another.
const CLIENT_ID: &str = "sluice";

/// The settings' properties and secrets, on which each client puts its own. Reads the files that
/// `kafka.secret_properties` names; connects nowhere.
pub fn base_config(settings: &Settings) -> Result<ClientConfig, Vec<Fault>> {
    let mut config = ClientConfig::new();
    config.set("client.id", CLIENT_ID);
    for (property, value) in &settings.kafka.properties {
        config.set(property, value);
    }
    let mut faults = Vec::new();
    for (property, file) in &settings.kafka.secret_properties {
        let path = format!("kafka.secret_properties.{property}");
        let mut fault = |message: String| {
            faults.push(Fault {
                path: path.clone(),
                message,
            });
        };
        match read_secret(&settings.secrets_dir, file).map(String::from_utf8) {
            Ok(Ok(value)) => {
                config.set(property, value);
            }
            Ok(Err(_)) => fault(format!("the file {file} is not UTF-8")),
            Err(message) => fault(message),
        }
    }
    config.set("bootstrap.servers", &settings.kafka.bootstrap_servers);
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(faults)
    }
}
