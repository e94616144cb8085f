//! Which requests are accepted: method, path, token, headers and framing.

use sluice_schemas::identity::sha256;
use sluice_schemas::raw::Ack;

use crate::support::{Ingest, LIMITS, hex};
use crate::{CODED, NOT_CODED, NOT_FOUND, TWO_READINGS};

#[test]
fn a_webhook_becomes_a_raw_record_and_200_names_its_id() {
    let ingest = Ingest::start();
    let head = "POST /v1/hooks/site?a=b HTTP/1.1\r\nWebhook-Id: msg_1\r\nX-Odd: \u{e9}\r\n\
                Cookie: a=b\r\nAuthorization: x\r\nX-Twice: 1\r\nX-Twice: 2";
    let answer = ingest.send(head, b"\xff not JSON");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.headers.contains("content-type: application/json"),
        "{answer:?}"
    );
    let published = ingest.published();
    let [record] = published.as_slice() else {
        panic!("{published:?}")
    };
    let request = &record.request;
    assert_eq!(answer.body, format!("{{\"id\":\"{}\"}}", request.id));
    assert_eq!(request.id.get_version_num(), 7);
    assert_eq!(record.value, b"\xff not JSON");
    assert_eq!(record.key, b"msg_1");
    assert_eq!(
        (request.source.as_str(), request.provider.as_str()),
        ("site", "flowcode")
    );
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/v1/hooks/site?a=b")
    );
    assert_eq!(request.peer.to_string(), "127.0.0.1");
    assert_eq!((request.token, request.ack), (false, Ack::Broker));
    assert_eq!(
        request.headers.all("x-odd").next(),
        Some("\u{e9}".as_bytes())
    );
    let twice: Vec<&[u8]> = request.headers.all("x-twice").collect();
    assert_eq!(twice, [b"1", b"2"]);
    for dropped in ["cookie", "authorization", "connection"] {
        assert_eq!(request.headers.all(dropped).count(), 0, "{dropped}");
    }
    let trace: Vec<&str> = record.traceparent.split('-').collect();
    assert_eq!(
        trace.iter().map(|part| part.len()).collect::<Vec<_>>(),
        [2, 32, 16, 2]
    );
    assert_eq!((trace[0], trace[3]), ("00", "01"));
    let counted = "sluice_ingest_requests_total{source=\"site\",status=\"200\"} 1";
    assert!(ingest.metrics().contains(counted), "{}", ingest.metrics());
}

#[test]
fn any_method_but_post_is_405_source_known_or_not() {
    let ingest = Ingest::start();
    for path in [
        "/v1/hooks/site",
        "/v1/hooks/nobody",
        "/",
        "/v1/hooks/list/t0ken",
    ] {
        for method in ["GET", "PUT", "OPTIONS"] {
            let answer = ingest.send(&format!("{method} {path} HTTP/1.1"), b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.headers.contains("allow: POST"), "{answer:?}");
        }
    }
    assert!(ingest.published().is_empty());
}

#[test]
fn every_404_is_the_same_bytes() {
    let ingest = Ingest::start();
    let unknown = ingest.post("/v1/hooks/nobody", b"{}");
    assert_eq!(unknown.status, 404);
    for path in NOT_FOUND {
        assert_eq!(ingest.post(path, b"{}"), unknown, "{path}");
    }
    for headers in ["X-Key: wrong", "X-Key: k3y\r\nX-Key: k3y"] {
        let head = format!("POST /v1/hooks/keyed HTTP/1.1\r\n{headers}");
        assert_eq!(ingest.send(&head, b"{}"), unknown, "{headers}");
    }
    // 404 comes before what would be said of the request to a source that is there.
    let encoded = "POST /v1/hooks/nobody HTTP/1.1\r\nContent-Encoding: gzip";
    assert_eq!(ingest.send(encoded, &vec![b'x'; 3 << 20]), unknown);
    assert!(ingest.published().is_empty());
    let metrics = ingest.metrics();
    assert!(!metrics.contains("t0k"), "{metrics}");
    for counted in [
        "sluice_ingest_requests_total{source=\"unknown\",status=\"404\"} ",
        "sluice_ingest_requests_total{source=\"list\",status=\"404\"} ",
    ] {
        assert!(metrics.contains(counted), "{metrics}");
    }
    for absent in ["source=\"away\"", "source=\"nobody\""] {
        assert!(!metrics.contains(absent), "{metrics}");
    }
}

