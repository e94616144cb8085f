//! What strangers send: no bytes panic, none take long, and the next good request passes.

use proptest::prelude::*;
use serde_json::json;

use super::tests::{endpoint, fixtures, key, request};
use super::{ALL, Credentials, Delivery, partition_key};
use crate::config::{Faults, Node};
use crate::reason::Reason;

/// The headers that the providers read.
const NAMES: [&str; 12] = [
    "x-flock-signature",
    "x-webhook-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "svix-id",
    "svix-timestamp",
    "svix-signature",
    "x-flockler-signature",
    "x-flockler-action",
    "x-flockler-env",
    "x-other",
];

/// Bodies that are no JSON, nearly JSON, and JSON with the members that are read.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let member = prop_oneof![
        Just("name"), Just("data"), Just("timestamp"), Just("entityId"), Just("event_type"),
        Just("waitlist_id"), Just("type"), Just("action"), Just("article"), Just("id"), Just("x"),
    ];
    let value = prop_oneof![
        Just("1"), Just("-1.5e9"), Just("\"update\""), Just("null"), Just("{\"id\":\"\\ud800\"}"),
        Just("{}"), Just("[[]]"), Just("\"2024-01-15T10:00:00Z\""), Just("tru"), Just("9223372036854775807"),
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
    let header = (0..NAMES.len(), value).prop_map(|(at, value)| (NAMES[at].to_owned(), value));
    proptest::collection::vec(header, 0..10)
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
            let endpoint = endpoint(provider, json!({}));
            let mut request = request(provider.facts().name);
            request.headers.0.clone_from(&headers);
            request.received_at = received_at;
            request.token = token;
            prop_assert!(!partition_key(provider, &request.headers, &body).is_empty());
            let delivery = Delivery { request: &request, body: &body };
            if let Ok(authentic) = endpoint.verify(delivery, &Credentials::default()) {
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
        let _ = fixture.endpoint.verify(delivery, &fixture.credentials);
    }
}

thread_local! {
    static FIXTURES: std::rc::Rc<Vec<super::tests::Fixture>> = std::rc::Rc::new(fixtures());
}

#[test]
fn secrets_that_are_ill_formed_are_told_and_not_shown() {
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
                // 23 bytes; no padding; the other alphabet; a blank.
                b"whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2U=",
                b"whsec_dG9wc2VjcmV0dG9wc2VjcmV0dG9wc2VjcmV0dA",
                b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS_",
                b"whsec_ MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                b"whpk_dG9wc2VjcmV0",
                b"whpk_",
            ],
        ),
    ] {
        let provider = super::by_name(provider).expect("a provider");
        let endpoint = endpoint(provider, json!({}));
        for content in contents {
            let error = endpoint.key(content).expect_err("ill-formed");
            assert!(!error.contains("topsecret") && !error.contains("dG9w"), "{error}");
        }
    }
    let flowcode = endpoint(super::by_name("flowcode").expect("a provider"), json!({}));
    assert!(key(flowcode.as_ref(), "k", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_hmac());
}

#[test]
fn options_that_are_wrong_are_told_with_their_paths() {
    for (provider, options, expected) in [
        ("flock", json!({"scheme": "body", "encoding": 1, "max_age": "300", "x": 1}), vec!["scheme", "encoding", "max_age", "x"]),
        ("referralloop", json!({"signature": true, "signed": "x", "max_age": -1}), vec!["signature", "signed", "max_age"]),
        ("flowcode", json!({"headers": "both", "type_field": "kind", "max_age": 5}), vec!["headers", "type_field", "max_age"]),
        ("flockler", json!({}), vec!["webhook_urls"]),
        ("flockler", json!({"webhook_urls": [""], "environments": ["prod"]}), vec!["webhook_urls", "environments"]),
        ("flockler", json!({"webhook_urls": ["https://a.example/v1/hooks/site/t0ken?x"], "environments": []}), vec!["webhook_urls", "environments"]),
        ("flockler", json!({"webhook_urls": ["https://a.example/v1/hooks/site/"], "lowercase": "x", "encoding": "x"}), vec!["encoding", "lowercase"]),
        ("flockler", json!({"webhook_url_files": ["site-url"]}), vec![]),
    ] {
        let faults = Faults::default();
        let mut node = Node::root(options, &faults);
        let _ = super::by_name(provider).expect("a provider").endpoint(&mut node);
        node.finish();
        let found = faults.take();
        let paths: Vec<&str> = found.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, expected, "{provider}");
        assert!(found.iter().all(|fault| !fault.message.contains("t0ken")));
    }
}

#[cfg(feature = "testing")]
mod signed {
    use std::time::{Duration, Instant};

    use super::super::testing::Unsigned;
    use super::super::{Authentic, Endpoint, Provider};
    use super::*;
    use crate::event::Authenticity;
    use crate::identity::fingerprint;
    use crate::raw::RawRequest;
    use crate::reason::Refusal;

    const AT: i64 = 1_700_000_000;
    const MIB: usize = 1 << 20;

    /// A source as the provider's sender describes it.
    struct Source {
        provider: &'static dyn Provider,
        endpoint: Box<dyn Endpoint>,
        credentials: Credentials,
        secret: Vec<u8>,
    }

    impl Source {
        fn new(provider: &'static dyn Provider) -> Self {
            let test = provider.sender().source("site");
            assert_eq!(test.settings["provider"], provider.facts().name);
            assert_eq!(test.settings["secrets"], json!([test.files[0].0]));
            let endpoint = endpoint(provider, test.settings["options"].clone());
            let (name, secret) = test.files[0].clone();
            let keys = vec![key(endpoint.as_ref(), &name, &secret)];
            let credentials = Credentials { keys, ..Credentials::default() };
            Self { provider, endpoint, credentials, secret }
        }

