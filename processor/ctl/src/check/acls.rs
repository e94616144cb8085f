//! Which of the required ACLs does the principal of these settings lack? Each is tried where a try changes
//! nothing. To write, to use a transactional id and to join a group cannot be tried so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_schemas::acl::{Acl, Operation, Pattern, Resource, Who, required};
use sluice_schemas::settings::Settings;

use super::finding::Finding;
use crate::client::{self, Heard, TIMEOUT, ask, is_refusal};

const CHECK: &str = "acls";

/// How long a fetch of a topic that may be read takes at most, where nothing is wrong.
const FETCH_PATIENCE: Duration = Duration::from_secs(2);

/// How long all tries may take together.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whose rules the principal must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// `sluice-ingest`
    Ingest,
    /// `sluice-processor`
    Processor,
    /// Who uses `sluicectl`.
    Operator,
}

impl From<Role> for Who {
    fn from(role: Role) -> Self {
        match role {
            Role::Ingest => Self::Ingest,
            Role::Processor => Self::Processor,
            Role::Operator => Self::Operator,
        }
    }
}

/// What came of trying a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tried {
    Allowed,
    Refused,
    /// It cannot be tried, for this reason.
    Untried(String),
}

/// The rules of these roles.
pub fn check(
    settings: &Settings,
    whose: &[Role],
    runtime: &tokio::runtime::Handle,
) -> Vec<Finding> {
    let who = whose.iter().map(|role| Who::from(*role));
    let rules: BTreeSet<Acl> = who.flat_map(|who| required(settings, who)).collect();
    let trying = match Trying::new(settings, runtime) {
        Ok(trying) => trying,
        Err(reason) => return vec![Finding::skip(CHECK, "", &reason)],
    };
    let (mut found, mut held) = (Vec::new(), 0);
    let mut untried: BTreeMap<String, Vec<&Acl>> = BTreeMap::new();
    for rule in &rules {
        match trying.rule(rule) {
            Tried::Allowed => held += 1,
            Tried::Refused => found.push(lacks(settings, rule)),
            Tried::Untried(reason) => untried.entry(reason).or_default().push(rule),
        }
    }
    let subject = named(whose);
    if held > 0 {
        let message = format!("the principal has {held} of {} rules", rules.len());
        found.push(Finding::ok(CHECK, &subject, &message));
    }
    for (reason, some) in untried {
        let message = format!("{reason}: {}", in_short(&some));
        found.push(Finding::skip(CHECK, &subject, &message));
    }
    found
}

fn named(roles: &[Role]) -> String {
    let names: BTreeSet<&Role> = roles.iter().collect();
    let names: Vec<&str> = names
        .into_iter()
        .map(|role| match role {
            Role::Ingest => "ingest",
            Role::Processor => "processor",
            Role::Operator => "operator",
        })
        .collect();
    names.join(",")
}

fn lacks(settings: &Settings, rule: &Acl) -> Finding {
    let resource = match &rule.resource {
        Resource::Topic(name) => format!("--topic {name}"),
        Resource::Group(name) => format!("--group {name}"),
        Resource::TransactionalId(name) => format!("--transactional-id {name}"),
        Resource::Cluster => "--cluster".to_owned(),
    };
    let pattern = match rule.pattern {
        Pattern::Literal => "",
        Pattern::Prefixed => " --resource-pattern-type prefixed",
    };
    let servers = &settings.kafka.bootstrap_servers;
    let message = format!("the principal lacks {}", rule.operation.name());
    Finding::fail(CHECK, &rule.resource.to_string(), &message).mend(format!(
        "kafka-acls.sh --bootstrap-server {servers} --command-config admin.properties --add \
         --allow-principal User:NAME {resource}{pattern} --operation {}",
        rule.operation.argument()
    ))
}

/// Rules in few words: of topics, which may be many, their number.
fn in_short(rules: &[&Acl]) -> String {
    let mut topics: BTreeMap<&str, usize> = BTreeMap::new();
    let mut words = Vec::new();
    for rule in rules {
        match &rule.resource {
            Resource::Topic(_) => *topics.entry(rule.operation.name()).or_default() += 1,
            other => words.push(format!("{} on {other}", rule.operation.name())),
        }
    }
    let topics = topics.into_iter().map(|(operation, count)| match count {
        1 => format!("{operation} on 1 topic"),
        _ => format!("{operation} on {count} topics"),
    });
    topics.chain(words).collect::<Vec<_>>().join(", ")
}

/// The clients by which rules are tried, and what they learned.
struct Trying<'a> {
    settings: &'a Settings,
    runtime: &'a tokio::runtime::Handle,
    consumer: BaseConsumer<Heard>,
    admin: Result<AdminClient<DefaultClientContext>, String>,
    end: Instant,
}

impl<'a> Trying<'a> {
    fn new(settings: &'a Settings, runtime: &'a tokio::runtime::Handle) -> Result<Self, String> {
        let config: ClientConfig = client::config(settings)?;
        let words = |error: KafkaError| error.to_string();
        let (consumer, _) = client::consumer(&config).map_err(words)?;
        let admin = client::admin(&config);
        Ok(Self {
            settings,
            runtime,
            consumer,
            admin,
            end: Instant::now() + PATIENCE,
        })
    }

