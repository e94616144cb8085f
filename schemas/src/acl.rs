//! The rules of Kafka's authorizer that each process needs: what `sluicectl check` looks for, what the chart
//! grants, and how a rule that lacks is named in a log line.
//!
//! Only rules that nothing else implies: READ and WRITE allow DESCRIBE too.

use std::fmt;

use crate::settings::Settings;

/// What a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A topic by its full name.
    Topic(String),
    /// A consumer group by its full name.
    Group(String),
    /// A transactional id, or what its name begins with.
    TransactionalId(String),
    /// The cluster itself.
    Cluster,
}

/// How the resource's name is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// This name alone.
    Literal,
    /// All names that begin with it.
    Prefixed,
}

/// What a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// To fetch records; to join a group and to commit its offsets.
    Read,
    /// To write records; to use a transactional id.
    Write,
    /// To make a topic.
    Create,
    /// To see a resource.
    Describe,
    /// To see a topic's settings.
    DescribeConfigs,
    /// To give a topic more partitions.
    Alter,
    /// To change a topic's settings.
    AlterConfigs,
    /// To write records with an idempotent producer, where brokers are older than 2.8.
    IdempotentWrite,
}

/// One rule that allows something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// What it speaks of.
    pub resource: Resource,
    /// How the name is meant.
    pub pattern: Pattern,
    /// What it allows.
    pub operation: Operation,
}

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// `sluice-ingest`.
    Ingest,
    /// `sluice-processor`.
    Processor,
    /// Who reads topics and offsets with `sluicectl`, in the name of the processor's group, which it never
    /// joins. Redrives records: writes to raw, with its progress in groups of its own. Writes to the topic of
    /// subscriptions.
    Operator,
}

/// Every rule that a process needs under these settings.
pub fn required(settings: &Settings, who: Who) -> Vec<Acl> {
    let names = &settings.topics.names;
    let topic = |name: &String, operation| Acl::literal(Resource::Topic(name.clone()), operation);
    let (raw, log) = (names.raw(), names.dedup_log());
    let mut fates = vec![names.duplicates(), names.rejected(), names.dead_letter()];
    fates.extend(settings.event_topics());
    let group = || Resource::Group(settings.group_id());
    let mut rules = Vec::new();
    let mut topics = vec![raw.clone()];
    match who {
        Who::Ingest => rules.push(topic(&raw, Operation::Write)),
        Who::Processor => {
            // One rule for all members and workers, whose names begin so.
            let ids = format!("{}.", settings.group_id());
            rules.extend([
                Acl::literal(group(), Operation::Read),
                Acl {
                    resource: Resource::TransactionalId(ids),
                    pattern: Pattern::Prefixed,
                    operation: Operation::Write,
                },
                topic(&raw, Operation::Read),
            ]);
            topics.extend([log].into_iter().chain(fates));
            for output in &topics[1..] {
                // What a worker wrote it reads: the log to restore, the fates to audit.
                rules.extend([Operation::Read, Operation::Write].map(|may| topic(output, may)));
            }
        }
        Who::Operator => {
            rules.extend([
                Acl::literal(group(), Operation::Describe),
                redrive_groups(settings),
                topic(&raw, Operation::Write),
            ]);
            topics.extend([log].into_iter().chain(fates));
            if settings.has_subscriptions() {
                topics.push(names.subscriptions());
                rules.push(topic(&names.subscriptions(), Operation::Write));
            }
            rules.extend(topics.iter().map(|name| topic(name, Operation::Read)));
        }
    }
    for name in &topics {
        rules.push(topic(name, Operation::DescribeConfigs));
        if settings.topics.create && who != Who::Operator {
            rules.push(topic(name, Operation::Create));
        }
    }
    rules
}

/// One rule for the groups in which redrives keep their progress.
pub fn redrive_groups(settings: &Settings) -> Acl {
    Acl {
        resource: Resource::Group(format!("{}.redrive.", settings.group_id())),
        pattern: Pattern::Prefixed,
        operation: Operation::Read,
    }
}

impl Acl {
    /// A rule about this name alone.
    pub fn literal(resource: Resource, operation: Operation) -> Self {
        Self {
            resource,
            pattern: Pattern::Literal,
            operation,
        }
    }
}

impl Acl {
    /// Whether it is one of those that let this topic be seen.
    pub fn lets_see(&self, topic: &str) -> bool {
        let seen = matches!(
            self.operation,
            Operation::Read | Operation::Write | Operation::Describe
        );
        seen && matches!(&self.resource, Resource::Topic(name) if name == topic)
    }
}

impl Operation {
    /// The name, as Kafka's pages have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Create => "CREATE",
            Self::Describe => "DESCRIBE",
            Self::DescribeConfigs => "DESCRIBE_CONFIGS",
            Self::Alter => "ALTER",
            Self::AlterConfigs => "ALTER_CONFIGS",
            Self::IdempotentWrite => "IDEMPOTENT_WRITE",
        }
    }

    /// The name as Kafka's command line and Strimzi take it.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Describe => "Describe",
            Self::DescribeConfigs => "DescribeConfigs",
            Self::Alter => "Alter",
            Self::AlterConfigs => "AlterConfigs",
            Self::IdempotentWrite => "IdempotentWrite",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::TransactionalId(name) => write!(f, "transactional id {name}"),
            Self::Cluster => f.write_str("the cluster"),
        }
    }
}