        fn sign(&self, unsigned: &Unsigned, secret: &[u8], at: i64) -> RawRequest {
            let mut request = request(self.provider.facts().name);
            request.received_at = at * 1_000_000;
            let signature = self.provider.sender().sign(unsigned, secret, at);
            let headers = unsigned.headers.iter().cloned().chain(signature);
            request.headers.0 = headers.map(|(name, value)| (name, value.into_bytes())).collect();
            request
        }

        fn verify<'a>(&self, request: &'a RawRequest, body: &'a [u8]) -> Result<Authentic<'a>, Refusal> {
            self.endpoint.verify(Delivery { request, body }, &self.credentials)
        }

        /// The sample's fingerprint, without what the request's own id adds.
        fn mark(&self, unsigned: &Unsigned, at: i64) -> [u8; 16] {
            let request = self.sign(unsigned, &self.secret, at);
            let authentic = self.verify(&request, &unsigned.body).expect("a good sample");
            let parts = authentic.payload.identity().parts;
            fingerprint("site", parts.iter().map(Vec::as_slice))
        }
    }

    #[test]
    fn every_sample_is_authentic_and_tells_its_event() {
        for provider in ALL {
            let (source, sender) = (Source::new(provider), provider.sender());
            let events = sender.events();
            assert!(provider.facts().events.iter().all(|event| events.contains(event)));
            assert!(!events.is_empty());
            for event in events {
                let sample = sender.sample(event, 7, AT);
                let request = source.sign(&sample, &source.secret, AT);
                let authentic = source.verify(&request, &sample.body).expect("a good sample");
                assert_ne!(authentic.proof.authenticity, Authenticity::Token);
                let fields = authentic.payload.fields();
                assert_eq!(fields.r#type, *event);
                assert!(fields.occurred_at.is_none_or(|at| at == AT * 1000));

                assert_eq!(sender.sample(event, 7, AT).body, sample.body);
                let mark = source.mark(&sample, AT);
                assert_ne!(mark, source.mark(&sender.sample(event, 8, AT), AT));
                assert_ne!(mark, source.mark(&sender.sample(event, 7, AT + 1), AT + 1));

                let forged = source.sign(&sample, b"another secret of some length", AT);
                let refusal = source.verify(&forged, &sample.body).err().map(|refusal| refusal.reason);
                assert_eq!(refusal, Some(Reason::SignatureMismatch), "{event}");
            }
        }
    }

    /// Bodies of a mebibyte that are made to be slow to read.
    fn monsters() -> Vec<(&'static str, Vec<u8>)> {
        let fill = |before: &str, unit: &str, after: &str| {
            let room = MIB - before.len() - after.len();
            let body = before.to_owned() + &unit.repeat(room / unit.len()) + after;
            body.into_bytes()
        };
        let half = MIB / 2;
        vec![
            ("one string", fill("\"", "a", "\"")),
            ("one string under data", fill(r#"{"data":{"id":""#, "a", r#""}}"#)),
            ("an id of escapes", fill(r#"{"article":{"id":""#, "\\u0130", r#""},"action":"update"}"#)),
            ("a signup of escapes", fill(r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":""#, "\\n", r#""}}"#)),
            ("a signup of many keys", fill(r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":1"#, r#","k":0,"j":0"#, "}}")),
            ("a signup of many arrays", fill(r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":1,"x":[0"#, ",[]", "]}}")),
            ("a deep signup", fill(r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":1,"x":"#, "[", "")),
            ("arrays, one in another", ("[".repeat(half) + &"]".repeat(half)).into_bytes()),
            ("arrays without an end", "[".repeat(MIB).into_bytes()),
            ("objects without an end", fill("", "{\"a\":", "")),
            ("many keys", fill("{\"a\":0", ",\"a\":0", "}")),
            ("one number", fill("{\"timestamp\":1", "0", "}")),
            ("blanks", fill("", " ", "{}")),
            ("backslashes", fill("\"", "\\\\", "\"")),
            ("capitals of two kinds", fill("{\"article\":{\"title\":\"", "Σİ", "\"}}")),
            ("capitals between bad bytes", b"\xce\xa3\xff".repeat(MIB / 3)),
            ("zeros", vec![0; MIB]),
        ]
    }

    #[test]
    fn a_mebibyte_is_judged_at_once_whatever_it_is() {
        for provider in ALL {
            let source = Source::new(provider);
            let event = provider.sender().events()[0];
            for (name, body) in monsters() {
                let sample = Unsigned { body, ..provider.sender().sample(event, 1, AT) };
                let good = source.sign(&sample, &source.secret, AT);
                let forged = source.sign(&sample, b"another secret of some length", AT);
                for request in [good, forged] {
                    let start = Instant::now();
                    let _ = partition_key(provider, &request.headers, &sample.body);
                    let outcome = source.verify(&request, &sample.body);
                    if let Ok(authentic) = &outcome {
                        let _ = (authentic.payload.identity(), authentic.payload.fields());
                    }
                    // It takes some tens of milliseconds; one quadratic step would take minutes.
                    let took = start.elapsed();
                    assert!(took < Duration::from_secs(3), "{name}: {took:?}");
                    if std::env::var_os("SHOW_TIMES").is_some() {
                        let told = outcome.err().map_or("an event", |refusal| refusal.reason.name());
                        println!("{:>12} {name:>28} {told:>20} {took:?}", provider.facts().name);
                    }
                }
            }
            let sample = provider.sender().sample(event, 1, AT);
            let request = source.sign(&sample, &source.secret, AT);
            assert!(source.verify(&request, &sample.body).is_ok(), "the next good request passes");
        }
    }
}
