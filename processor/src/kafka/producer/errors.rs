//! What the client's errors mean for a transaction.

use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::types::RDKafkaErrorCode;

use crate::kafka::api::{CallError, Failure};

/// Whether another producer has taken the name, or the broker has given it away.
pub(super) fn is_fenced(error: &RDKafkaError) -> bool {
    matches!(
        error.code(),
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}

/// Whether a code stays until an operator repairs the broker.
fn is_permanent(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::PolicyViolation
    )
}

/// Whether a code is the effect of what failed before in the same transaction, such as a topic that may not
/// be written: records are purged from the queue, and calls find the transaction in another state. What
/// passes by itself the client tries again, and does not report so.
pub(super) fn is_effect(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::State
    )
}

/// Whether the next transaction of this client may fail by the same error.
pub(super) fn taints(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| is_permanent(code) || is_effect(code))
}

pub(super) fn hangs() -> CallError {
    CallError::Broken {
        why: "the call that sends the offsets hangs".to_owned(),
        fenced: false,
    }
}

pub(super) fn failure(error: &KafkaError, why: String) -> Failure {
    Failure {
        why,
        permanent: error.rdkafka_error_code().is_some_and(is_permanent),
    }
}

/// What the client says of a failed call; what it does not say is the worst.
pub(super) fn call_error(error: &KafkaError, why: String) -> CallError {
    match error {
        KafkaError::Transaction(error) if error.is_retriable() => CallError::Again(why),
        KafkaError::Transaction(error) if error.txn_requires_abort() => CallError::Abort(Failure {
            why,
            permanent: is_permanent(error.code()),
        }),
        KafkaError::Transaction(error) => CallError::Broken {
            why,
            fenced: is_fenced(error),
        },
        _ => CallError::Broken { why, fenced: false },
    }
}
