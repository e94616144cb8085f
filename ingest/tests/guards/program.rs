//! The command line: help, faults of settings, exit statuses; and the properties of the producers as
//! librdkafka reports them.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rdkafka::mocking::MockCluster;
use serde_json::Value;

use super::same_as_golden;
use crate::broker::{exchange, up};

const GOOD: &str = "kafka: {bootstrap_servers: 'localhost:1'}\n\
                    sources: {site: {provider: flowcode, secrets: [x]}}\n";

const POST: &str =
    "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

/// Settings by their fault. `{dir}` is the folder of the test.
const SETTINGS: &[(&str, &str)] = &[
    (
        "good",
        "sources: {site: {provider: flowcode, secrets: [x]}}\nkafka: {bootstrap_servers: b}\n",
    ),
    ("empty", ""),
    ("no YAML", "kafka: {bootstrap_servers: [\n"),
    (
        "several faults",
        "kafka: {bootstrap_servers: b, acks: all, properties: {acks: '1', sasl.password: x}}\n\
         sources: {site: {provider: nobody}, open: {provider: referralloop}}\n\
         ingest: {ack_timeout: soon, spool: {dir: relative}}\nmore: 1\n",
    ),
    (
        "no file of a secret property",
        "kafka: {bootstrap_servers: b, secret_properties: {sasl.password: nowhere}}\n\
         secrets_dir: {dir}\nsources: {site: {provider: flowcode, secrets: [x]}}\n",
    ),
    (
        "no certificate",
        "kafka: {bootstrap_servers: b}\nsources: {site: {provider: flowcode, secrets: [x]}}\n\
         ingest: {tls: {cert_file: '{dir}/tls.crt', key_file: '{dir}/tls.key'}}\n",
    ),
];

fn ingest(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-ingest"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for variable in [
        "SLUICE_CONFIG",
        "SLUICE_LOG",
        "COLUMNS",
        "NO_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Appends exit status, standard output, and the lines of standard error that are no log.
fn append_end(text: &mut String, dir: &Path, name: &str, child: Child) {
    let output = child.wait_with_output().unwrap();
    let shown = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(dir.to_str().unwrap(), "<dir>")
    };
    writeln!(text, "== {name}\nexit {:?}", output.status.code()).unwrap();
    for (stream, shown) in [("out", shown(output.stdout)), ("err", shown(output.stderr))] {
        for line in shown
            .lines()
            .filter(|line| !line.starts_with('{') || stream == "out")
        {
            writeln!(text, "{stream}: {line}").unwrap();
        }
    }
}

#[test]
fn calls_and_their_ends_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut text = String::new();
    let mut call = |name: &str, args: &[&str]| {
        append_end(&mut text, dir, name, ingest(dir, args).spawn().unwrap());
    };
    for args in [
        &["--help"][..],
        &["-h"],
        &["drain", "--help"],
        &["help", "drain"],
        &[],
        &["drain"],
        &["--nothing"],
        &["serve"],
        &["--config"],
        &["--config", "nowhere.yaml"],
        &["--check", "--config", "nowhere.yaml"],
    ] {
        call(&format!("sluice-ingest {}", args.join(" ")), args);
    }
    for (name, yaml) in SETTINGS {
        let yaml = yaml.replace("{dir}", dir.to_str().unwrap());
        std::fs::write(dir.join("settings.yaml"), yaml).unwrap();
        call(
            &format!("--check: {name}"),
            &["--check", "--config", "settings.yaml"],
        );
        if *name != "good" {
            call(&format!("a start: {name}"), &["--config", "settings.yaml"]);
        }
    }
    std::fs::write(dir.join("settings.yaml"), GOOD).unwrap();
    call(
        "drain without a spool",
        &["drain", "--config", "settings.yaml"],
    );
    call(
        "drain --check",
        &["--check", "drain", "--older", "--config", "settings.yaml"],
    );
    same_as_golden("program.txt", &text);
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// Starts a service whose settings file is named after its admin port. `kafka` and `ingest` are further
/// settings.
fn serving(dir: &Path, listen: SocketAddr, admin: SocketAddr, kafka: &str, ingest: &str) -> Child {
    let yaml = format!(
        "kafka: {{{kafka}}}\n\
         topics: {{partitions: 4, replication: 1}}\n\
         sources: {{site: {{provider: flowcode, secrets: [x]}}}}\n\
         ingest: {{listen: '{listen}', admin_listen: '{admin}'{ingest}}}\n"
    );
    let file = file(admin);
    std::fs::write(dir.join(&file), yaml).unwrap();
    let mut command = self::ingest(dir, &["--config", &file]);
    command.env("SLUICE_LOG", "debug").spawn().unwrap()
}

