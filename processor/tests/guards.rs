//! Guards of the command: its help, its exit statuses, and what its admin port serves without Kafka. See
//! `tests/guards/README.md`.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "../../tests/guards/golden.rs"]
mod golden;

use golden::compare;

/// For how long the process may take to answer or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many words of a fault are pinned: the rest is for a person, and may be said better.
const WORDS: usize = 3;

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-processor"));
    command.env_clear().env("SLUICE_MEMBER", "m-0");
    command
}

fn settings(dir: &Path, admin: SocketAddr, more: &str) -> String {
    format!(
        "{{kafka: {{bootstrap_servers: '127.0.0.1:1'}}, secrets_dir: '{}', \
         processor: {{admin_listen: '{admin}'}}, telemetry: {{log_format: text}}, \
         sources: {{s: {{provider: flock, secrets: [f]}}}} {more}}}",
        dir.display()
    )
}

/// What a run wrote and how it ended; the file's name is replaced, and of faults the first words stay.
fn show(text: &mut String, what: &str, output: &Output, file: &Path) {
    let file = file.display().to_string();
    let lines = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).replace(&file, "(file)");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "== {what}\nstatus {:?}", output.status.code());
    for line in lines(&output.stdout) {
        let _ = writeln!(text, "out {line}");
    }
    for line in lines(&output.stderr) {
        let mut parts = line.splitn(3, ": ");
        if let (Some("(file)"), Some(path), Some(fault)) =
            (parts.next(), parts.next(), parts.next())
        {
            let words: Vec<&str> = fault.split(' ').take(WORDS).collect();
            let _ = writeln!(text, "err (file): {path}: {}", words.join(" "));
        }
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[test]
fn the_command_and_its_exit_statuses_are_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.yaml");
    let admin = free();
    let secret = dir.path().join("f");
    let mut text = String::new();
    let run = |command: &mut Command| command.output().expect("it starts");
    show(&mut text, "--help", &run(command().arg("--help")), &file);
    let mut version = run(command().arg("--version"));
    let shown = String::from_utf8_lossy(&version.stdout);
    let expected = concat!(env!("CARGO_PKG_VERSION"), " (");
    let (before, commit) = shown.split_once(expected).expect("version and commit");
    let (commit, after) = commit.split_once(')').expect("a commit");
    assert!(commit.chars().all(char::is_alphanumeric), "{commit}");
    let shown = format!("{before}(the package's version) (the commit){after}");
    version.stdout = shown.into_bytes();
    show(&mut text, "--version", &version, &file);
    show(&mut text, "nothing", &run(&mut command()), &file);
    show(
        &mut text,
        "--unknown",
        &run(command().arg("--unknown")),
        &file,
    );

    let good = settings(dir.path(), admin, "");
    let cases = [
        ("no file", None, true),
        ("no YAML", Some("{".to_owned()), true),
        (
            "two faults",
            Some(settings(dir.path(), admin, ", topics: {x: 1, y: 2}")),
            true,
        ),
        (
            "a property's file is missing, and a secret",
            Some(good.replace("'127.0.0.1:1'", "b, secret_properties: {sasl.password: p}")),
            false,
        ),
        ("a secret is missing", Some(good.clone()), false),
        ("no faults", Some(good), true),
    ];
    for (what, content, has_secret) in cases {
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::remove_file(&secret);
        if let Some(content) = &content {
            std::fs::write(&file, content).expect("the settings");
        }
        if has_secret {
            std::fs::write(&secret, "secret").expect("a secret");
        }
        let checked = run(command().arg("--check").arg("--config").arg(&file));
        show(&mut text, &format!("--check, {what}"), &checked, &file);
        if what != "no faults" {
            let started = run(command().arg("--config").arg(&file));
            show(&mut text, what, &started, &file);
        }
    }
    let checked = run(command().arg("--check").env("SLUICE_CONFIG", &file));
    show(&mut text, "--check, SLUICE_CONFIG", &checked, &file);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = taken.local_addr().expect("an address");
    std::fs::write(&file, settings(dir.path(), admin, "")).expect("the settings");
    let started = run(command().arg("--config").arg(&file));
    show(&mut text, "the admin port is taken", &started, &file);
    drop(taken);
    compare("command-processor.txt", &text);
}

/// A process that is killed when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(admin: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

/// The status, the headers but for the date, and of the metrics what is no value and no help.
fn show_answer(text: &mut String, path: &str, answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "== GET {path}");
    let mut headers = head.split("\r\n");
    let _ = writeln!(text, "{}", headers.next().expect("a status"));
    let mut headers: Vec<String> = headers.map(str::to_lowercase).collect();
    headers.retain(|line| !line.starts_with("date:") && !line.starts_with("content-length:"));
    headers.sort();
    for header in headers {
        let _ = writeln!(text, "{header}");
    }
    if path == "/metrics" {
        let mut types: Vec<&str> = body
            .lines()
            .filter(|line| !line.starts_with("# HELP"))
            .collect();
        types.sort_unstable();
        for line in types {
            let shape = match line.strip_prefix('#') {
                Some(_) => line,
                None => line.rsplit_once(' ').map_or(line, |(name, _)| name),
            };
            let shape = shape.replace(sluice_service::COMMIT, "COMMIT");
            let _ = writeln!(text, "{shape}");
        }
    }
}

#[test]
fn the_admin_port_serves_the_same_without_kafka_and_a_signal_ends_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.yaml");
    let admin = free();
    std::fs::write(&file, settings(dir.path(), admin, "")).expect("the settings");
    std::fs::write(dir.path().join("f"), "secret").expect("a secret");
    let started = command()
        .arg("--config")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut process = Running(started.expect("it starts"));
    let deadline = Instant::now() + PATIENCE;
    while get(admin, "/livez").is_none() {
        assert!(Instant::now() < deadline, "the admin port does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut text = String::new();
    for path in ["/livez", "/readyz", "/metrics", "/other"] {
        let answer = get(admin, path).expect("an answer");
        show_answer(&mut text, path, &answer);
    }
    let id = process.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status();
    assert!(sent.expect("kill runs").success());
    let status = loop {
        if let Some(status) = process.0.try_wait().expect("a child") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "== TERM\nstatus {:?}", status.code());
    compare("admin-processor.txt", &text);
}
