//! How the clients of a restore are set, and what they call back.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::oauth;
use sluice_service::kafka::statistics::{self, Statistics};

use crate::kafka::cluster::{Cluster, QUEUED_MESSAGES};

/// What these clients call back: their statistics, and nothing that the calls do not return.
pub struct Quiet(pub Statistics);

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    fn stats_raw(&self, report: &[u8]) {
        self.0.take(report);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is called an error, and is what a read waits for.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::info!(%error, reason, "the restorer's connection to Kafka");
        }
    }
}

impl ConsumerContext for Quiet {}

/// Every property of a client, by its `isolation.level`.
pub(crate) fn config(cluster: &Cluster<'_>, isolation: &str) -> ClientConfig {
    let (settings, base) = (cluster.settings, cluster.base);
    let mut config = base.clone();
    config
        .set("group.id", settings.group_id())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", isolation)
        // A follower may know less than the leader that is asked where a partition ends.
        .set("client.rack", "")
        // Questions by offset take leaders from the cache alone, and these clients consume nothing
        // that would have them refresh it: one that is gone would be asked until it is back.
        .set("metadata.max.age.ms", "5000")
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("queued.max.messages.kbytes", "16384")
        .set("queued.min.messages", QUEUED_MESSAGES)
        .set("fetch.queue.backoff.ms", "10")
        // The end of the partition is reported by a fetch that finds nothing: it need not wait.
        .set("fetch.wait.max.ms", "10")
        .set(
            "message.max.bytes",
            settings.output_max_message_bytes().to_string(),
        );
    statistics::enable(&mut config);
    config
}
