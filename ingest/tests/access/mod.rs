//! Who may send to a source, whom its rate counts, and what is left of a token.

use sluice_schemas::identity::sha256;

use crate::support::{Answer, Ingest, LIMITS};

/// SHA-256 of `t0ken`.
fn token() -> String {
    hex::encode(sha256(b"t0ken"))
}

/// Behind a proxy that says who the peer is, with these sources more.
fn behind_a_proxy(sources: &str) -> Ingest {
    Ingest::start_tuned(true, "  peer: {from: forwarded_for}", sources, |_| ())
}

fn post_from(ingest: &Ingest, peer: &str, path: &str, headers: &str) -> Answer {
    let head = format!("POST {path} HTTP/1.1\r\nX-Forwarded-For: {peer}{headers}");
    ingest.send(&head, b"{}")
}

/// A text without escapes, however often they were escaped again.
fn unescaped(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(at) = text.find('%') {
        let code = text
            .get(at + 1..at + 3)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let plain = char::from(code.unwrap_or(b'?')).to_string();
        let end = text.len().min(at + 3);
        text.replace_range(at..end, if plain == "%" { "%" } else { &plain });
    }
    text
}

#[test]
fn no_kept_value_holds_the_token() {
    let ingest = Ingest::start();
    let head = "POST /v1/hooks/list/t0k%65n?from=/v1/hooks/list/t0ken&to=%740ken HTTP/1.1\r\n\
        X-Envoy-Original-Path: /v1/hooks/list/t0k%65n?a=b\r\n\
        X-Original-URL: https://h/v1/hooks/list/t0ken\r\n\
        X-Rewrite-URL: /v1/hooks/list/%74%30%6b%65%6E\r\n\
        Referer: https://h/v1/hooks/list/t0k%2565n/\r\n\
        X-Twice: t0kent0ken, t0t0kenken\r\n\
        X-Other: /v1/hooks/list/t0ke";
    assert_eq!(ingest.send(head, b"{}").status, 200);
    let published = ingest.published();
    let request = &published[0].request;
    let values = request
        .headers
        .0
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8(value.clone()).unwrap()));
    for (name, value) in values.chain([("target", request.target.clone())]) {
        assert!(!unescaped(&value).contains("t0ken"), "{name}: {value}");
    }
    assert_eq!(
        request.target,
        "/v1/hooks/list?from=/v1/hooks/list/***&to=***"
    );
    let kept = |name| request.headers.all(name).next().unwrap();
    assert_eq!(kept("x-envoy-original-path"), b"/v1/hooks/list/***?a=b");
    assert_eq!(kept("x-twice"), b"******, t0***ken");
    assert_eq!(kept("x-other"), b"/v1/hooks/list/t0ke");
}

#[test]
fn what_the_provider_signs_is_kept_as_it_came() {
    let sources = format!(
        "  short: {{provider: flowcode, secrets: [x], token_sha256: ['{}']}}",
        hex::encode(sluice_schemas::identity::sha256(b"v1"))
    );
    let ingest = Ingest::start_tuned(true, "", &sources, |_| ());
    let head = "POST /v1/hooks/short/v1 HTTP/1.1\r\nwebhook-signature: v1,dGVzdA==\r\n\
        webhook-id: msg_v1\r\nx-original-url: /v1/hooks/short/v1";
    assert_eq!(ingest.send(head, b"{}").status, 200);
    let published = ingest.published();
    let kept = |name| published[0].request.headers.all(name).next().unwrap();
    assert_eq!(kept("webhook-signature"), b"v1,dGVzdA==");
    assert_eq!(kept("webhook-id"), b"msg_v1");
    assert_eq!(kept("x-original-url"), b"/***/hooks/short/***");
}

#[test]
fn a_stranger_uses_up_no_rate_but_his_own() {
    let ingest = behind_a_proxy("  open: {provider: flowcode, secrets: [x], rate: 2}");
    let post = |peer: &str| post_from(&ingest, peer, "/v1/hooks/open", "").status;
    let mut last = 0;
    for _ in 0..20 {
        last = post("198.51.100.1");
    }
    assert_eq!(last, 429, "the stranger is over the rate");
    for peer in ["203.0.113.7", "203.0.113.7", "2001:db8::7"] {
        assert_eq!(post(peer), 200, "{peer}");
    }
}

