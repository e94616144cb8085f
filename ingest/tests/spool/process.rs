//! The program with a spool: what it makes on the disk, and what it answers while a spool is opened.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sluice_ingest::metrics::Metrics;
use sluice_ingest::publish::Record;
use sluice_ingest::spool::{Removal, Spool};
use sluice_schemas::raw::{Ack, Headers, RawRequest};

use crate::broker::{exchange, up};
use crate::support::spooling;

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
    up(admin);
    let answer = exchange(listen, POST);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("open to other users and is shut"), "{log}");
    let mode = spool.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750, "{mode:o}");
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

/// Leaves one record in quarantine.
fn quarantine_one(dir: &Path, why: &str) {
    let settings = spooling(dir, 4 << 20).ingest.spool.unwrap();
    let metrics = Metrics::new(&mut Registry::default());
    let spool = Spool::open(&settings, metrics.spool().clone()).unwrap();
    let received_at = i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros(),
    );
    let request = RawRequest {
        id: uuid::Uuid::from_u128(1),
        source: "site".to_owned(),
        provider: "flowcode".to_owned(),
        received_at: received_at.unwrap(),
        method: "POST".to_owned(),
        target: "/v1/hooks/site".to_owned(),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        token: false,
        ack: Ack::Spool,
        headers: Headers::default(),
    };
    let record = Record {
        key: b"key",
        value: b"{}",
        request: &request.encode(),
        traceparent: "",
    };
    let put = spool.put(&record, "site", request.received_at, None);
    put.unwrap().blocking_recv().unwrap().unwrap();
    let found = spool.read(0, 1, 1).unwrap();
    let removal = Removal {
        quarantine: Some(why.to_owned()),
        ..Removal::of(&found[0])
    };
    let removed = spool.remove(vec![removal], None);
    removed.blocking_recv().unwrap();
}

/// Settings whose spool is in this folder.
fn settled(dir: &Path, cluster: &MockCluster<'_, DefaultProducerContext>) {
    let yaml = format!(
        "kafka: {{bootstrap_servers: '{}'}}\n\
         topics: {{partitions: 4, replication: 1}}\n\
         sources: {{site: {{provider: flowcode, secrets: [x]}}}}\n\
         ingest: {{spool: {{dir: '{}/spool'}}}}\n",
        cluster.bootstrap_servers(),
        dir.display()
    );
    std::fs::write(dir.join("settings.yaml"), yaml).unwrap();
}

/// Runs a command of the program on these settings: its status, and what it printed.
fn call(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-ingest"))
        .args(args)
        .args(["--config", "settings.yaml"])
        .current_dir(dir)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn counts(drained: u32, refused: u32) -> String {
    format!("{{\"drained\":{drained},\"left\":0,\"refused\":{refused},\"stopped\":null}}\n")
}

#[test]
fn what_is_in_quarantine_is_listed_and_brought_to_kafka_on_request() {
    let dir = tempfile::tempdir().unwrap();
    quarantine_one(&dir.path().join("spool"), "it is too odd");
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("webhooks.raw", 4, 1).unwrap();
    settled(dir.path(), &cluster);
    let call = |args: &[&str]| call(dir.path(), args);
    let (status, listed) = call(&["quarantine"]);
    assert_eq!(status, Some(0));
    for part in [
        "\"why\":\"it is too odd\"",
        "\"source\":\"site\"",
        "\"token\":false",
    ] {
        assert!(listed.contains(part), "{listed}");
    }
    assert_eq!(call(&["drain"]), (Some(75), counts(0, 1)));
    // Kafka finds it invalid: it is not counted as drained.
    let invalid = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD];
    cluster.request_errors(RDKafkaApiKey::Produce, &invalid);
    assert_eq!(call(&["drain", "--quarantined"]), (Some(75), counts(0, 1)));
    assert_eq!(call(&["drain", "--quarantined"]), (Some(0), counts(1, 0)));
    assert_eq!(call(&["quarantine"]), (Some(0), String::new()));
}

#[test]
fn what_earlier_releases_set_aside_as_too_large_is_brought_to_kafka_by_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    quarantine_one(&spool, "it is larger than the raw topic takes");
    quarantine_one(&spool, "it is damaged on the disk");
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("webhooks.raw", 4, 1).unwrap();
    settled(dir.path(), &cluster);
    // Raw still finds it too large, also where it is alone: it waits on the spool, and is set aside no more.
    let too_large = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2];
    cluster.request_errors(RDKafkaApiKey::Produce, &too_large);
    let (status, printed) = call(dir.path(), &["drain", "--refused"]);
    assert_eq!(status, Some(75), "{printed}");
    assert!(
        printed.contains(
            "\"left\":1,\"refused\":1,\"stopped\":\"the next record: raw takes no record"
        ),
        "{printed}"
    );
    assert_eq!(call(dir.path(), &["drain"]), (Some(75), counts(1, 1)));
    let (_, listed) = call(dir.path(), &["quarantine"]);
    assert!(listed.contains("it is damaged on the disk"), "{listed}");
}

#[test]
fn the_probe_is_answered_while_a_spool_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (_running, admin, listen) = start(dir.path(), "077");
        up(admin);
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
    up(admin);
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
