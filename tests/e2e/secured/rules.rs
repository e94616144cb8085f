//! With exactly the rules that are required an event goes through; each of them that lacks is named.

use serde_json::Value;
use sluice_schemas::acl::{Acl, Operation, Resource, Who, redrive_groups, required};
use sluice_schemas::settings::Settings;
use sluice_service::EXIT_CONFIG;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::offsets;
use sluice_service::kafka::read::{Isolation, read, topics_with_prefix};
use sluice_service::kafka::topics::{Which, ensure};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::{NODE, Secured, load, one_event, scram, source};
use crate::ctl::Ran;
use crate::harness::Running;
use crate::refusals::signed;

/// How a log names a rule that lacks.
fn named(rule: &Acl) -> String {
    match &rule.resource {
        // The rule is for all names that begin so, and the log names one.
        Resource::TransactionalId(name) => format!("Kafka refuses transactional id {name}p0.0:"),
        resource => format!(
            "Kafka refuses {resource}: the principal lacks {} (",
            rule.operation.name()
        ),
    }
}

/// Whether its lack ends the start of a service.
fn ends_the_start(rule: &Acl, service: usize) -> bool {
    match (&rule.resource, rule.operation) {
        (Resource::Topic(_), Operation::Read | Operation::DescribeConfigs)
        | (Resource::Group(_), _) => true,
        // Without it ingest does not see the topic.
        (Resource::Topic(_), Operation::Write) => service == 0,
        _ => false,
    }
}

