//! What the producer's client calls back, and what is made of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use sluice_service::kafka::client as kafka;
use sluice_service::kafka::oauth;
use sluice_service::kafka::refusal::{self, Call};
use sluice_service::kafka::statistics::Statistics;

use super::errors::{is_effect, taints};

/// What the producer calls back.
#[derive(Debug, Default)]
pub(super) struct OutContext {
    pub(super) failed: Mutex<Option<(KafkaError, String)>>,
    pub(super) suspect: AtomicBool,
    /// The topic that refused to be written in the transaction, as the client logs it.
    pub(super) refused: Mutex<Option<String>>,
    pub(super) statistics: Statistics,
    pub(super) raw: String,
    pub(super) group: String,
    pub(super) id: String,
}

impl OutContext {
    /// The client was seen to carry what a topic refused over into transactions that do not write to it: the
    /// next one is another client's.
    pub(super) fn taint(&self, error: &KafkaError) {
        if taints(error) {
            self.suspect.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn refused(&self) -> MutexGuard<'_, Option<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic that refused to be written, where an error is the effect of that.
    pub(super) fn cause(&self, error: &KafkaError) -> Option<String> {
        let is_effect = error.rdkafka_error_code().is_some_and(is_effect);
        let refused = self.refused();
        let topic = refused.as_ref().filter(|_| is_effect)?;
        Some(format!("{topic} may not be written ({error})"))
    }

    /// What an error says, and the rule that lacks where it is about one.
    pub(super) fn why(&self, error: &KafkaError) -> String {
        if let Some(cause) = self.cause(error) {
            return cause;
        }
        let call = Call::Transact {
            id: &self.id,
            group: &self.group,
            topic: &self.raw,
        };
        // A write that is refused has the same code as raw's offsets; its topic is in the client's log.
        let text = error.to_string();
        let is_write = text.contains("add partition") || text.contains("ProduceRequest for");
        let code = error
            .rdkafka_error_code()
            .filter(|code| *code != RDKafkaErrorCode::TopicAuthorizationFailed || !is_write);
        match refusal::note(call, code) {
            Some(rule) => format!("{error}; Kafka refuses {rule}"),
            None => error.to_string(),
        }
    }
}

impl ClientContext for OutContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried)
    }

    // A report counts as in flight until it is polled, and every wait for deliveries polls.
    fn stats_raw(&self, report: &[u8]) {
        self.statistics.take(report);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if let Some(topic) = refusal::topic_of_log(facility, line) {
            let code = RDKafkaErrorCode::TopicAuthorizationFailed;
            refusal::note(Call::Write(topic), Some(code));
            *self.refused() = Some(topic.to_owned());
        }
        kafka::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.suspect.store(true, Ordering::Relaxed);
        tracing::info!(%error, reason, "the producer's connection to Kafka");
    }
}

impl ProducerContext for OutContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.taint(error);
            refusal::note(Call::Write(message.topic()), error.rdkafka_error_code());
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| (error.clone(), message.topic().to_owned()));
        }
    }
}
