//! What a registry may answer, and what may not be done with it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_schemas::settings::Environment;
use tempfile::TempDir;

use super::*;

/// A registry that answers each request with this; how often it was asked.
fn registry(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 16 << 10];
            let _ = stream.read(&mut request);
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, asked)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn settings(registry: &str) -> Settings {
    let yaml = format!(
        "kafka: {{bootstrap_servers: b}}\nsources: {{s: {{provider: flock, secrets: [x]}}}}\n\
         schema_registry: {registry}\n"
    );
    let environment = Environment {
        member: Some("host"),
        property_fault: &|_, _| None,
    };
    Settings::parse(Path::new("settings.yaml"), yaml.as_bytes(), &environment)
        .expect("good settings")
}

/// What comes of asking for the ids.
fn asked(settings: &Settings) -> Result<HashMap<String, u32>, String> {
    let registry = settings.schema_registry.as_ref().expect("one is set");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let found = runtime.block_on(ids(settings, registry));
    found.map_err(|error| error.to_string())
}

#[test]
fn a_redirect_is_not_followed_and_says_what_to_correct() {
    let (elsewhere, asked_elsewhere) = registry(answer("200 OK", r#"{"id": 7}"#));
    for status in ["301 Moved Permanently", "307 Temporary Redirect"] {
        let moved = format!("{status}\r\nlocation: {elsewhere}/subjects");
        let (url, _) = registry(answer(&moved, ""));
        let error = asked(&settings(&format!("{{url: '{url}', register: false}}")));
        let error = error.expect_err("it was not asked there");
        assert!(error.contains("correct schema_registry.url"), "{error}");
    }
    assert_eq!(asked_elsewhere.load(Ordering::SeqCst), 0);
}

#[test]
fn an_answer_is_read_up_to_its_bound() {
    let blanks = " ".repeat(2 << 20);
    let (url, _) = registry(answer("200 OK", &format!("{blanks}{{\"id\": 7}}")));
    let error = asked(&settings(&format!("{{url: '{url}', register: false}}")));
    let error = error.expect_err("it is over the bound");
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    let (url, _) = registry(answer("200 OK", r#"{"id": 7}"#));
    let ids = asked(&settings(&format!("{{url: '{url}', register: false}}"))).expect("ids");
    assert!(ids.values().all(|id| *id == 7), "{ids:?}");
}

#[test]
fn a_fifo_in_place_of_a_file_is_a_fault_and_nobody_waits() {
    let dir = TempDir::new().expect("a temporary directory");
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("coreutils").success());
    let fifo = fifo.display();
    for rest in [
        format!("ca_file: '{fifo}'"),
        format!("username: u, password_file: '{fifo}'"),
    ] {
        let settings = settings(&format!("{{url: 'http://127.0.0.1:1', {rest}}}"));
        let (say, hear) = std::sync::mpsc::channel();
        std::thread::spawn(move || say.send(asked(&settings)));
        let found = hear.recv_timeout(Duration::from_secs(10));
        let found = found.unwrap_or_else(|_| panic!("{rest}: it waits for a writer"));
        let error = found.expect_err("a fault");
        assert!(error.contains("it is a FIFO"), "{error}");
    }
}
