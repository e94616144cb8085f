//! Does each broker answer, under the settings' credentials?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker, MetadataTopic};
use sluice_schemas::settings::Settings;
use tokio::task::JoinSet;

use super::finding::Finding;
use crate::client::{self, TIMEOUT, ask};

const CHECK: &str = "brokers";

/// What the metadata says.
pub struct Cluster {
    /// How many partitions each topic has that may be seen.
    pub partitions: BTreeMap<String, usize>,
    /// A broker that is there.
    pub broker: Option<i32>,
}

/// The brokers, and what they say of the cluster where any of them answered.
pub fn check(
    settings: &Settings,
    runtime: &tokio::runtime::Handle,
) -> (Vec<Finding>, Option<Cluster>) {
    let config = match client::config(settings) {
        Ok(config) => config,
        Err(reason) => return (vec![Finding::skip(CHECK, "", &reason)], None),
    };
    let made = client::consumer(&config);
    let (consumer, heard) = match made {
        Ok(made) => made,
        Err(error) => {
            let message = format!("no client can be made: {error}");
            let mend = "correct the property, or the file that it names";
            let finding = Finding::fail(CHECK, "kafka.properties", &message).mend(mend);
            return (vec![finding], None);
        }
    };
    let metadata = match ask(&consumer, |consumer| consumer.fetch_metadata(None, TIMEOUT)) {
        Ok(metadata) => metadata,
        Err(error) => {
            let reasons = heard.all();
            let servers = settings.kafka.bootstrap_servers.split(',').map(str::trim);
            let finding = |server: &str| {
                let address = with_port(server);
                let reason = reasons.get(&address);
                let reason = reason.map_or_else(|| in_words(&error), Clone::clone);
                Finding::fail(CHECK, server, &reason).mend(mend(&reason))
            };
            return (servers.map(finding).collect(), None);
        }
    };
    let mut found = match client::admin(&config) {
        Ok(admin) => runtime.block_on(each(admin, &metadata)),
        Err(reason) => vec![Finding::skip(CHECK, "each broker", &reason)],
    };
    found.extend(missing(settings, &metadata));
    let topics = metadata.topics().iter();
    let topics = topics.filter(|topic| topic.error().is_none());
    let cluster = Cluster {
        partitions: topics
            .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
            .collect(),
        broker: metadata.brokers().first().map(MetadataBroker::id),
    };
    (found, Some(cluster))
}

/// librdkafka's own default.
fn with_port(server: &str) -> String {
    let server = server.rsplit("://").next().unwrap_or(server);
    match server.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => server.to_owned(),
        _ => format!("{server}:9092"),
    }
}

fn in_words(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => {
            format!("no answer within {} s", TIMEOUT.as_secs())
        }
        _ => error.to_string(),
    }
}

/// What mends what librdkafka says of a connection.
fn mend(reason: &str) -> &'static str {
    let lower = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["sasl", "authentication"]) {
        "correct sasl.mechanism under kafka.properties, or the user and the password in the files of \
         kafka.secret_properties"
    } else if says(&["ssl", "certificate"]) {
        "correct security.protocol, ssl.ca.location and the client's certificate under kafka.properties"
    } else if says(&["no kafka listener"]) {
        "correct kafka.bootstrap_servers, or set security.protocol under kafka.properties to that of the \
         listener"
    } else if says(&["apiversion", "disconnected"]) {
        "set security.protocol under kafka.properties to that of the listener"
    } else if says(&["resolve"]) {
        "correct the name in kafka.bootstrap_servers, or the name service of this host"
    } else {
        "correct kafka.bootstrap_servers, or let this host reach the broker"
    }
}

/// Asks each broker for itself: metadata comes from any of them.
async fn each(client: AdminClient<DefaultClientContext>, metadata: &Metadata) -> Vec<Finding> {
    let client = Arc::new(client);
    let mut asked = JoinSet::new();
    for broker in metadata.brokers() {
        let address = format!("{}:{}", broker.host(), broker.port());
        let (client, id) = (Arc::clone(&client), broker.id());
        asked.spawn(async move {
            let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
            let resource = [ResourceSpecifier::Broker(id)];
            let answer = client.describe_configs(&resource, &options).await;
            (id, address, answer.map(|mut results| results.pop()))
        });
    }
    let mut found: Vec<(i32, Finding)> = Vec::new();
    while let Some(Ok((id, address, answer))) = asked.join_next().await {
        let subject = format!("broker {id} at {address}");
        let away = match answer {
            // A refusal is an answer too: who may not see a broker's settings may well use it.
            Ok(Some(Err(code))) | Err(KafkaError::AdminOp(code)) => is_away(code),
            Ok(_) => false,
            Err(_) => true,
        };
        let finding = if away {
            let message = format!("no answer within {} s", TIMEOUT.as_secs());
            let mend = "let this host reach the address, which is the broker's advertised listener";
            Finding::fail(CHECK, &subject, &message).mend(mend)
        } else {
            Finding::ok(CHECK, &subject, "answers")
        };
        found.push((id, finding));
    }
    found.sort_by_key(|(id, _)| *id);
    found.into_iter().map(|(_, finding)| finding).collect()
}

fn is_away(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
    )
}

/// Brokers that hold replicas of our topics and that the others do not know to be there.
fn missing(settings: &Settings, metadata: &Metadata) -> Vec<Finding> {
    let names = sluice_service::kafka::topics::planned(settings);
    let ours = |name: &str| names.iter().any(|spec| spec.name == name);
    let there: BTreeSet<i32> = metadata.brokers().iter().map(MetadataBroker::id).collect();
    let topics = metadata.topics().iter().filter(|topic| ours(topic.name()));
    let replicas = topics
        .flat_map(MetadataTopic::partitions)
        .flat_map(|partition| partition.replicas().iter().copied());
    let gone: BTreeSet<i32> = replicas.filter(|id| !there.contains(id)).collect();
    gone.into_iter()
        .map(|id| {
            let message = "holds replicas of Sluice's topics and is not in the cluster";
            Finding::warn(CHECK, &format!("broker {id}"), message).mend("start it")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_librdkafka_says_has_its_mend() {
        for (reason, word) in [
            (
                "SASL authentication error: Authentication failed",
                "sasl.mechanism",
            ),
            (
                "SSL handshake failed: certificate verify failed",
                "ssl.ca.location",
            ),
            (
                "Disconnected while requesting ApiVersion",
                "security.protocol",
            ),
            (
                "what answers is no Kafka listener, or one that wants TLS",
                "security.protocol",
            ),
            (
                "Failed to resolve 'kafka:9092': Name or service not known",
                "name service",
            ),
            (
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                "bootstrap_servers",
            ),
        ] {
            assert!(mend(reason).contains(word), "{reason}: {}", mend(reason));
        }
        assert_eq!(with_port("kafka"), "kafka:9092");
        assert_eq!(with_port("SSL://kafka:1"), "kafka:1");
    }
}
