//! The Kafka clients of the commands that look: they remember what librdkafka says of lost connections. They
//! bear the name of the processor's group, which the operator may see, and never join it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::oauth;

/// How long one request to the brokers may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The last thing that was said of each broker, by its address, whether the group was refused, and whether no
/// broker was there.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    brokers: Arc<Mutex<BTreeMap<String, String>>>,
    group_refused: Arc<AtomicBool>,
    all_down: Arc<AtomicBool>,
}

impl Heard {
    /// What was heard, by the broker's address.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.brokers.lock().clone()
    }

    /// Whether a broker refused the group: librdkafka asks for its coordinator again until the time is over.
    pub fn is_group_refused(&self) -> bool {
        self.group_refused.load(Ordering::Relaxed)
    }

    /// Whether all brokers were away, since the last call.
    pub fn take_all_down(&self) -> bool {
        self.all_down.swap(false, Ordering::Relaxed)
    }

    /// What was heard, in one line; empty where nothing was.
    pub fn reasons(&self) -> String {
        let all = self.all().into_iter();
        let all: Vec<String> = all
            .map(|(broker, reason)| format!("{broker}: {reason}"))
            .collect();
        all.join("; ")
    }

    /// Takes a sentence such as `sasl_ssl://kafka:9093/bootstrap: Connect failed (after 1ms in state X)`.
    fn take(&self, sentence: &str) {
        let Some((broker, reason)) = sentence.split_once(": ") else {
            return;
        };
        let address = broker.rsplit("://").next().unwrap_or(broker);
        let address = address.split('/').next().unwrap_or(address);
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        // librdkafka takes an answer that is none of Kafka's for one that is too large.
        let reason = if reason.contains("receive.message.max.bytes") {
            "what answers is no Kafka listener, or one that wants TLS"
        } else {
            reason
        };
        if address.contains(':') {
            let mut brokers = self.brokers.lock();
            brokers.insert(address.to_owned(), reason.to_owned());
        }
    }
}

impl ClientContext for Heard {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _line: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            self.group_refused.store(true, Ordering::Relaxed);
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.all_down.store(true, Ordering::Relaxed);
        }
        self.take(reason);
    }
}

impl ConsumerContext for Heard {}

/// The settings' properties as the check needs them.
pub fn config(settings: &Settings) -> Result<ClientConfig, String> {
    let base = base_config(settings).map_err(|_| "a credential cannot be read".to_owned())?;
    Ok(looking(settings, base))
}

/// These properties for a client that looks and joins no group.
pub fn looking(settings: &Settings, mut config: ClientConfig) -> ClientConfig {
    config
        .set("group.id", settings.group_id())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20")
        .set("log_level", "0");
    if config.get("socket.connection.setup.timeout.ms").is_none() {
        let setup = TIMEOUT.as_millis().to_string();
        config.set("socket.connection.setup.timeout.ms", setup);
    }
    config
}

/// A consumer, and what it hears.
pub fn consumer(config: &ClientConfig) -> Result<(BaseConsumer<Heard>, Heard), KafkaError> {
    let heard = Heard::default();
    let consumer = config.create_with_context(heard.clone())?;
    Ok((consumer, heard))
}

/// The client that describes settings. With OAUTHBEARER there is none: the wrapper's serves no questions for
/// a token.
pub fn admin(config: &ClientConfig) -> Result<AdminClient<DefaultClientContext>, String> {
    let names = ["sasl.mechanism", "sasl.mechanisms"];
    let mut mechanisms = names.iter().filter_map(|name| config.get(name));
    if mechanisms.any(|mechanism| mechanism.eq_ignore_ascii_case("OAUTHBEARER")) {
        return Err("the admin client cannot log in with OAUTHBEARER".to_owned());
    }
    config.create().map_err(|error| error.to_string())
}

/// Makes a request that blocks, and serves the client's events meanwhile.
pub fn ask<T: Send>(
    consumer: &BaseConsumer<Heard>,
    request: impl FnOnce(&BaseConsumer<Heard>) -> T + Send,
) -> T {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| request(consumer));
        while !asked.is_finished() {
            let _ = consumer.poll(Duration::from_millis(10));
        }
        match asked.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Whether the principal may not do what was asked for.
pub fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
    )
}

/// Whether the principal may not write what an idempotent producer could not. Where it may write to no topic
/// at all, brokers since 2.8 refuse the producer itself, for good, and the record's own error does not say
/// so.
pub fn is_write_refused<C: ProducerContext>(
    producer: &BaseProducer<C>,
    error: &KafkaError,
) -> bool {
    let fatal = producer.client().fatal_error().map(|(code, _)| code);
    let codes = [fatal, error.rdkafka_error_code()];
    codes.into_iter().flatten().any(is_refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_broker_is_known_by_its_address() {
        let heard = Heard::default();
        heard.take(
            "sasl_ssl://kafka-1:9093/bootstrap: SASL authentication error: no (after 3ms in state X)",
        );
        heard.take("kafka-2:9092/2: Connect to ipv4#10.0.0.1:9092 failed: Connection refused");
        heard.take("1/1 brokers are down");
        heard.take(
            "localhost:80/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase \
             receive.message.max.bytes (after 1ms in state APIVERSION_QUERY)",
        );
        let all: Vec<_> = heard.all().into_iter().collect();
        assert_eq!(
            all,
            [
                ("kafka-1:9093", "SASL authentication error: no"),
                (
                    "kafka-2:9092",
                    "Connect to ipv4#10.0.0.1:9092 failed: Connection refused"
                ),
                (
                    "localhost:80",
                    "what answers is no Kafka listener, or one that wants TLS"
                ),
            ]
            .map(|(broker, reason)| (broker.to_owned(), reason.to_owned()))
        );
    }
}
