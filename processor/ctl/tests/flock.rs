//! `sluicectl flock` against a server that answers as documented: what is sent, what is printed, and how it
//! ends.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

#[path = "support/provider_api.rs"]
mod provider_api;

use provider_api::{Fault, KEY, Server};

const CUSTOMER: &str = r#"{"externalUserId": "user_1", "email": "ada@example.com", "name": "Ada",
    "customProperties": {"plan": "premium"}}"#;

struct World {
    dir: tempfile::TempDir,
    server: Server,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = format!(
            "{{kafka: {{bootstrap_servers: '127.0.0.1:1'}}, secrets_dir: '{}', sources: {{s: {{provider: flock, \
             secrets: [flock]}}}}}}",
            dir.path().display()
        );
        let files = [
            ("good.yaml", settings.as_str()),
            ("flock-api", KEY),
            ("other-api", "another"),
            ("two-lines", "a\nb"),
            ("customer.json", CUSTOMER),
            (
                "bad.json",
                r#"{"externalUserId": "user_1", "mail": "ada@example.com"}"#,
            ),
        ];
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).expect("a file");
        }
        let server = Server::start();
        Self { dir, server }
    }

    fn run(&self, call: &str, input: &str) -> Output {
        let has_key = call.contains("--api-key-file");
        let key = if has_key {
            &[][..]
        } else {
            &["--api-key-file", "flock-api"]
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluicectl"))
            .env_clear()
            .env("SLUICE_MEMBER", "m-0")
            // A proxy would see the key.
            .env("http_proxy", "http://127.0.0.1:1")
            .current_dir(self.dir.path())
            .args(["--config", "good.yaml", "flock"])
            .args(call.split(' '))
            .args(["--api-url", &self.server.url])
            .args(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("its input");
        // One that does not read it has ended before.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    /// What a call printed, which holds neither the key nor the person.
    #[track_caller]
    fn ends(&self, call: &str, status: i32) -> (String, String) {
        let output = self.run(call, CUSTOMER);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{call}\n{out}\n{err}");
        for secret in [KEY, "ada@example.com", "Jane"] {
            assert!(
                !out.contains(secret) && !err.contains(secret),
                "{call}\n{out}\n{err}"
            );
        }
        (out, err)
    }

    /// The method, target and body of the last call.
    fn last(&self) -> (String, String, Value) {
        let asked = self.server.state().asked.pop().expect("a call");
        assert_eq!(asked.key, KEY, "without Bearer");
        (asked.method, asked.target, asked.body)
    }
}

/// A call, what the server gets, and what is printed.
type Row = (&'static str, (&'static str, &'static str, Value), Value);

fn rows() -> Vec<Row> {
    let whole: Value = serde_json::from_str(CUSTOMER).expect("JSON");
    vec![
        (
            "identify-customer --customer-file -",
            ("POST", "/customers/identify", whole.clone()),
            json!({"status": 200, "id": "customer_1"}),
        ),
        (
            "identify-customer --customer-file customer.json",
            ("POST", "/customers/identify", whole),
            json!({"status": 200, "id": "customer_1"}),
        ),
        (
            "live-campaign --environment test --customer-id c&1",
            (
                "GET",
                "/campaigns/live?environment=test&customerId=c%261",
                Value::Null,
            ),
            json!({"status": 200, "id": "campaign_1"}),
        ),
        (
            "validate-code --referral-code JANE123",
            (
                "POST",
                "/referrals/validate-code",
                json!({"referralCode": "JANE123"}),
            ),
            json!({"status": 200, "id": "customer_9", "is_valid": true}),
        ),
        (
            "create-referral --campaign-id k --referral-code r --referee-id c",
            (
                "POST",
                "/referrals",
                json!({"campaignId": "k", "referralCode": "r", "refereeId": "c"}),
            ),
            json!({"status": 201, "id": "referral_1"}),
        ),
        (
            "ingest-checkpoint paid --environment production --customer-file -",
            (
                "POST",
                "/checkpoints/ingest",
                json!({"checkpointName": "paid", "externalUserId": "user_1", "environment": "production"}),
            ),
            json!({"status": 200, "id": null}),
        ),
        (
            "trigger-reward --environment test --external-user-id u --reward-for self,referral_partner",
            (
                "POST",
                "/rewards/trigger",
                json!({"externalUserId": "u", "environment": "test", "rewardFor": ["self", "referral_partner"]}),
            ),
            json!({"status": 201, "id": "reward_1"}),
        ),
    ]
}

#[test]
fn each_call_sends_what_is_documented_and_prints_ids() {
    let world = World::new();
    for (call, (method, target, body), printed) in rows() {
        let (out, _) = world.ends(&format!("{call} --json"), 0);
        let line: Value = serde_json::from_str(&out).expect("one object");
        for (name, value) in printed.as_object().expect("members") {
            assert_eq!(&line[name], value, "{call}: {line}");
        }
        assert_eq!(line["answer"], Value::Null, "{call}: {line}");
        let expected = (method.to_owned(), target.to_owned(), body);
        assert_eq!(world.last(), expected, "{call}");
    }
    let without = "ingest-checkpoint paid --environment production --customer-file -";
    let (out, _) = world.ends(without, 0);
    assert_eq!(out, "ingest-checkpoint  200  no id in the answer\n");
    world.ends("validate-code --referral-code JACK", 1);
    let shown = world.run("validate-code --referral-code JANE123 --show-bodies", "");
    let out = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        out.contains("valid  customer_9") && out.contains("Jane Doe"),
        "{out}"
    );
}

#[test]
fn what_goes_wrong_has_its_sentence_and_its_status() {
    let world = World::new();
    let reward = "trigger-reward --environment test --external-user-id u --reward-for self";
    let code = "validate-code --referral-code x --patience 1s";
    let answer = |status, header, body: &str| Fault::Answer(status, header, body.to_owned());
    for (call, fault, status, word) in [
        (
            reward,
            answer(500, "x: 1", KEY),
            1,
            "may have been carried out",
        ),
        (reward, Fault::Cut(true), 1, "may have been carried out"),
        (
            code,
            answer(429, "retry-after: 9", "{}"),
            75,
            "past --patience",
        ),
        (code, answer(302, "location: /", ""), 1, "a redirect"),
        (code, answer(422, "x: 1", "Jane"), 1, "refuses it (422)"),
        (code, answer(200, "x: 1", "{}"), 1, "no isValid"),
        (code, Fault::Endless, 1, "more than"),
    ] {
        world.server.faults([fault]);
        let (out, err) = world.ends(call, status);
        assert!(out.is_empty() && err.contains(word), "{call}\n{out}\n{err}");
    }
}

#[test]
fn what_cannot_be_sent_is_not() {
    let world = World::new();
    let calls = world.server.count();
    for (call, status, word) in [
        (
            "validate-code --referral-code x --api-key-file gone",
            78,
            "gone is not there (in ",
        ),
        (
            "validate-code --referral-code x --api-key-file two-lines",
            78,
            "two-lines is no key",
        ),
        (
            "validate-code --referral-code x --api-key-file ../flock-api",
            2,
            "under secrets_dir",
        ),
        ("validate-code", 2, "one is needed"),
        (
            "identify-customer --customer-file bad.json",
            2,
            "at line 1, column",
        ),
        (
            "identify-customer --customer-file nowhere",
            2,
            "cannot be read",
        ),
        (
            "live-campaign --environment moon --customer-id c",
            2,
            "invalid value",
        ),
        (
            "ingest-checkpoint x --environment test --external-user-id u --customer-file -",
            2,
            "give one of",
        ),
    ] {
        let (_, err) = world.ends(call, status);
        assert!(err.contains(word), "{call}\n{err}");
    }
    assert_eq!(world.server.count(), calls, "none of these was sent");
    let (_, err) = world.ends(
        "validate-code --referral-code x --api-key-file other-api",
        78,
    );
    assert!(err.contains("refuses its key (401)"), "{err}");
}