#[test]
fn the_right_token_or_header_passes_and_is_not_kept() {
    let ingest = Ingest::start();
    assert_eq!(ingest.post("/v1/hooks/list/t0ken?a=b", b"{}").status, 200);
    let head = "POST /v1/hooks/keyed HTTP/1.1\r\nX-Key: k3y";
    assert_eq!(ingest.send(head, b"{}").status, 200);
    let published = ingest.published();
    assert_eq!(published[0].request.target, "/v1/hooks/list?a=b");
    for record in &published {
        assert!(record.request.token);
        assert_eq!(record.request.headers.all("x-key").count(), 0);
        assert!(!format!("{record:?}").contains("t0ken"), "{record:?}");
    }
}

#[test]
fn every_spelling_of_a_path_is_the_same_source() {
    let ingest = Ingest::start();
    let paths = [
        "/v1/hooks/site/",
        "/v1/hooks/s%69te",
        "/v1/hooks/%73%69%74%65/",
        "/v1/hooks/list/t0ken/",
        "/v1/hooks/list/t0k%65n",
        "/v1/hooks/l%69st/%74%30%6b%65%6E/",
        "/v1/hooks/list/t0k%65n/?a=%65",
        "/v1/hooks/list/t0ken?",
    ];
    for path in paths {
        assert_eq!(ingest.post(path, b"{}").status, 200, "{path}");
    }
    let targets: Vec<String> = ingest
        .published()
        .into_iter()
        .map(|one| one.request.target)
        .collect();
    let (site, list) = ("/v1/hooks/site", "/v1/hooks/list");
    let with_query = "/v1/hooks/list?a=%65";
    let empty_query = "/v1/hooks/list?";
    assert_eq!(
        targets,
        [site, site, site, list, list, list, with_query, empty_query]
    );
    // A token with every unreserved character, each of them escaped.
    let token = "Az09-._~";
    let escaped = token
        .bytes()
        .fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let sources = format!(
        "  open: {{provider: referralloop, token_sha256: ['{}']}}",
        hex(&sha256(token.as_bytes()))
    );
    let ingest = Ingest::start_tuned(true, LIMITS, &sources, |_| ());
    for token in [token, &escaped] {
        let path = format!("/v1/hooks/open/{token}");
        assert_eq!(ingest.post(&path, b"{}").status, 200, "{path}");
    }
    for record in ingest.published() {
        assert_eq!(record.request.target, "/v1/hooks/open");
        let kept = format!("{record:?}").to_lowercase();
        for secret in ["az09", "%41", "%7a"] {
            assert!(!kept.contains(secret), "{record:?}");
        }
    }
}

#[test]
fn a_coded_body_is_415_and_a_value_that_names_no_coding_is_accepted() {
    let ingest = Ingest::start();
    for coding in CODED {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\nContent-Encoding: {coding}");
        assert_eq!(ingest.send(&head, b"{}").status, 415, "{coding}");
    }
    for coding in NOT_CODED {
        let head = format!("POST /v1/hooks/site HTTP/1.1\r\nContent-Encoding: {coding}");
        assert_eq!(ingest.send(&head, b"{}").status, 200, "{coding}");
    }
}

#[test]
fn ambiguous_framing_is_400_and_nothing_behind_it_is_read() {
    let ingest = Ingest::start();
    let smuggled = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    for framing in TWO_READINGS {
        let mut sender = ingest.connect();
        sender.write(&format!(
            "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"
        ));
        sender.write(smuggled);
        let answer = String::from_utf8(sender.rest()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{framing}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: {answer}");
    }
    assert!(ingest.published().is_empty());
    // With both, the chunks are the body (RFC 9112, section 6.3), and nothing after them is read.
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let mut sender = ingest.connect();
        sender.write(&format!(
            "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"
        ));
        sender.write(&format!("2\r\n{{}}\r\n0\r\n\r\n{smuggled}"));
        let answer = String::from_utf8(sender.rest()).unwrap();
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: {answer}");
    }
}

#[test]
fn too_large_heads_are_refused_by_the_parser() {
    let ingest = Ingest::start();
    let long = "x".repeat(70_000);
    for (head, status) in [
        (
            format!("POST /v1/hooks/{long} HTTP/1.1\r\n\r\n"),
            ["414", "431"],
        ),
        (
            format!("POST / HTTP/1.1\r\nx: {long}\r\n\r\n"),
            ["431", "431"],
        ),
        (
            format!("POST / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)),
            ["431", "431"],
        ),
        ("nonsense\r\n\r\n".to_owned(), ["400", "400"]),
    ] {
        let mut sender = ingest.connect();
        sender.write(&head);
        let answer = String::from_utf8(sender.rest()).unwrap();
        let found = answer.get(9..12).unwrap_or_default();
        assert!(status.contains(&found), "{found} for {}", &head[..20]);
    }
}