/// What lacks, and the command that grants it.
impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the principal lacks ", self.resource)?;
        write!(f, "{} (kafka-acls --add", self.operation.name())?;
        match &self.resource {
            Resource::Topic(name) => write!(f, " --topic {name}")?,
            Resource::Group(name) => write!(f, " --group {name}")?,
            Resource::TransactionalId(name) => write!(f, " --transactional-id {name}")?,
            Resource::Cluster => f.write_str(" --cluster")?,
        }
        if self.pattern == Pattern::Prefixed {
            f.write_str(" --resource-pattern-type prefixed")?;
        }
        write!(f, " --operation {})", self.operation.argument())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::Environment;

    fn lines(yaml: &str, who: Who) -> Vec<String> {
        let environment = Environment {
            member: Some("m"),
            property_fault: &|_, _| None,
        };
        let settings = Settings::parse(Path::new("f"), yaml.as_bytes(), &environment);
        let rules = required(&settings.expect("good settings"), who);
        let rules = rules.iter();
        rules
            .map(|rule| format!("{} {}", rule.resource, rule.operation.name()))
            .collect()
    }

    const SETTINGS: &str = "{kafka: {bootstrap_servers: b}, topics: {prefix: eu., CREATE}, \
                            sources: {s: {provider: flock, secrets: [x]}}}";

    #[test]
    fn each_service_needs_its_rules_and_the_right_to_make_topics_only_where_it_makes_them() {
        let verify = SETTINGS.replace("CREATE", "create: false");
        let ingest = [
            "topic eu.webhooks.raw WRITE",
            "topic eu.webhooks.raw DESCRIBE_CONFIGS",
        ];
        assert_eq!(lines(&verify, Who::Ingest), ingest);
        let processor = lines(&verify, Who::Processor);
        for rule in [
            "group eu.sluice-processor READ",
            "transactional id eu.sluice-processor. WRITE",
            "topic eu.webhooks.raw READ",
            "topic eu.webhooks.dedup-log READ",
            "topic eu.webhooks.rejected WRITE",
            "topic eu.events.flock.other WRITE",
            "topic eu.events.flock.other DESCRIBE_CONFIGS",
        ] {
            let found = processor.iter().filter(|found| *found == rule).count();
            assert_eq!(found, 1, "{rule}: {processor:?}");
        }
        let all = |who| lines(&verify, who).join("\n");
        assert!(!all(Who::Processor).contains("webhooks.raw WRITE"));
        let operator = lines(&verify, Who::Operator);
        let writes = operator.iter().filter(|rule| rule.contains("WRITE"));
        assert_eq!(writes.collect::<Vec<_>>(), ["topic eu.webhooks.raw WRITE"]);
        assert!(operator.contains(&"group eu.sluice-processor.redrive. READ".to_owned()));
        assert!(!all(Who::Processor).contains("CREATE"));
        let create = SETTINGS.replace("CREATE", "create: true");
        for who in [Who::Ingest, Who::Processor] {
            assert!(lines(&create, who).contains(&"topic eu.webhooks.raw CREATE".to_owned()));
        }
        assert!(!lines(&create, Who::Operator).join("\n").contains("CREATE"));
    }

    #[test]
    fn the_operator_alone_writes_subscriptions_and_only_where_a_source_has_some() {
        let source = "w: {provider: referralloop, token_sha256: ['HASH'], options: {subscribe: \
                      {events: [e], waitlists: [w], target_url_file: u, api_key_file: k}}}";
        let source = source.replace("HASH", &"0".repeat(64));
        let with = SETTINGS.replace("sources: {", &format!("sources: {{{source}, "));
        let with = with.replace("CREATE", "create: true");
        for who in [Who::Ingest, Who::Processor] {
            let rules = lines(&with, who).join("\n");
            assert!(!rules.contains("webhooks.subscriptions"), "{rules}");
        }
        let rules = lines(&with, Who::Operator);
        for operation in ["READ", "WRITE", "DESCRIBE_CONFIGS"] {
            let rule = format!("topic eu.webhooks.subscriptions {operation}");
            assert!(rules.contains(&rule), "{rules:?}");
        }
        let written = rules.iter().filter(|rule| rule.ends_with(" WRITE"));
        assert_eq!(written.count(), 2, "with raw, for redrives: {rules:?}");
    }

    #[test]
    fn a_rule_that_lacks_comes_with_the_command_that_grants_it() {
        let topic = Resource::Topic("webhooks.raw".to_owned());
        assert_eq!(
            Acl::literal(topic, Operation::DescribeConfigs).to_string(),
            "topic webhooks.raw: the principal lacks DESCRIBE_CONFIGS (kafka-acls --add \
             --topic webhooks.raw --operation DescribeConfigs)"
        );
        let ids = Acl {
            resource: Resource::TransactionalId("p.".to_owned()),
            pattern: Pattern::Prefixed,
            operation: Operation::Write,
        };
        assert_eq!(
            ids.to_string(),
            "transactional id p.: the principal lacks WRITE (kafka-acls --add \
             --transactional-id p. --resource-pattern-type prefixed --operation Write)"
        );
    }
}
