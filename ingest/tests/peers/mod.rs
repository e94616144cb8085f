//! Whose word is taken on where a request comes from, and what one peer may take.

use std::time::{Duration, Instant};

use crate::support::{Ingest, Sender};

const REQUEST: &str =
    "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of the PROXY protocol for an IPv4 sender; command 1 speaks for it, 0 for the proxy.
pub fn proxied(command: u8, from: [u8; 4]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([0x20 | command, 0x11, 0, 12 + 5]);
    header.extend(from);
    header.extend([10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);
    // Something that balancers add: a kind, a length, the rest.
    header.extend([0xea, 0, 2, 1, 2]);
    header
}

fn through(ingest: &Ingest, header: &[u8]) -> Sender {
    let mut sender = ingest.connect();
    sender.write_bytes(header);
    sender
}

fn peers(ingest: &Ingest) -> Vec<String> {
    let published = ingest.published();
    published
        .iter()
        .map(|one| one.request.peer.to_string())
        .collect()
}

#[test]
fn the_proxy_header_names_the_peer() {
    let ingest = Ingest::start_under("  peer: {from: proxy_protocol}");
    for header in [proxied(1, [203, 0, 113, 7]), proxied(0, [203, 0, 113, 8])] {
        let mut sender = through(&ingest, &header);
        sender.write(REQUEST);
        assert_eq!(sender.answer().status, 200);
    }
    // The second is the proxy's own, to see whether we are there.
    assert_eq!(peers(&ingest), ["203.0.113.7", "127.0.0.1"]);
}

#[test]
fn a_connection_without_a_good_proxy_header_is_closed() {
    let more = "  peer: {from: proxy_protocol}\n  limits: {handshake_timeout: 300ms}";
    let ingest = Ingest::start_under(more);
    let mut long = SIGNATURE.to_vec();
    long.extend([0x21, 0x11, 0xff, 0xff]);
    let mut short = SIGNATURE.to_vec();
    short.extend([0x21, 0x11, 0, 4, 1, 2, 3, 4]);
    let mut odd = proxied(1, [203, 0, 113, 7]);
    odd[12] = 0x31;
    let version_1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n".to_vec();
    let late = proxied(1, [203, 0, 113, 7])[..20].to_vec();
    let bad = [long, short, odd, version_1, late, Vec::new()];
    for header in &bad {
        let mut sender = through(&ingest, header);
        // Nothing may stand where the rest of a header is waited for.
        if header.len() > 20 {
            sender.write(REQUEST);
        }
        assert_eq!(sender.rest(), b"", "{header:?}");
    }
    let mut plain = ingest.connect();
    plain.write(REQUEST);
    assert_eq!(plain.rest(), b"");
    let counted = "sluice_ingest_connections_shed_total{reason=\"proxy_header\"} 7";
    assert!(ingest.metrics().contains(counted), "{}", ingest.metrics());
    assert!(ingest.published().is_empty());
}

#[test]
fn a_peer_cannot_use_the_connections_of_others() {
    let more = "  peer: {from: proxy_protocol}\n  limits: {peer_connections: 2}";
    let ingest = Ingest::start_under(more);
    let header = proxied(1, [203, 0, 113, 7]);
    let mut open = [through(&ingest, &header), through(&ingest, &header)];
    for sender in &mut open {
        sender.write(&REQUEST.replace("connection: close\r\n", ""));
        assert!(sender.exactly(12).ends_with("200"));
    }
    assert_eq!(through(&ingest, &header).rest(), b"");
    assert!(ingest.shed("peer_connections"), "{}", ingest.metrics());
    let mut other = through(&ingest, &proxied(1, [203, 0, 113, 8]));
    other.write(REQUEST);
    assert_eq!(other.answer().status, 200);
    drop(open);
    // As soon as one has ended, there is room again.
    loop {
        let mut again = through(&ingest, &header);
        again.write(REQUEST);
        if !again.rest().is_empty() {
            break;
        }
    }
}

#[test]
fn a_peer_that_floods_is_read_no_faster_than_it_may_send() {
    let more = "  peer: {from: proxy_protocol}\n  limits: {peer_bytes: 64KiB}";
    let ingest = Ingest::start_tuned(true, more, "", |settings| {
        settings.ingest.body_timeout = Duration::from_secs(60);
        settings.ingest.max_buffered = 4 << 20;
    });
    let body = vec![b'x'; 512 << 10];
    let mut sender = through(&ingest, &proxied(1, [203, 0, 113, 7]));
    sender.write("POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    sender.write(&format!("content-length: {}\r\n\r\n", body.len()));
    let since = Instant::now();
    sender.write_bytes(&body);
    assert_eq!(sender.answer().status, 200);
    // 4 s' worth at once, then 4 s for the rest but for what is read in one go; no machine is quicker.
    assert!(
        since.elapsed() > Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn the_trusted_place_of_x_forwarded_for_names_the_peer() {
    let ingest = Ingest::start_under("  peer: {from: forwarded_for, depth: 2}");
    for headers in [
        "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.1",
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.8, 10.0.0.1",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-For: unknown, 10.0.0.1",
        "X-Other: 1",
    ] {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\n{headers}");
        assert_eq!(ingest.send(&head, b"{}").status, 200, "{headers}");
    }
    let local = "127.0.0.1";
    assert_eq!(
        peers(&ingest),
        ["203.0.113.7", "203.0.113.8", local, local, local]
    );
}

#[test]
fn a_peer_behind_a_proxy_is_429_beyond_its_bytes() {
    let more = "  peer: {from: forwarded_for}\n  limits: {peer_bytes: 64KiB}";
    let ingest = Ingest::start_tuned(true, more, "", |settings| {
        settings.ingest.max_buffered = 4 << 20;
    });
    let send = |peer: &str, body: &[u8]| {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\nX-Forwarded-For: {peer}");
        ingest.send(&head, body)
    };
    // As much as 24 s may bring; what is there is taken, and the next wait.
    assert_eq!(send("203.0.113.7", &vec![b'x'; 3 << 19]).status, 200);
    let over = send("203.0.113.7", b"{}");
    assert_eq!(over.status, 429);
    assert_eq!(ingest.limited("peer_bytes"), 1);
    assert!(over.headers.contains("retry-after: 1"), "{over:?}");
    assert_eq!(send("203.0.113.8", b"{}").status, 200);
}
