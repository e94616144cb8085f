//! Arbitrary bytes from outside: none panic a provider or take long, and the next good request passes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::ALL;
use super::api::{Credentials, Delivery, partition_key};
use super::fixture::{Fixture, fixtures, key, request, verifier};
use crate::settings::reader::{Faults, Node};

/// The headers and the members of bodies that the providers' fixtures have.
struct Names {
    headers: Vec<String>,
    members: Vec<String>,
}

fn names() -> Names {
    let (mut headers, mut members) = (BTreeSet::new(), BTreeSet::new());
    FIXTURES.with(|fixtures| {
        for fixture in fixtures.iter() {
            headers.extend(
                fixture
                    .request
                    .headers
                    .0
                    .iter()
                    .map(|(name, _)| name.clone()),
            );
            if let Ok(body) = serde_json::from_slice(&fixture.body) {
                add_members(&body, &mut members);
            }
        }
    });
    Names {
        headers: headers.into_iter().collect(),
        members: members.into_iter().collect(),
    }
}

/// The keys of an object and of what is in it, but for those that only a test would write.
fn add_members(value: &Value, members: &mut BTreeSet<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            members.insert(name.clone());
        }
        add_members(value, members);
    }
}

/// Bodies that are no JSON, nearly JSON, and JSON with the members that are read.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let member = prop::sample::select(names().members);
    let value = prop_oneof![
        Just("1"),
        Just("-1.5e9"),
        Just("\"update\""),
        Just("null"),
        Just("{\"id\":\"\\ud800\"}"),
        Just("{}"),
        Just("[[]]"),
        Just("\"2024-01-15T10:00:00Z\""),
        Just("tru"),
        Just("9223372036854775807"),
    ];
    let member = (member, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object = proptest::collection::vec(member, 0..6)
        .prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes());
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), object]
}

fn header_lists() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        "[0-9a-f]{64}".prop_map(String::into_bytes),
        "v1,[A-Za-z0-9+/]{43}= v1a,[A-Za-z0-9+/]{86}==".prop_map(String::into_bytes),
        "[0-9]{0,30}".prop_map(String::into_bytes),
        Just(b"update".to_vec()),
    ];
    let name = prop::sample::select(names().headers);
    proptest::collection::vec((name, value), 0..10)
}

proptest! {
    #[test]
    fn no_bytes_panic_a_provider(
        headers in header_lists(),
        body in bodies(),
        received_at in any::<i64>(),
        token in any::<bool>(),
    ) {
        for provider in ALL {
            let verifier = verifier(provider, json!({}));
            let mut request = request(provider.spec().name);
            request.headers.0.clone_from(&headers);
            request.received_at = received_at;
            request.token = token;
            prop_assert!(!partition_key(verifier.as_ref(), &request.headers, &body).is_empty());
            let delivery = Delivery { request: &request, body: &body };
            if let Ok(authentic) = verifier.verify(delivery, &Credentials::default()) {
                prop_assert!(!authentic.payload.identity().parts.is_empty());
                prop_assert!(!authentic.payload.fields().r#type.is_empty());
            }
        }
    }

    /// The members are read of what is authentic alone, so bodies are also tried under a token.
    #[test]
    fn no_bytes_panic_an_authentic_delivery(body in bodies(), at in any::<prop::sample::Index>()) {
        let fixtures = FIXTURES.with(Clone::clone);
        let fixture = &fixtures[at.index(fixtures.len())];
        let mut request = fixture.request.clone();
        request.token = true;
        let delivery = Delivery { request: &request, body: &body };
        let _ = fixture.verifier.verify(delivery, &fixture.credentials);
    }
}

thread_local! {
    static FIXTURES: std::rc::Rc<Vec<Fixture>> = std::rc::Rc::new(fixtures());
}

#[test]
fn ill_formed_secrets_are_reported_and_not_shown() {
    for (provider, contents) in [
        ("flock", [b"".as_slice(), b"top\xffsecret"].as_slice()),
        ("referralloop", &[b"", b"top\xffsecret"]),
        ("flockler", &[b"", b"top\xffsecret"]),
        (
            "flowcode",
            &[
                b"",
                b"topsecret",
                b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                // 23 bytes, padded or not; the other alphabet; a blank; a bit too many; half a group.
                b"whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2U=",
                b"whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2U",
                b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS_",
                b"whsec_ MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                b"whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2VjcmV0dB",
                b"whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2VjcmV0d",
                b"whpk_dG9wc2VjcmV0",
                b"whpk_",
            ],
        ),
    ] {
        let provider = super::by_name(provider).expect("a provider");
        let verifier = verifier(provider, json!({}));
        for content in contents {
            let error = verifier.key(content).expect_err("ill-formed");
            assert!(
                !error.contains("topsecret") && !error.contains("dG9w"),
                "{error}"
            );
        }
    }
}

/// The points of Ed25519 whose order is small, each as it is written without its sign: 0, 1 and −1, the two
/// of order eight, and what is written past the prime for 0 and 1.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn a_public_key_under_which_anybody_can_sign_is_a_fault() {
    let flowcode = verifier(super::by_name("flowcode").expect("a provider"), json!({}));
    let key =
        |bytes: &[u8]| flowcode.key(format!("whpk_{}", super::sending::base64(bytes)).as_bytes());
    for hex in SMALL_ORDER {
        for sign in [0, 0x80] {
            let mut point: [u8; 32] = hex::decode(hex).expect("hex").try_into().expect("32 bytes");
            point[31] |= sign;
            // R as the neutral point and S as 0 fit every message under the neutral point as the key.
            let mut forged = [0; 64];
            forged[0] = 1;
            let seen = key(&point);
            let forgeable = seen
                .as_ref()
                .is_ok_and(|key| key.ed25519_matches(b"any", &forged));
            let fault = seen.err();
            assert!(
                fault
                    .as_deref()
                    .is_some_and(|fault| fault.contains("anybody can sign")),
                "{hex} with sign {sign:#x} is taken; a forgery passes: {forgeable}"
            );
        }
    }
    // Past the prime there is a second way to write a point.
    for first in 0xed..=0xff {
        let mut point = [0xff; 32];
        (point[0], point[31]) = (first, 0x7f);
        assert!(key(&point).is_err(), "{first:#x}");
    }
    // The largest y below the prime but −1, and the published key.
    let mut point = [0xff; 32];
    (point[0], point[31]) = (0xeb, 0x7f);
    assert!(key(&point).is_ok());
    assert!(
        flowcode
            .key(b"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")
            .is_ok()
    );
}

