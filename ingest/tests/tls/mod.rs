//! TLS: what is spoken above it, certificates that change, and clients' certificates.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sluice_ingest::http::tls::Tls;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use crate::http2;
use crate::peers;
use crate::support::{Ingest, eventually};

mod files;

/// An authority, which signs.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Pair {
    cert: String,
    key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    fn sign(&self, usage: ExtendedKeyUsagePurpose, year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        Pair {
            cert: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn server(&self) -> Pair {
        self.server_until(4096)
    }

    /// Ends with this year's beginning.
    fn server_until(&self, year: i32) -> Pair {
        self.sign(ExtendedKeyUsagePurpose::ServerAuth, year)
    }

    fn client(&self) -> Pair {
        self.sign(ExtendedKeyUsagePurpose::ClientAuth, 4096)
    }

    /// How a client is set up that trusts this authority and shows a certificate, or none.
    pub fn trusted_by(&self, shown: Option<&Pair>, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

/// Writes a pair as a careful person does: never half a file.
fn write(dir: &Path, pair: &Pair) {
    for (name, content) in [("tls.crt", &pair.cert), ("tls.key", &pair.key)] {
        let new = dir.join(format!("{name}.new"));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, dir.join(name)).unwrap();
    }
}

fn yaml(dir: &TempDir) -> String {
    let dir = dir.path().display();
    format!("  tls: {{cert_file: {dir}/tls.crt, key_file: {dir}/tls.key}}")
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

pub fn connect(ingest: &Ingest, config: &Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(client, ingest.connect().0)
}

/// Writes a certificate of this authority; the lines of YAML that serve it.
pub fn serving(dir: &TempDir, authority: &Authority) -> String {
    write(dir.path(), &authority.server());
    yaml(dir)
}

/// One request that ends the connection or not, and the status of its answer.
fn post(stream: &mut Stream, path: &str) -> String {
    let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> &str {
    &answer[9..12]
}

fn shown(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn der(pair: &Pair) -> Vec<u8> {
    let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    cert.to_vec()
}

#[test]
fn both_protocols_are_spoken_as_the_client_asks() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    write(dir.path(), &authority.server());
    let ingest = Ingest::start_under(&yaml(&dir));
    let mut stream = connect(&ingest, &authority.trusted_by(None, b"http/1.1"));
    for _ in 0..2 {
        assert_eq!(status(&post(&mut stream, "/v1/hooks/site")), "200");
    }
    let config = authority.trusted_by(None, b"h2");
    http2::run(async {
        let stream = tokio::net::TcpStream::connect(ingest.address)
            .await
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let sent = http2::send(&mut client, http2::post("/v1/hooks/site"), "{}").await;
        assert_eq!(sent.0, 200);
    });
    assert_eq!(ingest.published().len(), 3);
}

#[test]
fn the_header_of_a_proxy_comes_before_the_handshake() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    write(dir.path(), &authority.server());
    let more = format!("{}\n  peer: {{from: proxy_protocol}}", yaml(&dir));
    let ingest = Ingest::start_under(&more);
    let mut stream = connect(&ingest, &authority.trusted_by(None, b"http/1.1"));
    let header = peers::proxied(1, [203, 0, 113, 7]);
    stream.sock.write_all(&header).unwrap();
    assert_eq!(status(&post(&mut stream, "/v1/hooks/site")), "200");
    assert_eq!(
        ingest.published()[0].request.peer.to_string(),
        "203.0.113.7"
    );
}

#[test]
fn a_handshake_that_fails_blocks_no_other_connection() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    write(dir.path(), &authority.server());
    let more = format!("{}\n  limits: {{handshake_timeout: 1s}}", yaml(&dir));
    let ingest = Ingest::start_under(&more);
    let mut silent = ingest.connect();
    let mut slow = ingest.connect();
    slow.write_bytes(&[22, 3, 1]);
    let config = authority.trusted_by(None, b"http/1.1");
    let mut half = connect(&ingest, &config);
    half.conn.write_tls(&mut half.sock).unwrap();
    let mut stream = connect(&ingest, &config);
    assert_eq!(status(&post(&mut stream, "/v1/hooks/site")), "200");
    let mut plain = ingest.connect();
    plain.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    plain.rest();
    assert_eq!(silent.rest(), b"");
    assert_eq!(slow.rest(), b"");
    let counted = "sluice_ingest_connections_shed_total{reason=\"tls_handshake\"} 4";
    eventually("all are counted", || ingest.metrics().contains(counted));
    assert_eq!(ingest.published().len(), 1);
}

#[test]
fn a_flood_is_ended_as_early_as_in_the_clear() {
    const SENT: usize = 20_000;
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    write(dir.path(), &authority.server());
    let ingest = Ingest::start_under(&yaml(&dir));
    let mut stream = connect(&ingest, &authority.trusted_by(None, b"h2"));
    let mut flood = http2::PREFACE.to_vec();
    flood.extend(http2::frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(SENT));
    // Some of it may find the connection closed, and an end without a goodbye is one too.
    let _ = stream.write_all(&flood);
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    assert!(ingest.shed("overhead"), "{}", ingest.metrics());
    // Of 48 KiB and what is on its way within ingest, 15 bytes each; acknowledged in 9.
    let acknowledged = answers.len() / 9;
    assert!(acknowledged < SENT / 2, "{acknowledged}");
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_the_open_ones_go_on() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (first, second, third) = (
        authority.server_until(2040),
        authority.server_until(2050),
        authority.server(),
    );
    write(dir.path(), &first);
    let more = format!("{}\n  limits: {{idle_timeout: 1h}}", yaml(&dir));
    let ingest = Ingest::start_under(&more);
    let config = authority.trusted_by(None, b"http/1.1");
    let now = || {
        let mut stream = connect(&ingest, &config);
        assert_eq!(status(&post(&mut stream, "/v1/hooks/site")), "200");
        shown(&stream)
    };
    let expiry = || ingest.value("sluice_ingest_certificate_expiry_timestamp_seconds ");
    let mut open = connect(&ingest, &config);
    assert_eq!(status(&post(&mut open, "/v1/hooks/site")), "200");
    assert_eq!(shown(&open), der(&first));
    // In UTCTime, and from 2050 on in GeneralizedTime.
    assert_eq!(expiry(), 2_208_988_800);
    write(dir.path(), &second);
    eventually("the second is shown", || now() == der(&second));
    assert_eq!(expiry(), 2_524_608_000);
    assert_eq!(status(&post(&mut open, "/v1/hooks/site")), "200");
    // A key that does not fit, then no certificate at all.
    let bad = Pair {
        key: third.key.clone(),
        ..second.clone()
    };
    write(dir.path(), &bad);
    let failures = "sluice_ingest_tls_reload_failures_total 0";
    eventually("it is counted", || !ingest.metrics().contains(failures));
    std::fs::remove_file(dir.path().join("tls.crt")).unwrap();
    assert_eq!(now(), der(&second));
    write(dir.path(), &third);
    eventually("the third is shown", || now() == der(&third));
    assert_eq!(status(&post(&mut open, "/v1/hooks/site")), "200");
}

#[test]
fn a_source_may_require_a_certificate_and_answers_404_without_it() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (ours, theirs, nobody) = (Authority::new(), Authority::new(), Authority::new());
    write(dir.path(), &authority.server());
    std::fs::write(dir.path().join("ours.pem"), &ours.pem).unwrap();
    std::fs::write(dir.path().join("theirs.pem"), &theirs.pem).unwrap();
    let source = |name: &str| {
        let ca = dir.path().join(format!("{name}.pem"));
        let ca = ca.display();
        format!("  {name}: {{provider: flowcode, secrets: [x], client_ca_file: {ca}}}\n")
    };
    let sources = source("ours") + &source("theirs");
    let ingest = Ingest::start_tuned(true, &yaml(&dir), &sources, |_| ());
    let without_date = |answer: String| {
        let date = |line: &&str| !line.starts_with("date:");
        let lines: Vec<&str> = answer.lines().filter(date).collect();
        lines.join("\n")
    };
    let ask = |shown: Option<&Pair>, source: &str| {
        let config = authority.trusted_by(shown, b"http/1.1");
        let mut stream = connect(&ingest, &config);
        without_date(post(&mut stream, &format!("/v1/hooks/{source}")))
    };
    let unknown = ask(None, "nobody");
    assert_eq!(status(&unknown), "404");
    let (our, their, other) = (ours.client(), theirs.client(), nobody.client());
    // One that stands for a server stands for no client.
    let misused = ours.server();
    for (shown, source, expected) in [
        (Some(&our), "ours", true),
        (Some(&their), "theirs", true),
        (Some(&their), "ours", false),
        (Some(&our), "theirs", false),
        (Some(&other), "ours", false),
        (Some(&misused), "ours", false),
        (None, "ours", false),
        // A client that shows its certificate everywhere is served where none is required.
        (Some(&other), "site", true),
        (Some(&our), "site", true),
        (None, "site", true),
    ] {
        let answer = ask(shown, source);
        if expected {
            assert_eq!(status(&answer), "200", "{source}");
        } else {
            assert_eq!(answer, unknown, "{source}");
        }
    }
}

#[test]
fn bad_tls_files_are_reported_before_the_start() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let pair = authority.server();
    let load = || {
        let path = dir.path().join("settings.yaml");
        let yaml = format!(
            "kafka: {{bootstrap_servers: b}}\nsources:\n  s: {{provider: flowcode, secrets: [a], \
             client_ca_file: {}/ca.pem}}\ningest:\n{}\n",
            dir.path().display(),
            yaml(&dir)
        );
        std::fs::write(&path, yaml).unwrap();
        Tls::load(&sluice_service::settings::load(&path).unwrap())
    };
    let faults = load().unwrap_err();
    for (fault, path) in faults.iter().zip([
        "ingest.tls.cert_file",
        "ingest.tls.key_file",
        "sources.s.client_ca_file",
    ]) {
        assert_eq!(fault.path, path, "{fault}");
    }
    assert_eq!(faults.len(), 3, "{faults:?}");
    std::fs::write(dir.path().join("ca.pem"), "s3cret").unwrap();
    write(
        dir.path(),
        &Pair {
            key: pair.key.replace("PRIVATE", "PRIVET"),
            ..pair.clone()
        },
    );
    let faults = load().unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(!format!("{faults:?}").contains("s3cret"), "{faults:?}");
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    write(dir.path(), &pair);
    assert!(load().unwrap().is_some());
}

