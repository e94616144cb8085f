//! `sluicectl` against real services and real Kafka: what it sends and where it finds it, and what its check
//! says of a good installation and of broken ones.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use sluice_service::EXIT_CONFIG;
use sluice_tests::harness::cluster::{Cluster, Denied, Options};
use sluice_tests::harness::deployment::{Site, Source};
use sluice_tests::harness::offsets;
use sluice_tests::harness::ports;
use sluice_tests::harness::process::find;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::{Running, site};

/// How a run of `sluicectl` ended, and what it wrote to standard output.
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The objects of `--json`.
    pub fn objects(&self) -> Vec<Value> {
        let object = |line| serde_json::from_str(line).expect("JSON");
        self.out.lines().map(object).collect()
    }

    /// The first line that has all of these texts.
    #[track_caller]
    pub fn line(&self, texts: &[&str]) -> &str {
        let has_all = |line: &&str| texts.iter().all(|text| line.contains(text));
        let found = self.out.lines().find(has_all);
        found.unwrap_or_else(|| panic!("no line has {texts:?}:\n{}\n{}", self.out, self.err))
    }
}

/// Writes settings next to those of the site.
pub fn written(site: &Site, settings: &Value) -> PathBuf {
    let file = site.dir().join("ctl.yaml");
    let content = serde_json::to_vec(settings).expect("JSON");
    std::fs::write(&file, content).expect("the settings");
    file
}

