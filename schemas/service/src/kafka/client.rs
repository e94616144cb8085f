//! What all clients of Kafka have in common.

use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;

use super::oauth;
use crate::files;
use crate::secrets::read_secret;
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::Settings;

/// The name under which the brokers know these processes, where the settings do not give another.
const CLIENT_ID: &str = "sluice";

/// Properties whose value is the path of a file. librdkafka reads most of them itself.
pub(super) const PATHS: [&str; 6] = [
    "https.ca.location",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
];

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
    for property in PATHS {
        let path = settings.kafka.property(property).map(Path::new);
        if let Some(Err(error)) = path.map(files::is_readable) {
            let path = format!("kafka.properties.{property}");
            let message = format!("the file cannot be read: {error}");
            faults.push(Fault { path, message });
        }
    }
    config.set("bootstrap.servers", &settings.kafka.bootstrap_servers);
    if faults.is_empty() {
        faults.extend(oauth::take(&mut config).err());
    }
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(faults)
    }
}

/// Why librdkafka does not accept a property, or its value where one is given. The value is not shown: it may
/// be a secret in the wrong place.
pub fn property_fault(property: &str, value: Option<&str>) -> Option<&'static str> {
    let mut one = ClientConfig::new();
    one.set(property, value.unwrap_or("x"));
    match (one.create_native_config(), value) {
        (Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)), _) => {
            Some("is not a property of librdkafka")
        }
        (Err(_), Some(_)) => Some("has a value that librdkafka does not accept"),
        _ => None,
    }
}

/// Writes a line of librdkafka's log into ours. librdkafka reports a lost broker as an error, although it
/// reconnects by itself. So its lines are warnings at most, and those about a retry are INFO.
pub fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Warning if line.ends_with("retrying") => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// Logs an error that a client reports. Lost connections come back by themselves, so only an error that ends
/// the client is an ERROR.
pub fn log_error(error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::Fatal) => {
            tracing::error!(target: "librdkafka", %error, "{reason}");
        }
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut,
        ) => tracing::info!(target: "librdkafka", %error, "{reason}"),
        _ => tracing::warn!(target: "librdkafka", %error, "{reason}"),
    }
}
