//! A rule that lacks at the brokers, by its resource and operation: from what was called and the code that
//! came back.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode;
use sluice_schemas::acl::{Acl, Operation, Resource};

use crate::telemetry::Repeated;

/// What was called. Topics, groups and ids are full names.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Records of a topic are fetched in the name of a group, or its offsets asked for.
    Consume {
        /// The topic.
        topic: &'a str,
        /// The group.
        group: &'a str,
    },
    /// Records are written, or an idempotent producer is given its number.
    Write(&'a str),
    /// A transaction begins or ends, or takes the offsets of a topic's group.
    Transact {
        /// The transactional id.
        id: &'a str,
        /// The group.
        group: &'a str,
        /// The topic whose offsets are committed.
        topic: &'a str,
    },
    /// A topic's settings are read.
    Configs(&'a str),
    /// A topic is made.
    Create(&'a str),
}

/// The rule that lacks; `None` where the code is about something else.
pub fn lacking(call: Call<'_>, code: RDKafkaErrorCode) -> Option<Acl> {
    use RDKafkaErrorCode as Code;
    let topic = |name: &str, operation| Acl::literal(Resource::Topic(name.to_owned()), operation);
    let group = |name: &str| Acl::literal(Resource::Group(name.to_owned()), Operation::Read);
    match (code, call) {
        (
            Code::TopicAuthorizationFailed,
            Call::Consume { topic: name, .. } | Call::Transact { topic: name, .. },
        ) => Some(topic(name, Operation::Read)),
        (
            Code::GroupAuthorizationFailed,
            Call::Consume { group: name, .. } | Call::Transact { group: name, .. },
        ) => Some(group(name)),
        // Since 2.8, the right to write to a topic lets a producer be idempotent.
        (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed, Call::Write(name)) => {
            Some(topic(name, Operation::Write))
        }
        (Code::TransactionalIdAuthorizationFailed, Call::Transact { id, .. }) => {
            let id = Resource::TransactionalId(id.to_owned());
            Some(Acl::literal(id, Operation::Write))
        }
        (
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed,
            Call::Configs(name),
        ) => Some(topic(name, Operation::DescribeConfigs)),
        (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed, Call::Create(name)) => {
            Some(topic(name, Operation::Create))
        }
        _ => None,
    }
}

/// Logs the rule that lacks, if that is what the code says: once in 30 s while it repeats.
pub fn note(call: Call<'_>, code: Option<RDKafkaErrorCode>) -> Option<Acl> {
    static LOGGED: Mutex<BTreeMap<Acl, Repeated>> = Mutex::new(BTreeMap::new());
    let lacking = lacking(call, code?)?;
    let mut logged = LOGGED.lock();
    let repeated = logged.entry(lacking.clone()).or_default();
    if let Some(repeated) = repeated.came(Instant::now()) {
        tracing::error!(repeated, "Kafka refuses {lacking}");
    }
    Some(lacking)
}

/// The topic that librdkafka's log names where a transaction may not write to it: its errors do not.
pub fn topic_of_log<'l>(facility: &str, line: &'l str) -> Option<&'l str> {
    let (_, named) = line.split_once("Failed to add partition \"")?;
    let (topic, reason) = named.split_once('"')?;
    let refused = facility == "ADDPARTS" && reason.ends_with("Topic authorization failed");
    refused.then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_resource_and_operation() {
        use RDKafkaErrorCode as Code;
        let consume = Call::Consume {
            topic: "raw",
            group: "g",
        };
        let transact = Call::Transact {
            id: "g.m.0",
            group: "g",
            topic: "raw",
        };
        let (topic, group) = (
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
        );
        for (call, code, expected) in [
            (consume, topic, "topic raw READ"),
            (consume, group, "group g READ"),
            (Call::Write("t"), topic, "topic t WRITE"),
            (
                Call::Write("t"),
                Code::ClusterAuthorizationFailed,
                "topic t WRITE",
            ),
            (
                transact,
                Code::TransactionalIdAuthorizationFailed,
                "transactional id g.m.0 WRITE",
            ),
            (transact, group, "group g READ"),
            (transact, topic, "topic raw READ"),
            (Call::Configs("t"), topic, "topic t DESCRIBE_CONFIGS"),
            (Call::Create("t"), topic, "topic t CREATE"),
            (
                Call::Create("t"),
                Code::ClusterAuthorizationFailed,
                "topic t CREATE",
            ),
            (Call::Write("t"), group, ""),
            (consume, Code::UnknownTopic, ""),
        ] {
            let found = lacking(call, code);
            let found = found.map(|acl| format!("{} {}", acl.resource, acl.operation.name()));
            assert_eq!(found.unwrap_or_default(), expected, "{call:?} {code:?}");
        }
    }

    #[test]
    fn a_log_line_of_the_client_names_the_topic_that_a_transaction_may_not_write_to() {
        let line = "[thrd:main]: TxnCoordinator/1: Failed to add partition \"events.x\" [0] to \
                    transaction: Broker: Topic authorization failed";
        assert_eq!(topic_of_log("ADDPARTS", line), Some("events.x"));
        assert_eq!(topic_of_log("FAIL", line), None);
        let other = line.replace("Topic authorization failed", "Unknown topic");
        assert_eq!(topic_of_log("ADDPARTS", &other), None);
    }
}
