//! `sluicectl listen`: what a developer's server gets while real services work.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::process::find;
use sluice_tests::harness::target::{Got, Server};
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::ctl::written;
use crate::harness::Running;

/// A command that listens, from the time on at which it reads.
struct Listening {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Listening {
    fn start(running: &Running, url: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(find("sluicectl").expect("the binary"))
            .arg("--config")
            .arg(written(&running.site, &running.site.settings))
            .args(["listen", "--forward", url, "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("until Ctrl-C") {
            line.clear();
            assert_ne!(err.read_line(&mut line).expect("a line"), 0, "it ended");
        }
        Self { child, out, err }
    }

    fn object(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Ends it by Ctrl-C; what it said on standard error.
    fn end(mut self) -> String {
        let killed = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(killed.expect("kill").success());
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("the end");
        self.err.read_to_string(&mut err).expect("the end");
        let status = self.child.wait().expect("an end");
        assert_eq!((status.code(), out.as_str()), (Some(0), ""), "{err}");
        err
    }
}

#[track_caller]
fn arrived(server: &Server, count: usize) -> Vec<Got> {
    wait_for("what is re-sent", PATIENCE, || {
        let got = server.got();
        Ok((got.len() >= count).then_some(got))
    })
    .expect("what is re-sent")
}

#[test]
fn events_and_raw_requests_arrive_at_a_developers_server() {
    let mut running = Running::start("ctl-listen");
    let source = running.source("flowcode");
    let kind = source.samples().expect("samples")[0];
    // The first event meets a server that is not ready for it.
    let events = Server::start(&[500, 204]).expect("a server");
    let raw = Server::start(&[]).expect("a server");
    let name = source.name.as_str();
    let url = events.url("/hooks?a=b");
    let mut of_events = Listening::start(&running, &url, &["--source", name, "--type", kind]);
    let mut of_raw = Listening::start(&running, &raw.url("/"), &["--raw", "--source", name]);

    let other = running.source("flock");
    let elsewhere = other.signed("referral.accepted", 1, now());
    running.accept(&elsewhere.expect("a request"));
    let mut good = source.signed(kind, 1, now()).expect("a request");
    good.headers
        .push(("X-Odd".to_owned(), "\u{e9}%".to_owned()));
    let id = running.accept(&good);
    // Bytes that are no text: nobody signed them, so they are no event.
    let mut forged = source.signed(kind, 2, now()).expect("a request");
    forged.body = vec![0, 0xff, b'\r', b'\n'].into();
    running.accept(&forged);

    let got = arrived(&events, 2);
    assert_eq!(got[0], got[1], "the same again");
    let printed = of_events.object();
    an_event_arrived(&running, &got[1], &id);
    assert_eq!(
        (&printed["request_id"], &printed["status"]),
        (&json!(id), &json!(204))
    );
    assert_eq!(
        (&printed["delivered"], &printed["attempts"]),
        (&json!(true), &json!(2))
    );
    assert!(printed.get("content").is_none(), "{printed}");

    let mut got = arrived(&raw, 2);
    // They need not be in one partition.
    got.sort_by_key(|got| got.body != good.body);
    for (got, sent) in got.iter().zip([&good, &forged]) {
        a_request_arrived(got, sent);
    }
    of_raw.object();
    assert_eq!(of_raw.object()["status"], json!(200));
    assert_eq!((events.got().len(), raw.got().len()), (2, 2));
    let said = of_events.end();
    assert!(
        said.contains("500 in ") && said.contains("again in "),
        "{said}"
    );
    assert!(
        said.contains("re-sent 1 to ") && !said.contains("a=b"),
        "{said}"
    );
    assert!(of_raw.end().contains("re-sent 2 to "));
    running.finish(&[]);
}

#[track_caller]
fn an_event_arrived(running: &Running, got: &Got, id: &str) {
    assert_eq!(
        (got.method.as_str(), got.target.as_str()),
        ("POST", "/hooks?a=b")
    );
    let event: Value = serde_json::from_slice(&got.body).expect("JSON");
    let source = running.source("flowcode");
    let topic = source.topic(&running.names(), source.samples().expect("samples")[0]);
    let topics = [topic.expect("a topic")];
    let records = read(running.site.bootstrap(), &topics, Isolation::Committed).expect("events");
    let mut written = records.iter().filter_map(|record| record.event().ok());
    let written = written.find(|event| event.request_id == id);
    let written = written.expect("the event");
    assert_eq!(event, serde_json::to_value(&written).expect("JSON"));
    for (header, value) in [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", &written.id),
        ("ce-source", &written.source),
        ("ce-type", &written.r#type),
    ] {
        assert_eq!(got.all(header), [value.as_bytes()], "{header}");
    }
    assert_eq!(got.all("traceparent").len(), 1);
}

#[track_caller]
fn a_request_arrived(got: &Got, sent: &Outgoing) {
    assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/"));
    assert_eq!(got.body, sent.body);
    for (name, value) in &sent.headers {
        let value: Vec<u8> = value.chars().map(|c| c as u8).collect();
        assert_eq!(got.all(&name.to_lowercase()), [value.as_slice()], "{name}");
    }
    assert_eq!(got.all("sluice-forwarded").len(), 1);
    assert_eq!(got.all("host").len(), 1);
}
