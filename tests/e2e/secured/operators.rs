//! Topics that the operator alone writes, the subscriptions and the shadows of a replay: with their rules the
//! commands do their work, and each rule that lacks is named.

use serde_json::{Value, json};
use sluice_schemas::acl::{Acl, Operation, Pattern, Resource, Who, required};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::rules::{as_operator, is_named};
use super::{NODE, Secured, load, scram};
use crate::ctl::run;
use crate::subscriptions::provider_api::{KEY, Server};

const OPERATOR: &str = "secured-own-topics";

fn on(topic: &str, operation: Operation) -> Acl {
    Acl::literal(Resource::Topic(topic.to_owned()), operation)
}

/// Runs the command until it names the rule, which was taken away; with it the command ends well.
#[track_caller]
fn is_refused_without(secured: &Secured, settings: &Value, rule: &Acl, command: &[&str]) {
    NODE.1.remove(OPERATOR, rule).expect("a rule less");
    let ctl = || run(&secured.site, settings, command);
    wait_for(&format!("{rule} to be named"), PATIENCE, || {
        let ran = ctl();
        Ok((ran.status == Some(1) && is_named(&ran, rule)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{command:?}: {error:#}: {}{}", ctl().out, ctl().err));
    NODE.1.add(OPERATOR, rule).expect("a rule");
    wait_for("the rule to be in force", PATIENCE, || {
        Ok((ctl().status == Some(0)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{command:?}: {error:#}: {}{}", ctl().out, ctl().err));
}

#[test]
fn rules_of_the_subscriptions_and_of_shadow_topics_are_named_where_they_lack() {
    let secured = scram("secured-own-topics");
    let server = Server::start();
    secured.write(
        "loop-url",
        "https://hooks.example.com/v1/hooks/waitlist/t0ken",
    );
    secured.write("loop-key", KEY);
    let mut settings = as_operator(&secured, OPERATOR);
    settings["sources"]["waitlist"] = json!({
        "provider": "referralloop",
        "token_sha256": ["0".repeat(64)],
        "options": {"subscribe": {
            "events": ["signup.created"], "waitlists": ["w-1"],
            "target_url_file": "loop-url", "api_key_file": "loop-key",
        }},
    });
    for rule in required(&load(&secured.site, "own", &settings), Who::Operator) {
        NODE.1.add(OPERATOR, &rule).expect("a rule");
    }
    // By somebody with more rights.
    let mut all = secured.site.settings.clone();
    all["sources"] = settings["sources"].clone();
    let applied = run(&secured.site, &all, &["topics", "apply"]);
    assert_eq!(applied.status, Some(0), "{}{}", applied.out, applied.err);

    let names = secured.site.names();
    let topic = names.subscriptions();
    let to = format!("--api-url={}", server.url);
    let sync = ["referralloop", "sync", &to];
    let end = ["referralloop", "unsubscribe", "waitlist", &to];
    is_refused_without(&secured, &settings, &on(&topic, Operation::Read), &sync);
    is_refused_without(&secured, &settings, &on(&topic, Operation::Write), &end);
    is_refused_without(
        &secured,
        &settings,
        &on(&topic, Operation::DescribeConfigs),
        &["topics", "plan"],
    );
    shadows(&secured, &settings);
}

/// No role has the rules of shadow topics.
fn shadows(secured: &Secured, settings: &Value) {
    let into = format!("shadow-{OPERATOR}.");
    let command = ["replay", "--since=1h", "--into", &into];
    let under = |operation| Acl {
        resource: Resource::Topic(into.clone()),
        pattern: Pattern::Prefixed,
        operation,
    };
    let ran = || run(&secured.site, settings, &command);
    let names = |operation: Operation| {
        let line = format!("the principal lacks {}", operation.name());
        wait_for(&line, PATIENCE, || {
            let ran = ran();
            let is_named = ran.err.contains(&into) && ran.err.contains(&line);
            Ok((ran.status == Some(1) && is_named).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}{}", ran().out, ran().err));
    };
    names(Operation::Create);
    NODE.1
        .add(OPERATOR, &under(Operation::Create))
        .expect("a rule");
    names(Operation::Write);
    NODE.1
        .add(OPERATOR, &under(Operation::Write))
        .expect("a rule");
    wait_for("the rules to be in force", PATIENCE, || {
        Ok((ran().status == Some(0)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}{}", ran().out, ran().err));
}