    fn rule(&self, rule: &Acl) -> Tried {
        if Instant::now() > self.end {
            let seconds = PATIENCE.as_secs();
            return Tried::Untried(format!("the tries before it took {seconds} s"));
        }
        match (&rule.resource, rule.operation) {
            (Resource::Topic(name), Operation::Read) => self.read(name),
            (Resource::Topic(name), Operation::Describe) => self.describe(name),
            (Resource::Topic(name), Operation::DescribeConfigs) => self.describe_configs(name),
            (Resource::Topic(name), Operation::Create) => self.create(name),
            (Resource::Group(_), Operation::Describe) => self.group(),
            // Who may not even see it may not read it.
            (Resource::Group(_), Operation::Read) => match self.group() {
                Tried::Allowed => Tried::Untried("a try would join the group".to_owned()),
                other => other,
            },
            // To write, and what comes with it.
            (
                Resource::Topic(_)
                | Resource::Group(_)
                | Resource::TransactionalId(_)
                | Resource::Cluster,
                _,
            ) => Tried::Untried("a try would write".to_owned()),
        }
    }

    /// A consumer's request for the metadata of a topic by its name makes none.
    fn describe(&self, topic: &str) -> Tried {
        let metadata = ask(&self.consumer, |consumer| {
            consumer.fetch_metadata(Some(topic), TIMEOUT)
        });
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => return outcome(Err(&error)),
        };
        let error = metadata.topics().first().and_then(MetadataTopic::error);
        match error.map(RDKafkaErrorCode::from) {
            Some(code) if is_refusal(code) => Tried::Refused,
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => missing(),
            _ => Tried::Allowed,
        }
    }

    /// Fetches what is at the end of one partition.
    fn read(&self, topic: &str) -> Tried {
        match self.describe(topic) {
            Tried::Allowed => {}
            other => return other,
        }
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(topic, 0, Offset::End);
        if let Err(error) = added.and_then(|()| self.consumer.assign(&list)) {
            return outcome(Err(&error));
        }
        let end = Instant::now() + FETCH_PATIENCE;
        let mut tried = Tried::Untried("the fetch had no answer in time".to_owned());
        while Instant::now() < end {
            match self.consumer.poll(Duration::from_millis(20)) {
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_refusal) => {
                    tried = Tried::Refused;
                    break;
                }
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => {
                    tried = Tried::Allowed;
                    break;
                }
                Some(Err(_)) | None => {}
            }
        }
        let _ = self.consumer.unassign();
        tried
    }

    fn describe_configs(&self, topic: &str) -> Tried {
        let admin = match &self.admin {
            Ok(admin) => admin,
            Err(reason) => return Tried::Untried(reason.clone()),
        };
        let resource = [ResourceSpecifier::Topic(topic)];
        let asked = admin.describe_configs(&resource, &options());
        match self.runtime.block_on(asked) {
            Ok(results) => match results.into_iter().next() {
                Some(Err(code)) => outcome(Err(&KafkaError::AdminOp(code))),
                // The wrapper drops every error and leaves no setting; a topic has dozens. One that is not
                // there is no refusal.
                Some(Ok(resource)) if resource.entries.is_empty() => match self.describe(topic) {
                    Tried::Allowed | Tried::Refused => Tried::Refused,
                    untried @ Tried::Untried(_) => untried,
                },
                _ => Tried::Allowed,
            },
            Err(error) => outcome(Err(&error)),
        }
    }

    /// Asks whether the topic could be made; one that is there is not made again.
    fn create(&self, topic: &str) -> Tried {
        let replication = TopicReplication::Fixed(self.settings.topics.replication);
        let topic = NewTopic::new(topic, 1, replication);
        let admin = match &self.admin {
            Ok(admin) => admin,
            Err(reason) => return Tried::Untried(reason.clone()),
        };
        let asked = admin.create_topics([&topic], &options().validate_only(true));
        match self.runtime.block_on(asked) {
            Ok(results) => match results.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Tried::Allowed,
                Some(Err((_, code))) => outcome(Err(&KafkaError::AdminOp(code))),
                _ => Tried::Allowed,
            },
            Err(error) => outcome(Err(&error)),
        }
    }

    /// Asks for an offset of the group, which it is not joined for.
    fn group(&self) -> Tried {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.settings.topics.names.raw(), 0);
        let asked = ask(&self.consumer, |consumer| {
            consumer.committed_offsets(list, TIMEOUT)
        });
        match asked {
            Err(_) if self.consumer.context().is_group_refused() => Tried::Refused,
            asked => outcome(asked.as_ref().map(|_| ())),
        }
    }
}

fn missing() -> Tried {
    Tried::Untried("the topic is missing".to_owned())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT))
}

fn outcome(result: Result<(), &KafkaError>) -> Tried {
    let Err(error) = result else {
        return Tried::Allowed;
    };
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        _ => error.rdkafka_error_code(),
    };
    match code {
        Some(code) if is_refusal(code) => Tried::Refused,
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => missing(),
        _ => Tried::Untried(error.to_string()),
    }
}
