//! A change of the settings file while ingest runs, as senders see it.

use std::path::PathBuf;
use std::sync::Arc;

use sluice_ingest::config::Config;
use sluice_schemas::identity::sha256;
use sluice_schemas::settings::Part;
use sluice_service::reload::{SettingsProbe, Watcher};

use crate::support::{Ingest, Mood, eventually, hex};

struct Watched {
    ingest: Ingest,
    file: PathBuf,
    _dir: tempfile::TempDir,
    probe: SettingsProbe,
}

/// The settings of one source with these tokens, of other sources and of ingest.
fn yaml(tokens: &[&str], more: &str, ingest: &str) -> String {
    let tokens: Vec<String> = tokens
        .iter()
        .map(|token| format!("'{}'", hex(&sha256(token.as_bytes()))))
        .collect();
    let tokens = tokens.join(", ");
    format!(
        "
kafka: {{bootstrap_servers: 'localhost:1'}}
sources:
  list: {{provider: referralloop, max_body: 1KiB, token_sha256: [{tokens}]}}
  {more}
ingest: {{max_buffered: 64KiB, {ingest}}}
"
    )
}

impl Watched {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.yaml");
        std::fs::write(&file, yaml(&["one"], "", "")).unwrap();
        let settings = Arc::new(sluice_service::settings::load(&file).unwrap());
        let mut ingest = Ingest::start_on(&settings, true);
        let (watcher, probe) = Watcher::new(settings, Part::Ingest, &mut ingest.registry);
        let receiver = Arc::clone(&ingest.receiver);
        watcher.spawn(move |settings| {
            receiver.configure(Config::new(settings));
            Ok(())
        });
        Self {
            ingest,
            file,
            _dir: dir,
            probe,
        }
    }

    /// Writes the file and waits until it is judged.
    fn write(&self, content: &str) {
        std::fs::write(&self.file, content).unwrap();
        eventually("the file is judged", || !self.probe.has_pending_change());
    }

    fn post(&self, path: &str) -> u16 {
        self.ingest.post(path, b"{}").status
    }
}

#[test]
fn a_token_is_rotated_and_no_request_is_refused() {
    let watched = Watched::start();
    let (old, new) = ("/v1/hooks/list/one", "/v1/hooks/list/two");
    // A connection that was there before sees the change like others.
    let mut kept = watched.ingest.connect();
    let mut ask = |path: &str, status: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
        kept.write(&head);
        let mut answer = String::new();
        while !answer.ends_with('}') {
            answer += &kept.exactly(1);
        }
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    };
    ask(old, "200");
    ask(new, "404");
    watched.write(&yaml(&["one", "two"], "", ""));
    ask(old, "200");
    ask(new, "200");
    watched.write(&yaml(&["two"], "", ""));
    ask(new, "200");
    ask(old, "404");
    assert_eq!((watched.post(new), watched.post(old)), (200, 404));
}

#[test]
fn a_source_is_added_and_removed_and_accepted_requests_are_still_answered() {
    let watched = Watched::start();
    assert_eq!(watched.post("/v1/hooks/late"), 404);
    assert!(!watched.ingest.metrics().contains("source=\"late\""));
    let late = "late: {provider: flowcode, max_body: 1KiB, secrets: [x]}";
    watched.write(&yaml(&["one"], late, ""));
    let refused = "sluice_ingest_requests_total{source=\"late\",status=\"413\"}";
    assert_eq!(watched.ingest.value(refused), 0);
    assert_eq!(watched.post("/v1/hooks/late"), 200);
    let published = watched.ingest.published();
    assert_eq!(published[0].request.source, "late");

    watched.ingest.mood(Mood::Keep);
    let mut sender = watched.ingest.connect();
    sender.write("POST /v1/hooks/late HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    sender.write("content-length: 2\r\n\r\n{}");
    eventually("it is published", || watched.ingest.published().len() == 2);
    watched.write(&yaml(&["one"], "", ""));
    watched.ingest.mood(Mood::Acknowledge);
    assert_eq!(watched.post("/v1/hooks/late"), 404);
    let hold = watched.ingest.publisher.kept.lock().unwrap().pop().unwrap();
    hold.reply.send(Ok(crate::support::DELIVERED)).unwrap();
    assert_eq!(sender.answer().status, 200);
}

#[test]
fn a_bad_file_changes_nothing_and_is_counted() {
    let watched = Watched::start();
    let in_force = |on: u8| {
        let page = watched.ingest.metrics();
        let line = format!("sluice_settings_in_force {on}");
        assert!(page.contains(&line), "{page}");
    };
    in_force(1);
    let larger = "big: {provider: flowcode, secrets: [x], max_body: 2KiB}";
    for bad in [
        "sources: {".to_owned(),
        String::new(),
        yaml(&["two"], "late: {provider: nobody}", ""),
        yaml(&["two"], larger, ""),
        yaml(&["two"], "", "body_timeout: 1ms"),
    ] {
        watched.write(&bad);
        in_force(0);
        assert_eq!(watched.post("/v1/hooks/list/one"), 200, "{bad}");
        assert_eq!(watched.post("/v1/hooks/list/two"), 404, "{bad}");
        assert_eq!(watched.post("/v1/hooks/big"), 404, "{bad}");
    }
    let page = watched.ingest.metrics();
    let line = "sluice_settings_reload_failures_total 5";
    assert!(page.contains(line), "{page}");
    watched.write(&yaml(&["one"], "", ""));
    in_force(1);
}

#[test]
fn limits_follow_the_file() {
    let watched = Watched::start();
    let body = vec![b'x'; 600];
    let post = |length: usize| {
        let answer = watched.ingest.post("/v1/hooks/list/one", &body[..length]);
        answer.status
    };
    assert_eq!(post(600), 200);
    let smaller = yaml(&["one"], "", "").replace("1KiB", "512B");
    watched.write(&smaller);
    assert_eq!(post(600), 413);
    watched.write(&smaller.replace("64KiB", "512B"));
    watched.ingest.mood(Mood::Keep);
    let mut first = watched.ingest.connect();
    first.write("POST /v1/hooks/list/one HTTP/1.1\r\nhost: x\r\ncontent-length: 512\r\n\r\n");
    first.write_bytes(&body[..512]);
    eventually("it is held", || watched.ingest.published().len() == 2);
    assert_eq!(post(1), 503);
}
