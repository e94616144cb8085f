//! The program with a spool: what it makes on the disk, and what it answers while a spool is opened.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::exchange;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// Starts the program by a shell that gives it this umask; its admin port and its port for webhooks.
fn start(dir: &Path, umask: &str) -> (Running, SocketAddr, SocketAddr) {
    let (listen, admin) = (free(), free());
    let yaml = format!(
        "kafka: {{bootstrap_servers: 'localhost:1'}}\n\
         sources: {{site: {{provider: flowcode, secrets: [x]}}}}\n\
         ingest: {{listen: '{listen}', admin_listen: '{admin}', spool: {{dir: '{}/spool'}}}}\n",
        dir.display()
    );
    std::fs::write(dir.join("settings.yaml"), yaml).unwrap();
    let program = env!("CARGO_BIN_EXE_sluice-ingest");
    let script = format!("umask {umask}; exec {program} --config settings.yaml");
    let child = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap();
    (Running(child), admin, listen)
}

fn until_up(admin: SocketAddr) {
    let since = Instant::now();
    while TcpStream::connect(admin).is_err() {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "it does not start"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The answer, or what came of it within a second.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(1));
    stream.set_read_timeout(patience).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

const POST: &str =
    "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

#[test]
fn files_are_the_users_alone_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    // As an administrator makes it by hand, or an earlier release did.
    std::fs::create_dir(&spool).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&spool, open).unwrap();
    let (_running, admin, listen) = start(dir.path(), "0");
    until_up(admin);
    let answer = exchange(listen, POST);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("open to other users"), "{log}");
    let files: Vec<(String, String)> = std::fs::read_dir(&spool)
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode();
            (
                file.file_name().into_string().unwrap(),
                format!("{:o}", mode & 0o777),
            )
        })
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    assert!(files.iter().all(|(_, mode)| mode == "600"), "{files:?}");
}

#[test]
fn the_probe_is_answered_while_a_spool_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (_running, admin, listen) = start(dir.path(), "077");
        until_up(admin);
        let answer = exchange(listen, POST);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // A store that is damaged and takes long to look through: most of it is a hole.
    let store = dir.path().join("spool/spool.redb");
    let mut bytes = std::fs::read(&store).unwrap();
    bytes[100] ^= 1;
    bytes[228] ^= 1;
    let mut file = std::fs::File::create(&store).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_len(2 << 30).unwrap();
    let (_running, admin, listen) = start(dir.path(), "077");
    until_up(admin);
    let alive = get(admin, "/livez");
    assert!(
        alive.starts_with("HTTP/1.1 200"),
        "/livez within 1 s: {alive:?}"
    );
    let ready = get(admin, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let since = Instant::now();
    while !get(admin, "/readyz").starts_with("HTTP/1.1 200") {
        assert!(since.elapsed() < Duration::from_secs(60), "it is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = exchange(listen, POST);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
