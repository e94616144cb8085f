//! What `ingest.tls`, `ingest.peer` and `ingest.limits` may say.

use super::source::source_paths;
use super::*;

#[test]
fn bounds_of_ingest() {
    for (ingest, expected) in [
        ("tls: {cert_file: a.pem}", "ingest.tls.key_file"),
        ("tls: {key_file: a.pem}", "ingest.tls.cert_file"),
        ("tls: {cert_file: '', key_file: k}", "ingest.tls.cert_file"),
        ("peer: {from: anybody}", "ingest.peer.from"),
        ("peer: {depth: 0}", "ingest.peer.depth"),
        ("limits: {surprise: 1}", "ingest.limits.surprise"),
        ("limits: {connections: 0}", "ingest.limits.connections"),
        ("limits: {header_bytes: 1KiB}", "ingest.limits.header_bytes"),
        ("limits: {header_bytes: 1MiB}", "ingest.limits.header_bytes"),
        ("limits: {idle_timeout: 0s}", "ingest.limits.idle_timeout"),
        (
            "limits: {connection_age: 25h}",
            "ingest.limits.connection_age",
        ),
        ("limits: {body_rate: 2MiB}", "ingest.limits.body_rate"),
        (
            "limits: {source_buffered: 2}",
            "ingest.limits.source_buffered",
        ),
        ("limits: {peer_bytes: 1KiB}", "ingest.limits.peer_bytes"),
        (
            "peer: {from: forwarded_for}, limits: {peer_connections: 4}",
            "ingest.limits.peer_connections",
        ),
    ] {
        let yaml = format!("{MINIMAL}ingest: {{{ingest}}}");
        assert_eq!(paths(&yaml), [expected], "{ingest}");
    }
}

#[test]
fn a_name_is_a_file_under_the_secrets_and_a_path_is_taken_as_it_is() {
    let yaml = format!(
        "{MINIMAL}secrets_dir: /s\ningest: {{tls: {{cert_file: tls.crt, key_file: /k/tls.key}}}}"
    );
    let tls = load(&yaml).expect("good settings").ingest.tls;
    let tls = tls.expect("TLS");
    assert_eq!(tls.cert_file, PathBuf::from("/s/tls.crt"));
    assert_eq!(tls.key_file, PathBuf::from("/k/tls.key"));
}

#[test]
fn peers_have_bounds_of_their_own_where_they_are_distinguished() {
    for (peer, connections, bytes) in [
        ("connection", None, None),
        ("proxy_protocol", Some(64), Some(8 << 20)),
        ("forwarded_for", None, Some(8 << 20)),
    ] {
        let yaml = format!("{MINIMAL}ingest: {{peer: {{from: {peer}}}}}");
        let limits = load(&yaml).expect("good settings").ingest.limits;
        assert_eq!(limits.peer_connections, connections, "{peer}");
        assert_eq!(limits.peer_bytes, bytes, "{peer}");
    }
}

#[test]
fn a_source_may_ask_for_certificates_only_under_tls() {
    let source = "{provider: flowcode, secrets: [a], client_ca_file: ca.pem}";
    let yaml = format!("kafka: {{bootstrap_servers: b}}\nsources: {{s: {source}}}\n");
    assert_eq!(paths(&yaml), ["sources.s.client_ca_file"]);
    let with = format!("{yaml}ingest: {{tls: {{cert_file: c, key_file: k}}}}");
    assert!(load(&with).is_ok());
    for rate in ["0", "-1", "fast", "0.5"] {
        let source = format!("{{provider: flowcode, secrets: [a], rate: {rate}}}");
        assert_eq!(source_paths(&source), ["rate"], "{rate}");
    }
    assert!(source_paths("{provider: flowcode, secrets: [a], rate: null}").is_empty());
}
