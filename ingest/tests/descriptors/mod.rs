//! The limit of open files, of the program as it runs.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::eventually;

/// Starts ingest for so many connections, under these limits of the shell.
fn start(dir: &Path, connections: usize, limits: &str) -> Child {
    let path = dir.join("settings.yaml");
    let yaml = format!(
        "kafka: {{bootstrap_servers: 'localhost:1'}}\n\
         sources: {{site: {{provider: flowcode, secrets: [x]}}}}\n\
         ingest: {{listen: '127.0.0.1:0', admin_listen: '127.0.0.1:0', \
         limits: {{connections: {connections}}}}}\n"
    );
    std::fs::write(&path, yaml).unwrap();
    Command::new("sh")
        .arg("-c")
        .arg(format!("{limits} && exec \"$0\" --config \"$1\""))
        .arg(env!("CARGO_BIN_EXE_sluice-ingest"))
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The soft limit of a process.
fn soft(process: &Child) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[test]
fn the_soft_limit_is_raised_to_what_connections_need() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = start(dir.path(), 960, "ulimit -Sn 256 && ulimit -Hn 1500");
    eventually("the limit is raised", || soft(&process) == Some(1_500));
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_hard_limit_below_what_connections_need_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = start(dir.path(), 960, "ulimit -n 1000");
    eventually("it ends", || process.try_wait().unwrap().is_some());
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    for part in ["ingest.limits.connections: ", "960", "1024", "1000"] {
        assert!(text.contains(part), "no {part}: {text}");
    }
}
