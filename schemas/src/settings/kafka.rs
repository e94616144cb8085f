//! `kafka`: which of librdkafka's properties may stand in the settings.

use super::oauth::{self, OIDC};
use super::values::{FILE_NAME, is_file_name};
use crate::settings::reader::Node;

/// `kafka`
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Any librdkafka property.
    pub properties: Vec<(String, String)>,
    /// Property and the name of the file under `secrets_dir` that holds its value.
    pub secret_properties: Vec<(String, String)>,
}

impl Kafka {
    /// The value of a property that stands in the settings file.
    pub fn property(&self, name: &str) -> Option<&str> {
        let mut found = self.properties.iter().filter(|(other, _)| other == name);
        found.next_back().map(|(_, value)| value.as_str())
    }
}

/// Properties that Sluice's promises rest on; each client sets them itself. Those that begin with
/// `test.` count too: one of them would put a mock in the brokers' place.
const OWNED: [&str; 35] = [
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Properties by which a client would run a command or load code: a settings file may do neither.
const CODE: [&str; 6] = [
    "plugin.library.paths",
    "sasl.kerberos.kinit.cmd",
    "ssl.engine.id",
    "ssl.engine.location",
    "ssl.providers",
    "ssl_engine_callback_data",
];

/// Properties that the wrapper of the client sets.
const WRAPPER: [&str; 2] = ["enabled_events", "sasl.oauthbearer.config"];

/// Reads `kafka`.
pub(super) fn kafka(
    mut node: Node,
    property_fault: &dyn Fn(&str, Option<&str>) -> Option<&'static str>,
) -> Kafka {
    let bootstrap_servers = node.text("bootstrap_servers").unwrap_or_default();
    let named = |server: &str| !server.trim().is_empty() && !server.contains('@');
    if !bootstrap_servers.split(',').all(named) {
        let message = "is needed: host:port, several separated by commas";
        node.fault("bootstrap_servers", message);
    }
    let properties = node.child("properties").text_pairs();
    for (property, value) in &properties {
        let path = format!("properties.{property}");
        if let Some(message) = reserved(property) {
            node.fault(&path, message);
        } else if is_secret(property) {
            let message = "is a secret: put it into a file under secrets_dir and name the file \
                           under kafka.secret_properties";
            node.fault(&path, message);
        } else if OIDC.contains(&property.as_str()) {
            // Judged together, below: the client never sees them.
        } else if let Some(message) = property_fault(property, Some(value)) {
            node.fault(&path, message);
        }
    }
    let secret_properties = node.child("secret_properties").text_pairs();
    for (property, file) in &secret_properties {
        let path = format!("secret_properties.{property}");
        if let Some(message) = reserved(property) {
            node.fault(&path, message);
        } else if !OIDC.contains(&property.as_str())
            && let Some(message) = property_fault(property, None)
        {
            node.fault(&path, message);
        } else if properties.iter().any(|(other, _)| other == property) {
            node.fault(&path, "stands under kafka.properties too");
        }
        if !is_file_name(file) {
            node.fault(&path, FILE_NAME);
        }
    }
    for (path, message) in oauth::faults(&properties, &secret_properties) {
        // A secret in the wrong place has its fault already.
        let property = path.strip_prefix("properties.");
        if !property.is_some_and(is_secret) {
            node.fault(&path, message);
        }
    }
    node.finish();
    Kafka {
        bootstrap_servers,
        properties,
        secret_properties,
    }
}

fn reserved(property: &str) -> Option<&'static str> {
    if CODE.contains(&property) {
        return Some("has the client run a command or load code, which a settings file may not");
    }
    let is_ours = OWNED.contains(&property) || WRAPPER.contains(&property);
    (is_ours || property.starts_with("test."))
        .then_some("is set by Sluice itself, for its guarantees rest on it")
}

/// Whether the value of a property is for nobody's eyes. Its name decides, so that properties of
/// later versions of librdkafka are caught too.
fn is_secret(property: &str) -> bool {
    ["password", "passphrase", "secret", "key.pem"]
        .iter()
        .any(|word| property.contains(word))
}