#[test]
fn a_secret_that_anybody_guesses_is_a_fault() {
    for provider in ["flock", "referralloop", "flockler"] {
        let verifier = verifier(super::by_name(provider).expect("a provider"), json!({}));
        for weak in [
            " ",
            "\t \u{a0}\u{3000}",
            "\n",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "x",
        ] {
            let seen = verifier.key(weak.as_bytes()).map(|_| ());
            let fault = seen.expect_err(&format!("{provider} takes {weak:?}"));
            assert!(
                fault.contains("blank") || fault.contains("the same"),
                "{fault}"
            );
        }
        for good in ["ab", " a", "flock_secret", "aaaaaaaaaaaaaaaaaab"] {
            assert!(verifier.key(good.as_bytes()).is_ok(), "{provider} {good:?}");
        }
    }
    let flowcode = verifier(super::by_name("flowcode").expect("a provider"), json!({}));
    for byte in [0_u8, b' ', 0xff] {
        let content = format!("whsec_{}", super::sending::base64(&[byte; 32]));
        let fault = flowcode
            .key(content.as_bytes())
            .expect_err("all bytes are the same");
        assert!(fault.contains("the same"), "{fault}");
    }
}

#[test]
fn a_flowcode_secret_may_lack_its_padding_and_base64url_is_reported() {
    let flowcode = verifier(super::by_name("flowcode").expect("a provider"), json!({}));
    let tag = |content: &str| {
        let key = key(flowcode.as_ref(), "k", content.as_bytes());
        key.hmac_of(&[b"m"]).expect("a shared secret")
    };
    let padded = tag("whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2VjcmV0dA==");
    for unpadded in ["dA", "dA="] {
        let content = format!("whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2VjcmV0{unpadded}");
        assert_eq!(tag(&content), padded);
    }
    let _ = tag("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let public = "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4";
    for content in [format!("whpk_{public}="), format!("whpk_{public}")] {
        assert!(!key(flowcode.as_ref(), "k", content.as_bytes()).is_hmac());
    }
    let fault = |content: &str| flowcode.key(content.as_bytes()).expect_err("a fault");
    for content in [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS_",
        "whsec_MfKQ-r8GKYqrTwjUPD8ILPZIo2LaLaSwAA",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOi-4=",
    ] {
        let message = fault(content);
        assert!(message.contains("is base64url"), "{message}");
        assert!(message.contains("write + for - and / for _"), "{message}");
        assert!(
            !message.contains("MfKQ") && !message.contains("1SiA"),
            "{message}"
        );
    }
    // What is neither is not taken for base64url.
    for content in [
        "whsec_-+-+",
        "whsec_a b_",
        "whsec_---!",
        "whsec_",
        "whsec_-",
    ] {
        assert!(!fault(content).contains("base64url"), "{content}");
    }
}

#[test]
fn wrong_options_are_reported_with_their_paths() {
    for (provider, options, expected) in [
        (
            "flock",
            json!({"scheme": "body", "encoding": 1, "max_age": "300", "x": 1}),
            vec!["scheme", "encoding", "max_age", "x"],
        ),
        (
            "referralloop",
            json!({"signature": true, "signed": "x", "max_age": -1}),
            vec!["signature", "signed", "max_age"],
        ),
        (
            "flowcode",
            json!({"headers": "both", "type_field": "kind", "max_age": 5}),
            vec!["headers", "type_field", "max_age"],
        ),
        ("flockler", json!({}), vec!["webhook_urls"]),
        (
            "flockler",
            json!({"webhook_urls": [""], "environments": ["prod"]}),
            vec!["webhook_urls", "environments"],
        ),
        (
            "flockler",
            json!({"webhook_urls": ["https://a.example/v1/hooks/site/t0ken?x"], "environments": []}),
            vec!["webhook_urls", "environments"],
        ),
        (
            "flockler",
            json!({"webhook_urls": ["https://a.example/v1/hooks/site/"], "lowercase": "x", "encoding": "x"}),
            vec!["encoding", "lowercase"],
        ),
        (
            "flockler",
            json!({"webhook_url_files": ["site-url"]}),
            vec![],
        ),
    ] {
        let faults = Faults::default();
        let mut node = Node::root(options, &faults);
        let _ = super::by_name(provider)
            .expect("a provider")
            .verifier(&mut node);
        node.finish();
        let found = faults.take();
        let paths: Vec<&str> = found.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, expected, "{provider}");
        assert!(found.iter().all(|fault| !fault.message.contains("t0ken")));
    }
}