fn wait_named(service: &Service, rule: &Acl) {
    let found = service.wait_log(&named(rule), PATIENCE);
    found.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn each_rule_that_lacks_is_named_at_the_start_and_while_the_services_run() {
    let secured = scram("secured-rules");
    for service in [0, 1] {
        for rule in secured.rules(service) {
            if !ends_the_start(&rule, service) {
                continue;
            }
            secured.remove(service, &rule);
            let mut process = secured.start(service);
            let status = process.wait_end().expect("an end");
            assert_eq!(status.code(), Some(EXIT_CONFIG), "{rule}");
            let log = process.log().expect("a log");
            let line = named(&rule);
            assert!(log.contains(&line), "{line}\n{log}");
            secured.add(service, &rule);
        }
    }
    while_they_run(secured);
}

/// The settings with a user that may do nothing yet.
pub fn as_operator(secured: &Secured, user: &str) -> Value {
    NODE.1.scram(user, "operator").expect("a user");
    secured.write("operator-username", user);
    secured.write("operator-password", "operator");
    let settings = secured.settings(0).to_string();
    serde_json::from_str(&settings.replace("ingest-", "operator-")).expect("settings")
}

/// The operator's tools read in the name of the processor's group, with their own principal.
#[test]
fn the_operator_reads_all_topics_and_offsets_with_the_rules_of_a_reader() {
    let secured = scram("secured-operator");
    let names = secured.site.names();
    let operator = "secured-operator";
    let written = as_operator(&secured, operator);
    let settings = load(&secured.site, "operator", &written);
    for rule in required(&settings, Who::Operator) {
        NODE.1.add(operator, &rule).expect("a rule");
    }
    let mut running = secured.run();
    one_event(&mut running, 1);
    let (source, event) = source(&running);
    let stale = source.signed(event, 2, now() - 1_000_000);
    running.accept(&stale.expect("a request"));
    running.wait_caught_up();

    let group = settings.group_id();
    let mut base = base_config(&settings).expect("properties");
    base.set("group.id", &group);
    let topics = topics_with_prefix(&base, &names.prefix).expect("names");
    let records = read(&base, &topics, Isolation::Committed, PATIENCE).expect("records");
    let raw = names.raw();
    assert!(records.iter().any(|record| record.topic == raw));
    let at = offsets::committed(&base, &group, &raw, PATIENCE).expect("offsets");
    let ends = offsets::ends(&base, &raw, PATIENCE).expect("ends");
    assert_eq!(at.iter().flatten().sum::<i64>(), ends.iter().sum::<i64>());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let seen = runtime.block_on(ensure(&settings, Which::All));
    seen.expect("all topics are as they must be");
    the_command_line_reads_and_names_what_it_may_not(&running, &written, operator);
    running.finish(&[]);
}

/// `sluicectl` with the operator's principal: all is read, and a rule that lacks is named.
fn the_command_line_reads_and_names_what_it_may_not(
    running: &Running,
    settings: &Value,
    operator: &str,
) {
    let ctl = |arguments: &[&str]| crate::ctl::run(&running.site, settings, arguments);
    let found = ctl(&["find", "nobody"]);
    assert_eq!(found.status, Some(1), "{}", found.err);
    assert!(!found.err.contains("not read"), "{}", found.err);
    let redriven = ctl(REDRIVE);
    assert_eq!(redriven.status, Some(0), "{}", redriven.err);
    let planned = ctl(&["topics", "plan"]);
    assert_eq!(planned.status, Some(0), "{}{}", planned.out, planned.err);
    let settings = load(&running.site, "operator", settings);
    for (rule, command) in rules_and_commands(running, &settings) {
        NODE.1.remove(operator, &rule).expect("a rule less");
        wait_for(&format!("{rule} to be named"), PATIENCE, || {
            let ran = ctl(command);
            Ok((ran.status == Some(1) && is_named(&ran, &rule)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{command:?}: {error:#}: {}", ctl(command).err));
        NODE.1.add(operator, &rule).expect("a rule");
        wait_for("the rule to be in force", PATIENCE, || {
            Ok((!is_named(&ctl(command), &rule)).then_some(()))
        })
        .expect("a rule in force");
    }
    // The last one: with it, the stale request would stand on raw twice.
    let raw = Resource::Topic(running.names().raw());
    let write = Acl::literal(raw, Operation::Write);
    NODE.1.remove(operator, &write).expect("a rule less");
    wait_for("WRITE on raw to be named", PATIENCE, || {
        let ran = ctl(&["rejected", "redrive", "--all", "--reason=timestamp_stale"]);
        Ok((ran.status == Some(1) && is_named(&ran, &write)).then_some(()))
    })
    .expect("a refusal");
}

/// Whether a line says which rule lacks. Of a topic's settings the client drops the refusal, so that the line
/// says what may lack.
pub fn is_named(ran: &Ran, rule: &Acl) -> bool {
    let wanted = named(rule);
    let may_lack = format!("may lack {}", rule.operation.name());
    let says = |line: &str| {
        let is_of_it = matches!(&rule.resource, Resource::Topic(name) if line.contains(name));
        line.contains(&wanted) || (is_of_it && line.contains(&may_lack))
    };
    ran.err.lines().chain(ran.out.lines()).any(says)
}

/// Each kind of rule that the operator has, with a command that needs it.
fn rules_and_commands(
    running: &Running,
    settings: &Settings,
) -> Vec<(Acl, &'static [&'static str])> {
    const AUDIT: &[&str] = &["audit"];
    let names = running.names();
    let (source, event) = source(running);
    let event = source.topic(&names, event).expect("a topic");
    let on = |topic: String, operation| Acl::literal(Resource::Topic(topic), operation);
    let group = Resource::Group(settings.group_id());
    vec![
        (redrive_groups(settings), REDRIVE),
        (Acl::literal(group, Operation::Describe), AUDIT),
        (on(names.raw(), Operation::Read), AUDIT),
        (on(event, Operation::Read), AUDIT),
        (on(names.duplicates(), Operation::Read), AUDIT),
        (on(names.rejected(), Operation::Read), &["rejected", "list"]),
        (
            on(names.dead_letter(), Operation::Read),
            &["dead-letters", "list"],
        ),
        (
            on(names.raw(), Operation::DescribeConfigs),
            &["topics", "plan"],
        ),
    ]
}

/// Nothing to be sent, and its progress is kept all the same.
const REDRIVE: &[&str] = &["rejected", "redrive", "--reason=token_missing"];

fn while_they_run(secured: Secured) {
    let [ingest, processor] = [0, 1].map(|service| secured.rules(service));
    let principals = secured.principals.clone();
    let (ingest_name, processor_name) = (&principals[0], &principals[1]);
    let rules = &NODE.1;
    let mut running = secured.run();
    one_event(&mut running, 1);

    // Ingest may not write any more.
    let (source, event) = source(&running);
    let write = |rule: &&Acl| rule.operation == Operation::Write;
    let rule = ingest.iter().find(write).expect("a rule");
    rules.remove(ingest_name, rule).expect("a rule less");
    let request = source.signed(event, 2, now()).expect("a request");
    wait_for("a 503", PATIENCE, || {
        Ok((running.post(&request).status == 503).then_some(()))
    })
    .expect("a refusal");
    wait_named(&running.ingest, rule);
    rules.add(ingest_name, rule).expect("a rule");
    wait_for("a 200", PATIENCE, || {
        Ok((running.post(&request).status == 200).then_some(()))
    })
    .expect("it writes again");

    // The processor may not write to any topic; each is allowed again when it is named.
    running.wait_caught_up();
    let is_topic = |rule: &&Acl| matches!(rule.resource, Resource::Topic(_)) && write(rule);
    let outputs: Vec<&Acl> = processor.iter().filter(is_topic).collect();
    for rule in &outputs {
        rules.remove(processor_name, rule).expect("a rule less");
    }
    for request in one_of_each_fate(&running) {
        running.accept(&request);
    }
    let mut lacking = outputs;
    wait_for("the name of each topic", PATIENCE, || {
        let log = running.processor.log()?;
        let is_named = |rule: &&Acl| log.contains(&named(rule));
        for rule in lacking.extract_if(.., |rule| is_named(rule)) {
            rules.add(processor_name, rule)?;
        }
        Ok(lacking.is_empty().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {lacking:?}"));
    running.wait_caught_up();

    // What it reads, and the group; and the transactional id, which a commit needs.
    for rule in &processor {
        let (resource, operation) = (&rule.resource, rule.operation);
        let is_raw = *resource == Resource::Topic(running.names().raw());
        let at_run_time = match resource {
            Resource::Group(_) | Resource::TransactionalId(_) => true,
            _ => is_raw && operation == Operation::Read,
        };
        if !at_run_time {
            continue;
        }
        rules.remove(processor_name, rule).expect("a rule less");
        let request = source.signed(event, 100, now()).expect("a request");
        running.accept(&request);
        wait_named(&running.processor, rule);
        rules.add(processor_name, rule).expect("a rule");
        running.wait_caught_up();
    }
    running.finish(&["WARN", "ERROR", "Kafka refuses"]);
}

/// Requests that come to all topics of fates.
fn one_of_each_fate(running: &Running) -> Vec<Outgoing> {
    let (source, event) = source(running);
    let sample = |event: &str, n, at| source.signed(event, n, at).expect("a request");
    let twice = sample(event, 10, now());
    let mut all = vec![
        twice.clone(),
        twice,
        sample("strange.type", 11, now()),
        sample(event, 12, now() - 1_000_000),
        signed(&source, &[], "no JSON"),
    ];
    let events = source.samples().expect("samples").iter();
    all.extend(events.zip(20..).map(|(event, n)| sample(event, n, now())));
    all
}