/// Runs `sluicectl` under these settings to its end.
pub fn run(site: &Site, settings: &Value, arguments: &[&str]) -> Ran {
    let output = Command::new(find("sluicectl").expect("the binary"))
        .arg("--config")
        .arg(written(site, settings))
        .args(arguments)
        .output()
        .expect("a process");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        status: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Runs `sluicectl send` for a source, with its token where it has one.
fn send(running: &Running, source: &Source, arguments: &[&str]) -> Ran {
    let site = &running.site;
    let url = format!("http://{}", site.listen());
    let token = site.dir().join("token").display().to_string();
    let mut all = vec!["send", &source.name, "--url", &url];
    if let Some(content) = &source.token {
        std::fs::write(&token, format!("{content}\n")).expect("the token");
        all.extend(["--token-file", &token]);
    }
    all.extend(arguments);
    run(site, &site.settings, &all)
}

#[track_caller]
fn only(ran: &Ran, status: i32) -> Value {
    assert_eq!(ran.status, Some(status), "{}\n{}", ran.out, ran.err);
    let objects = ran.objects();
    assert_eq!(objects.len(), 1, "{}", ran.out);
    objects.into_iter().next().expect("one")
}

#[test]
fn what_is_sent_is_found_with_the_fate_that_it_must_have() {
    let running = Running::start("ctl-send");
    for source in running.site.sources.clone() {
        let provider = source.provider().expect("a provider");
        let sent = only(&send(&running, &source, &["--wait", "--json"]), 0);
        assert_eq!(sent["fate"], "event", "{sent}");
        let event = sent["event"].as_str().expect("a type");
        let topic = source.topic(&running.names(), event).expect("a topic");
        assert_eq!(sent["topic"], topic, "{sent}");

        let forged = only(
            &send(&running, &source, &["--forge", "--wait", "--json"]),
            0,
        );
        assert_eq!(
            (&forged["fate"], &forged["reason"]),
            (&json!("rejected"), &json!("signature_mismatch")),
            "{forged}"
        );
        let stale = only(
            &send(&running, &source, &["--stale", "--wait", "--json"]),
            0,
        );
        let (fate, reason) = if provider.sender().grows_old() {
            ("rejected", json!("timestamp_stale"))
        } else {
            ("event", Value::Null)
        };
        assert_eq!(
            (&stale["fate"], &stale["reason"]),
            (&json!(fate), &reason),
            "{stale}"
        );
    }

    let flock = running.source("flock");
    let event = "referral.accepted";
    let three = send(&running, &flock, &[event, "--count", "3", "--wait", "30s"]);
    assert_eq!(three.status, Some(0), "{}{}", three.out, three.err);
    let topic = format!("event on {}/", running.names().event("flock", event));
    assert_eq!(three.out.matches(&topic).count(), 3, "{}", three.out);

    let unknown = send(&running, &flock, &["no.such.event"]);
    assert_eq!((unknown.status, unknown.out.as_str()), (Some(2), ""));
    assert!(unknown.err.contains("campaign.launched"), "{}", unknown.err);
    let waitlist = running.source("referralloop");
    let bare = ["send", &waitlist.name];
    let tokenless = run(&running.site, &running.site.settings, &bare);
    assert_eq!(tokenless.status, Some(2));
    assert!(tokenless.err.contains("--token-file"), "{}", tokenless.err);
    let nowhere = format!("http://{}", ports::local(ports::free().expect("a port")));
    let away = ["send", &flock.name, "--url", &nowhere];
    let away = run(&running.site, &running.site.settings, &away);
    assert_eq!(away.status, Some(75), "{}", away.out);
    away.line(&["FAIL", &flock.name, "Connection refused"]);

    // The newest raw record has both clocks.
    let checked = run(&running.site, &running.site.settings, &["check"]);
    assert_eq!(checked.status, Some(0), "{}{}", checked.out, checked.err);
    checked.line(&[
        "ok",
        "clock",
        &running.names().raw(),
        "after ingest received it",
    ]);

    // Nobody joined the services' group, and all that was sent has one fate.
    running.finish(&[]);
}

#[test]
fn headers_that_a_source_requires_are_demanded_and_sent() {
    let mut site = site("ctl-headers");
    let source = site.source("flock").expect("a source").clone();
    let hash = "f5e72dd4c8f2e9cdbc3fe6f1c30e1bf3b6bb2bd1a2d6f6c4cbf6b1d1d4a5c2ee";
    site.set(
        &["sources", &source.name, "require_headers"],
        json!({"x-edge": [hash]}),
    );
    let ran = run(&site, &site.settings, &["send", &source.name]);
    assert_eq!(ran.status, Some(2), "{}", ran.out);
    assert!(ran.err.contains("--header 'x-edge: VALUE'"), "{}", ran.err);
    let wrong = ["send", &source.name, "--header", "x-edge: s3cret"];
    let ran = run(&site, &site.settings, &wrong);
    assert_eq!(ran.status, Some(2), "{}", ran.out);
    assert!(!ran.err.contains("s3cret"), "{}", ran.err);
}

/// What is broken, the check's status, and what a line of it must have.
type Broken = (&'static str, Value, i32, Vec<String>);

/// The site's settings with another value.
pub fn with(site: &Site, pointer: &str, value: Value) -> Value {
    let mut settings = site.settings.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a path");
    settings.pointer_mut(parent).expect("a mapping")[key] = value;
    settings
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// What is not there, or is ill-formed.
fn missing(site: &Site) -> Vec<Broken> {
    let flock = site.source("flock").expect("a source");
    let dead = ports::local(ports::free().expect("a port")).to_string();
    vec![
        (
            "brokers away",
            with(site, "/kafka/bootstrap_servers", json!(dead)),
            1,
            texts(&[
                "FAIL",
                "brokers",
                &dead,
                "Connection refused",
                "bootstrap_servers",
            ]),
        ),
        (
            "a missing secret",
            with(
                site,
                &format!("/sources/{}/secrets", flock.name),
                json!(["gone"]),
            ),
            1,
            texts(&["FAIL", "secrets", &flock.name, "gone is not there", "mend:"]),
        ),
        (
            "ill-formed settings",
            with(site, "/topics/partitions", json!(0)),
            EXIT_CONFIG,
            texts(&["FAIL", "settings", "topics.partitions", "must be"]),
        ),
        (
            "the registry away",
            with(
                site,
                "/schema_registry",
                json!({"url": format!("http://{dead}")}),
            ),
            1,
            texts(&["FAIL", "registry", &dead, "Connection refused", "mend:"]),
        ),
    ]
}

/// Topics that are not as they must be.
fn differing(site: &Site) -> Vec<Broken> {
    let raw = site.names().raw();
    let mut elsewhere = with(site, "/topics/prefix", json!("elsewhere."));
    elsewhere["topics"]["create"] = json!(false);
    vec![
        (
            "a missing topic",
            elsewhere,
            1,
            texts(&[
                "FAIL",
                "topics",
                "elsewhere.webhooks.raw: is missing",
                "kafka-topics.sh --bootstrap-server",
                "--create --topic elsewhere.webhooks.raw --partitions 3 --replication-factor 1",
            ]),
        ),
        (
            "a topic of another retention",
            with(site, "/topics/retention", json!({"raw": "1d"})),
            1,
            texts(&[
                "FAIL",
                "topics",
                &format!("{raw}: retention.ms is 604800000 and must be 86400000"),
                "kafka-configs.sh --bootstrap-server",
                &format!("--entity-name {raw} --add-config retention.ms=86400000"),
            ]),
        ),
        (
            "another number of partitions",
            with(site, "/topics/partitions", json!(5)),
            1,
            texts(&[
                "FAIL",
                "topics",
                &raw,
                "has 3 partitions",
                "set topics.partitions to 3",
            ]),
        ),
    ]
}

#[test]
fn a_good_installation_holds_and_what_is_broken_is_named_with_its_mend() {
    let site = site("ctl-check");
    let mut processor = site.processor("p0").expect("a process");
    processor.wait_ready().expect("topics are made");
    processor.stop().expect("an end");

    let good = run(
        &site,
        &site.settings,
        &["check", "--role", "ingest,processor,operator"],
    );
    assert_eq!(good.status, Some(0), "{}{}", good.out, good.err);
    assert!(!good.out.contains("FAIL"), "{}", good.out);
    good.line(&["ok", "brokers", "answers"]);
    good.line(&["ok", "topics", &site.names().raw(), "3 partitions"]);
    good.line(&["ok", "acls", "ingest,processor,operator"]);
    good.line(&["skip", "acls", "a try would write", "WRITE on 31 topics"]);
    good.line(&["skip", "clock", &site.names().raw()]);

    for (what, settings, status, texts) in missing(&site).into_iter().chain(differing(&site)) {
        let ran = run(&site, &settings, &["check"]);
        assert_eq!(ran.status, Some(status), "{what}:\n{}{}", ran.out, ran.err);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        ran.line(&texts);
        let json = run(&site, &settings, &["check", "--json"]);
        assert_eq!(json.status, Some(status), "{what}");
        let failed = json
            .objects()
            .into_iter()
            .filter(|one| one["state"] == "fail");
        let lines = ran.out.lines().filter(|line| line.starts_with("FAIL"));
        assert_eq!(failed.count(), lines.count(), "{what}");
    }
    // The check made no topic.
    let missing = offsets::ends(site.bootstrap(), "elsewhere.webhooks.raw");
    assert!(missing.is_err());
}

/// The check of an installation whose registry is there and has the schema under this subject.
pub fn finds_the_schema(site: &Site, subject: &str) {
    let ran = run(site, &site.settings, &["check"]);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    ran.line(&["ok", "registry", subject, "has the schema, id"]);
    ran.line(&["ok", "clock", "its clock and this host's"]);
}

#[test]
fn a_rule_that_the_principal_lacks_is_named_with_the_command_that_grants_it() {
    let options = Options {
        nodes: 1,
        authorizer: true,
        ..Options::default()
    };
    let cluster = Cluster::start_with(&options).expect("Kafka starts");
    let mut site = Site::new("ctl-acls.", &cluster.bootstrap()).expect("a site");
    let mut processor = site.processor("p0").expect("a process");
    processor.wait_ready().expect("topics are made");
    processor.stop().expect("an end");
    let topic = site.names().event("flock", "referral.accepted");
    cluster.deny(&topic, Denied::All).expect("a rule");
    site.set(&["topics", "create"], json!(false));
    let denied = || {
        let ran = run(&site, &site.settings, &["check"]);
        let lacks = format!("topic {topic}: the principal lacks READ;");
        Ok(ran.out.contains(&lacks).then_some(ran))
    };
    let ran = wait_for("the rule", PATIENCE, denied).expect("a refusal");
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    ran.line(&["FAIL", "acls", &format!("--topic {topic} --operation Read")]);
    ran.line(&[
        "FAIL",
        "acls",
        &format!("topic {topic}: the principal lacks DESCRIBE_CONFIGS"),
    ]);
    ran.line(&[
        "FAIL",
        "topics",
        &format!("{topic}: is missing, or may not be seen"),
    ]);
}

/// Texts that stand in the senders alone.
const OF_SENDERS: [&[u8]; 4] = [
    b"One of Flock's events",
    b"<p>Good tips</p>",
    b"123e4567-e89b-12d3-a456-426614174000",
    b"with a public key nothing can be signed",
];

#[test]
fn neither_service_holds_a_sender() {
    let holds = |binary: &str| {
        let content = std::fs::read(find(binary).expect("a binary")).expect("a file");
        let has = |text: &&&[u8]| content.windows(text.len()).any(|window| window == **text);
        OF_SENDERS.iter().filter(has).count()
    };
    assert_eq!(holds("sluicectl"), OF_SENDERS.len());
    assert_eq!((holds("sluice-ingest"), holds("sluice-processor")), (0, 0));
}
