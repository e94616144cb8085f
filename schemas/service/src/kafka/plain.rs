//! What a client calls back that asks and reads, and has no more to say: of tools, and of the look at topics.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::{client, oauth};

/// Writes the client's log into ours, and gets its token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl ClientContext for Plain {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    // Where the settings ask all clients for statistics: the wrapper's own logs them.
    fn stats_raw(&self, _report: &[u8]) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is called an error, and is what a read waits for.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            client::log_error(&error, reason);
        }
    }
}

impl ConsumerContext for Plain {}

impl ProducerContext for Plain {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}