/// The settings file of the service with this admin port.
fn file(admin: SocketAddr) -> String {
    format!("{}.yaml", admin.port())
}

fn servers(bootstrap: &str) -> String {
    format!("bootstrap_servers: '{bootstrap}'")
}

fn end(service: &Child) {
    let kill = Command::new("kill").arg(service.id().to_string()).status();
    assert!(kill.unwrap().success());
}

#[test]
fn the_ends_of_a_service_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut text = String::new();
    let away = servers(&free().to_string());
    let spool = format!(", spool: {{dir: '{}/spool'}}", dir.display());
    let (listen, admin) = (free(), free());
    let mut running = serving(dir, listen, admin, &away, &spool);
    up(admin);
    let answer = exchange(listen, POST);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let other = serving(dir, free(), free(), &away, &spool);
    append_end(&mut text, dir, "another process has the spool", other);
    let other = serving(dir, listen, free(), &away, "");
    append_end(&mut text, dir, "another process has the port", other);
    std::fs::write(dir.join("file"), "").unwrap();
    let in_file = format!(", spool: {{dir: '{}/file'}}", dir.display());
    let other = serving(dir, free(), free(), &away, &in_file);
    append_end(&mut text, dir, "the spool's folder is a file", other);
    let cluster = MockCluster::new(1).unwrap();
    let there = servers(&cluster.bootstrap_servers());
    let other = serving(dir, free(), free(), &there, "");
    append_end(&mut text, dir, "the raw topic is missing", other);
    assert!(running.try_wait().unwrap().is_none(), "it has ended");
    end(&running);
    append_end(&mut text, dir, "asked to end while Kafka is away", running);
    cluster.create_topic("webhooks.raw", 4, 1).unwrap();
    let yaml = std::fs::read_to_string(dir.join(file(admin))).unwrap();
    std::fs::write(dir.join("drain.yaml"), yaml.replace(&away, &there)).unwrap();
    let drain = ["drain", "--config", "drain.yaml"];
    for name in ["drain", "drain of an empty spool"] {
        append_end(&mut text, dir, name, ingest(dir, &drain).spawn().unwrap());
    }
    same_as_golden("program.ends.txt", &text);
}

/// librdkafka logs all properties of a new client that differ from its defaults. This pins the producers
/// as they are created, wherever their properties are put together.
#[test]
fn producers_as_librdkafka_reports_them_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let with_debug =
        |bootstrap: &str| format!("{}, properties: {{debug: conf}}", servers(bootstrap));
    let away = free().to_string();
    let spool = format!(", spool: {{dir: '{}/spool'}}", dir.display());
    let (listen, admin) = (free(), free());
    let running = serving(dir, listen, admin, &with_debug(&away), &spool);
    up(admin);
    let answer = exchange(listen, POST);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    end(&running);
    let mut text = "== the producer for requests\n".to_owned();
    properties(&mut text, running, &away);
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("webhooks.raw", 4, 1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let yaml = std::fs::read_to_string(dir.join(file(admin))).unwrap();
    std::fs::write(dir.join("drain.yaml"), yaml.replace(&away, &bootstrap)).unwrap();
    let mut drain = ingest(dir, &["drain", "--config", "drain.yaml"]);
    let drain = drain.env("SLUICE_LOG", "debug").spawn().unwrap();
    text.push_str("== the producer of the drain\n");
    properties(&mut text, drain, &bootstrap);
    same_as_golden("clients.effective.txt", &text);
}

/// The properties in a service's log, without addresses in memory and librdkafka's own version.
fn properties(text: &mut String, service: Child, bootstrap: &str) {
    let output = service.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        let log: Value = serde_json::from_str(line).unwrap_or_default();
        let message = log["message"].as_str().unwrap_or_default();
        let Some(message) = message.strip_prefix("[thrd:app]: ") else {
            continue;
        };
        let varies = message.contains(" = 0x") || message.contains(".version = ");
        let is_property = message.starts_with("  ") && !varies;
        if is_property || message.contains(" configuration") {
            writeln!(text, "{}", message.replace(bootstrap, "<brokers>")).unwrap();
        }
    }
}
