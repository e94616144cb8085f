//! `sluicectl referralloop` on real Kafka: the provider has what the settings want, and the topic the ids.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::process::find;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::ctl::{Ran, run, written};
use crate::harness::site;

#[path = "../../processor/ctl/tests/support/provider_api.rs"]
pub mod provider_api;

use provider_api::{Fault, KEY, Server};

const URL: &str = "https://hooks.example.com/v1/hooks/my-referralloop/t0ken";

/// A site whose source is to be subscribed, and the provider.
struct World {
    site: Site,
    server: Server,
}

impl World {
    fn new() -> Self {
        let mut site = site("subscriptions");
        for (file, content) in [("loop-url", URL), ("loop-key", KEY)] {
            let path = site.dir().join("secrets").join(file);
            std::fs::write(path, format!("{content}\n")).expect("a file");
        }
        let subscribe = json!({
            "events": ["signup.created", "signup.deleted"], "waitlists": ["w-1"],
            "target_url_file": "loop-url", "api_key_file": "loop-key",
        });
        site.set(
            &["sources", "my-referralloop", "options", "subscribe"],
            subscribe,
        );
        let server = Server::start();
        Self { site, server }
    }

    #[track_caller]
    fn ended(&self, arguments: &[&str], status: i32) -> Ran {
        let mut all = vec!["referralloop"];
        all.extend(arguments);
        all.extend(["--json", "--api-url", &self.server.url]);
        let ran = run(&self.site, &self.site.settings, &all);
        assert_eq!(
            ran.status,
            Some(status),
            "{all:?}\n{}\n{}",
            ran.out,
            ran.err
        );
        for secret in [URL, "t0ken", KEY] {
            assert!(
                !ran.out.contains(secret) && !ran.err.contains(secret),
                "{}",
                ran.err
            );
        }
        ran
    }

    /// State and id of each line.
    #[track_caller]
    fn lines(&self, arguments: &[&str], status: i32) -> Vec<String> {
        let lines = self.ended(arguments, status).objects();
        let text = |line: &Value, name: &str| line[name].as_str().unwrap_or("-").to_owned();
        let line = |line: &Value| format!("{} {}", text(line, "state"), text(line, "id"));
        lines.iter().map(line).collect()
    }

    /// Keys and values of the topic, in their order.
    fn records(&self) -> Vec<(String, Vec<u8>)> {
        let topic = self.site.names().subscriptions();
        let records = read(self.site.bootstrap(), &[topic], Isolation::Committed).expect("records");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        records
            .into_iter()
            .map(|one| (text(one.key), one.value))
            .collect()
    }
}

#[test]
fn the_provider_has_what_the_settings_want_and_the_topic_the_ids() {
    let world = World::new();
    let missing = world.ended(&["sync"], 1);
    assert!(
        missing.err.contains("sluicectl topics apply"),
        "{}",
        missing.err
    );
    let applied = run(&world.site, &world.site.settings, &["topics", "apply"]);
    assert_eq!(applied.status, Some(0), "{}{}", applied.out, applied.err);
    applied.line(&[
        "done",
        "webhooks.subscriptions: made: 1 partitions",
        "compact",
    ]);

    assert_eq!(
        world.lines(&["sync", "--dry-run"], 1),
        ["subscribe -", "subscribe -"]
    );
    assert_eq!((world.server.count(), world.records().len()), (0, 0));
    assert_eq!(
        world.lines(&["sync"], 0),
        ["subscribed sub_1", "subscribed sub_2"]
    );
    assert_eq!(world.lines(&["sync"], 0), ["ok sub_1", "ok sub_2"]);
    assert_eq!((world.server.count(), world.records().len()), (2, 4));
    let (key, value) = world.records().remove(1);
    let value: Value = serde_json::from_slice(&value).expect("JSON");
    assert_eq!((&value["v"], &value["id"]), (&json!(1), &json!("sub_1")));
    let hash = value["target_url_sha256"].as_str().expect("a hash");
    assert_eq!(key, format!("my-referralloop/signup.created/w-1/{hash}"));
    assert_eq!(hash.len(), 64);

    let only = [
        "unsubscribe",
        "my-referralloop",
        "--event",
        "signup.created",
    ];
    assert_eq!(world.lines(&only, 0), ["unsubscribed sub_1"]);
    assert_eq!(
        world.records().last(),
        Some(&(key, Vec::new())),
        "a tombstone"
    );
    what_is_killed_is_mended(&world);
    the_provider_asks_to_wait(&world);
    a_source_that_is_gone(world);
}

/// Killed while the provider has it and nobody knows.
fn what_is_killed_is_mended(world: &World) {
    world.server.state().says_id = true;
    world.server.faults([Fault::Slow(Duration::from_secs(600))]);
    let calls = world.server.count();
    let mut child = Command::new(find("sluicectl").expect("the binary"))
        .arg("--config")
        .arg(written(&world.site, &world.site.settings))
        .args([
            "referralloop",
            "sync",
            "--timeout",
            "10m",
            "--patience",
            "10m",
            "--api-url",
        ])
        .arg(&world.server.url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let called = || Ok((world.server.count() > calls).then_some(()));
    wait_for("the call", PATIENCE, called).expect("it calls");
    child.kill().expect("a kill");
    child.wait().expect("it ends");
    assert_eq!(
        world.server.state().subscriptions.len(),
        2,
        "the provider has it"
    );
    assert_eq!(
        world.lines(&["sync", "--dry-run"], 1),
        ["subscribe -", "ok sub_2"]
    );
    assert_eq!(world.lines(&["sync"], 0), ["there sub_3", "ok sub_2"]);
    assert_eq!(world.lines(&["sync"], 0), ["ok sub_3", "ok sub_2"]);
}

fn the_provider_asks_to_wait(world: &World) {
    let body = "{\"reset_at\": \"2999-01-01T00:00:00Z\"}".to_owned();
    world.server.faults([Fault::Answer(429, "x-none: 1", body)]);
    let waits = world.ended(&["unsubscribe", "my-referralloop"], 75);
    assert!(
        waits.err.contains("429") && waits.err.contains("--patience"),
        "{}",
        waits.err
    );
    world
        .server
        .faults([Fault::Answer(401, "x-none: 1", String::new())]);
    let refused = world.ended(&["unsubscribe", "my-referralloop"], 78);
    assert!(refused.err.contains("the file loop-key"), "{}", refused.err);
}

/// The settings have the source no more, and so no key for what is to be deleted.
fn a_source_that_is_gone(mut world: World) {
    world
        .site
        .set(&["sources", "my-referralloop", "options"], json!({}));
    assert_eq!(world.lines(&["sync"], 1), ["failed sub_3", "failed sub_2"]);
    let gone = ["sync", "--api-key-file", "loop-key"];
    assert_eq!(
        world.lines(&gone, 0),
        ["unsubscribed sub_3", "unsubscribed sub_2"]
    );
    assert_eq!(world.server.state().subscriptions.len(), 0);
    assert!(world.lines(&gone, 0).is_empty());
    world.ended(&["subscribe", "my-referralloop"], 2);
}