#[test]
fn changed_tls_settings_are_applied_whole_or_not_at_all() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    write(dir.path(), &authority.server());
    let settings = |ingest: &str| {
        let path = dir.path().join("settings.yaml");
        let source = "{provider: flowcode, secrets: [a]}";
        let yaml = format!(
            "kafka: {{bootstrap_servers: b}}\nsources: {{s: {source}}}\ningest:\n{ingest}\n"
        );
        std::fs::write(&path, yaml).unwrap();
        sluice_service::settings::load(&path).unwrap()
    };
    let good = yaml(&dir);
    let tls = Tls::load(&settings(&good)).unwrap().unwrap();
    let before = tls.current();
    let missing = good.replace("tls.crt", "other.crt");
    assert!(tls.change(&settings(&missing)).is_err());
    assert!(tls.change(&settings("  peer: {}")).is_err());
    assert!(Arc::ptr_eq(&before, &tls.current()));
    let crt = dir.path().join("tls.crt");
    std::fs::copy(crt, dir.path().join("other.crt")).unwrap();
    tls.change(&settings(&missing)).unwrap();
    let other = tls.current();
    assert!(!Arc::ptr_eq(&before, &other));
    // The certificate is replaced and its key is not yet; the settings change meanwhile.
    std::fs::write(dir.path().join("other.crt"), authority.server().cert).unwrap();
    let limits = format!("{missing}\n  limits: {{idle_timeout: 1h}}");
    tls.change(&settings(&limits)).unwrap();
    assert!(Arc::ptr_eq(&other, &tls.current()));
}