#[test]
fn a_source_that_is_guarded_has_one_rate_for_all_who_pass() {
    let sources = format!(
        "  paced: {{provider: flowcode, secrets: [x], rate: 1, token_sha256: ['{}']}}",
        token()
    );
    let ingest = behind_a_proxy(&sources);
    for _ in 0..5 {
        let refused = post_from(&ingest, "198.51.100.1", "/v1/hooks/paced/wrong", "");
        assert_eq!(refused.status, 404);
    }
    let post = |peer: &str| post_from(&ingest, peer, "/v1/hooks/paced/t0ken", "").status;
    assert_eq!(post("203.0.113.7"), 200);
    // A machine that took a second for one of these had the right to it.
    let answers: Vec<u16> = (1..8)
        .map(|last| post(&format!("203.0.113.{last}")))
        .collect();
    assert!(answers.contains(&429), "{answers:?}");
}

#[test]
fn a_peer_of_no_allowed_network_is_404_like_a_wrong_token() {
    let sources = format!(
        "  near: {{provider: flowcode, secrets: [x], allow_from: [192.0.2.0/24, '2001:db8::/32']}}
  both: {{provider: flowcode, secrets: [x], allow_from: [192.0.2.0/24], token_sha256: ['{}']}}
  six: {{provider: flowcode, secrets: [x], allow_from: ['::/0']}}",
        token()
    );
    let ingest = behind_a_proxy(&sources);
    let unknown = ingest.post("/v1/hooks/nobody", b"{}");
    for (peer, path, passes) in [
        ("192.0.2.255", "/v1/hooks/near", true),
        ("192.0.3.0", "/v1/hooks/near", false),
        // An address of IPv4 that is written as one of IPv6.
        ("::ffff:192.0.2.1", "/v1/hooks/near", true),
        ("::ffff:192.0.3.1", "/v1/hooks/near", false),
        ("2001:db8:ffff::1", "/v1/hooks/near", true),
        ("2001:db9::1", "/v1/hooks/near", false),
        // The first 32 bits alone are those of 192.0.2.1.
        ("c000:0201::1", "/v1/hooks/near", false),
        ("::c000:0201", "/v1/hooks/near", false),
        // Without the header the proxy itself is the peer.
        ("unknown", "/v1/hooks/near", false),
        ("192.0.2.1", "/v1/hooks/both/t0ken", true),
        ("192.0.2.1", "/v1/hooks/both/wrong", false),
        ("192.0.3.1", "/v1/hooks/both/t0ken", false),
        ("2001:db8::1", "/v1/hooks/six", true),
        ("192.0.2.1", "/v1/hooks/six", false),
        // Sources without the setting take anybody.
        ("198.51.100.1", "/v1/hooks/site", true),
    ] {
        let answer = post_from(&ingest, peer, path, "");
        let expected = if passes { 200 } else { 404 };
        assert_eq!(answer.status, expected, "{peer} to {path}");
        assert!(passes || answer == unknown, "{peer} to {path}: {answer:?}");
    }
    // An address is no proof of a sender: that is for tokens and headers alone.
    let published = ingest.published();
    let proved = published.iter().filter(|one| one.request.token);
    assert!(proved.map(|one| one.request.source.as_str()).eq(["both"]));
}

#[test]
fn a_required_value_of_more_than_4_kib_does_not_match() {
    let values = [4_096, 4_097].map(|length| "k".repeat(length));
    let hashes = values.each_ref().map(|value| sha256(value.as_bytes()));
    let ingest = Ingest::start_tuned(true, LIMITS, "", |settings| {
        let keyed = settings.sources.get_mut("keyed").unwrap();
        keyed.require_headers = vec![("X-Key".to_owned(), hashes.to_vec())];
    });
    let status = values.map(|value| {
        let head = format!("POST /v1/hooks/keyed HTTP/1.1\r\nx-key: {value}");
        ingest.send(&head, b"{}").status
    });
    assert_eq!(status, [200, 404]);
}
