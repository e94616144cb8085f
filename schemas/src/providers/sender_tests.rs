//! What the senders of tests make: every sample is good, and a body that is made to be slow is not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Authentic, Credentials, Delivery, Provider, Verifier, partition_key};
use super::fixture::{key, request, verifier};
use super::sending::{SendingSource, Unsigned};
use super::{ALL, SENDERS};
use crate::event::Authenticity;
use crate::identity::fingerprint;
use crate::raw::RawRequest;
use crate::reason::{Reason, Refusal};

const AT: i64 = 1_700_000_000;
const MIB: usize = 1 << 20;

/// A source as the provider's sender describes it.
pub struct Source {
    pub provider: &'static dyn Provider,
    pub verifier: Box<dyn Verifier>,
    pub credentials: Credentials,
    pub secret: Vec<u8>,
}

impl Source {
    pub fn new(provider: &'static dyn Provider) -> Self {
        let test = provider.sender().source("site");
        assert_eq!(test.settings["provider"], provider.spec().name);
        assert_eq!(test.settings["secrets"], json!([test.files[0].0]));
        let verifier = verifier(provider, test.settings["options"].clone());
        let (name, secret) = test.files[0].clone();
        let keys = vec![key(verifier.as_ref(), &name, &secret)];
        let credentials = Credentials {
            keys,
            ..Credentials::default()
        };
        Self {
            provider,
            verifier,
            credentials,
            secret,
        }
    }

    pub fn sign(&self, unsigned: &Unsigned, secret: &[u8], at: i64) -> RawRequest {
        let mut request = request(self.provider.spec().name);
        request.received_at = at * 1_000_000;
        let signature = self.provider.sender().sign(unsigned, secret, at);
        let headers = unsigned.headers.iter().cloned().chain(signature);
        request.headers.0 = headers
            .map(|(name, value)| (name, value.into_bytes()))
            .collect();
        request
    }

    pub fn verify<'a>(
        &self,
        request: &'a RawRequest,
        body: &'a [u8],
    ) -> Result<Authentic<'a>, Refusal> {
        self.verifier
            .verify(Delivery { request, body }, &self.credentials)
    }

    /// The sample's fingerprint, without what the request's own id adds.
    fn mark(&self, unsigned: &Unsigned, at: i64) -> [u8; 16] {
        let request = self.sign(unsigned, &self.secret, at);
        let authentic = self
            .verify(&request, &unsigned.body)
            .expect("a good sample");
        let parts = authentic.payload.identity().parts;
        fingerprint("site", parts.iter().map(Vec::as_slice))
    }
}

#[test]
fn every_sample_is_authentic_and_has_its_event_type() {
    for provider in ALL {
        let (source, sender) = (Source::new(provider), provider.sender());
        let events = sender.events();
        assert!(
            provider
                .spec()
                .documented
                .iter()
                .all(|event| events.contains(event))
        );
        assert!(!events.is_empty());
        for event in events {
            let sample = sender.sample(event, 7, AT);
            let request = source.sign(&sample, &source.secret, AT);
            let authentic = source
                .verify(&request, &sample.body)
                .expect("a good sample");
            assert_ne!(authentic.proof.authenticity, Authenticity::Token);
            let fields = authentic.payload.fields();
            assert_eq!(fields.r#type, *event);
            assert!(fields.occurred_at.is_none_or(|at| at == AT * 1000));

            assert_eq!(sender.sample(event, 7, AT).body, sample.body);
            let mark = source.mark(&sample, AT);
            assert_ne!(mark, source.mark(&sender.sample(event, 8, AT), AT));
            assert_ne!(mark, source.mark(&sender.sample(event, 7, AT + 1), AT + 1));

            let forged = source.sign(&sample, b"another secret of some length", AT);
            let refusal = source
                .verify(&forged, &sample.body)
                .err()
                .map(|refusal| refusal.reason);
            assert_eq!(refusal, Some(Reason::SignatureMismatch), "{event}");
        }
    }
}

#[test]
fn each_provider_has_its_sender() {
    let names = |spec: &super::Spec| spec.name;
    let senders: Vec<&str> = SENDERS.iter().map(|sender| names(sender.spec())).collect();
    let providers: Vec<&str> = ALL.iter().map(|provider| names(provider.spec())).collect();
    assert_eq!(senders, providers);
}

#[test]
fn what_explains_a_signature_is_what_the_provider_has() {
    for provider in ALL {
        let variants = provider.variants();
        for (option, values) in variants.options {
            for value in *values {
                verifier(provider, json!({ *option: value }));
            }
        }
        if let Some(option) = variants.urls {
            verifier(provider, json!({ option: ["https://example.com/hook"] }));
        }
        for (name, _) in variants.headers {
            assert!(provider.spec().headers.contains(name), "{name}");
        }
        // Whose age is judged has a time that can be read.
        let (source, sender) = (Source::new(provider), provider.sender());
        let sample = sender.sample(sender.events()[0], 1, AT);
        let request = source.sign(&sample, &source.secret, AT);
        let (request, body) = (&request, sample.body.as_slice());
        let signed = source.verifier.signed_at(Delivery { request, body });
        assert!(
            signed == Some(AT * 1000) || !sender.grows_old(),
            "{signed:?}"
        );
    }
}

/// Options that change what is signed, how it is written, or what must stand in the request.
fn options() -> Vec<(&'static str, Value)> {
    let url = "https://hooks.example.com/v1/hooks/site";
    let flockler = |more: Value| {
        let mut options = json!({"webhook_urls": [url]});
        let members = more.as_object().cloned().unwrap_or_default();
        options.as_object_mut().expect("a mapping").extend(members);
        ("flockler", options)
    };
    vec![
        ("flock", json!({})),
        ("flock", json!({"scheme": "ts.data"})),
        ("flock", json!({"scheme": "raw", "encoding": "base64"})),
        ("flock", json!({"scheme": "ts.raw", "encoding": "hex"})),
        ("flock", json!({"scheme": "tsdata", "max_age": "1h"})),
        ("referralloop", json!({"signature": "required"})),
        (
            "referralloop",
            json!({"signature": "optional", "signed": "compact"}),
        ),
        ("flowcode", json!({})),
        (
            "flowcode",
            json!({"headers": "svix", "type_field": "event_type"}),
        ),
        (
            "flowcode",
            json!({"headers": "webhook", "type_field": "eventType"}),
        ),
        flockler(json!({})),
        flockler(json!({"environments": ["staging", "sandbox"], "encoding": "base64"})),
        flockler(json!({"encoding": "base64_hex", "lowercase": "ascii"})),
        flockler(json!({"encoding": "hex", "lowercase": "final_sigma"})),
        ("flockler", json!({"webhook_url_files": ["url"]})),
    ]
}

#[test]
fn what_is_sent_to_a_source_is_authentic_under_its_options() {
    let files = BTreeMap::from([(
        "url".to_owned(),
        b"https://h.example.com/v1/hooks/s/t".to_vec(),
    )]);
    for (name, options) in options() {
        let mut source = Source::new(super::by_name(name).expect("a provider"));
        source.verifier = verifier(source.provider, options.clone());
        source.credentials.files.clone_from(&files);
        let sender = source.provider.sender();
        let sending = SendingSource {
            options: &options,
            secrets: &[source.secret.clone()],
            files: &files,
        };
        for event in sender.events() {
            // Flock's schemes over `data` are those of one shape alone.
            let pinned = options["scheme"]
                .as_str()
                .is_some_and(|scheme| scheme.contains("data"));
            if pinned && *event != "invitee.accepted" {
                continue;
            }
            let sample = sender.sample(event, 7, AT);
            let sent = sender
                .sign_for(sample, &sending, AT)
                .expect("a signed request");
            let mut request = request(name);
            request.received_at = AT * 1_000_000;
            let headers = sent.headers.iter();
            request.headers.0 = headers
                .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
                .collect();
            let authentic = source.verify(&request, &sent.body);
            let authentic =
                authentic.unwrap_or_else(|refusal| panic!("{name} {options}: {refusal:?}"));
            assert_ne!(authentic.proof.authenticity, Authenticity::Token);
            assert_eq!(authentic.payload.fields().r#type, *event, "{options}");
        }
    }
}

#[test]
fn a_source_that_cannot_be_sent_to_says_why() {
    let none = BTreeMap::new();
    let sign = |name: &str, options: Value, secrets: &[Vec<u8>]| {
        let sender = super::by_name(name).expect("a provider").sender();
        let source = SendingSource {
            options: &options,
            secrets,
            files: &none,
        };
        sender.sign_for(sender.sample(sender.events()[0], 1, AT), &source, AT)
    };
    let public = b"whpk_AAAA".to_vec();
    let error = sign("flowcode", json!({}), &[public]).expect_err("no shared secret");
    assert!(error.contains("whsec_"), "{error}");
    assert!(!error.contains("AAAA"), "{error}");
    assert!(sign("flock", json!({}), &[]).is_err());
    // By its token alone.
    let sent = sign("referralloop", json!({"signature": "off"}), &[]).expect("a request");
    assert!(sent.headers.is_empty());
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
        (
            "one string under data",
            fill(r#"{"data":{"id":""#, "a", r#""}}"#),
        ),
        (
            "an id of escapes",
            fill(
                r#"{"article":{"id":""#,
                "\\u0130",
                r#""},"action":"update"}"#,
            ),
        ),
        (
            "a signup of escapes",
            fill(
                r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":""#,
                "\\n",
                r#""}}"#,
            ),
        ),
        (
            "a signup of many keys",
            fill(
                r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":1"#,
                r#","k":0,"j":0"#,
                "}}",
            ),
        ),
        (
            "a signup of many arrays",
            fill(
                r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":1,"x":[0"#,
                ",[]",
                "]}}",
            ),
        ),
        (
            "a deep signup",
            fill(
                r#"{"event_type":"e","waitlist_id":"w","timestamp":"t","data":{"id":1,"x":"#,
                "[",
                "",
            ),
        ),
        (
            "arrays, one in another",
            ("[".repeat(half) + &"]".repeat(half)).into_bytes(),
        ),
        ("arrays without an end", "[".repeat(MIB).into_bytes()),
        ("objects without an end", fill("", "{\"a\":", "")),
        ("many keys", fill("{\"a\":0", ",\"a\":0", "}")),
        ("one number", fill("{\"timestamp\":1", "0", "}")),
        ("blanks", fill("", " ", "{}")),
        ("backslashes", fill("\"", "\\\\", "\"")),
        (
            "capitals of two kinds",
            fill("{\"article\":{\"title\":\"", "Σİ", "\"}}"),
        ),
        (
            "capitals between bad bytes",
            b"\xce\xa3\xff".repeat(MIB / 3),
        ),
        ("zeros", vec![0; MIB]),
    ]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test is about time")]
fn a_mebibyte_of_any_content_is_judged_within_seconds() {
    for provider in ALL {
        let source = Source::new(provider);
        let event = provider.sender().events()[0];
        for (name, body) in monsters() {
            let sample = Unsigned {
                body,
                ..provider.sender().sample(event, 1, AT)
            };
            let good = source.sign(&sample, &source.secret, AT);
            let forged = source.sign(&sample, b"another secret of some length", AT);
            for request in [good, forged] {
                let start = Instant::now();
                let _ = partition_key(source.verifier.as_ref(), &request.headers, &sample.body);
                let outcome = source.verify(&request, &sample.body);
                if let Ok(authentic) = &outcome {
                    let _ = (authentic.payload.identity(), authentic.payload.fields());
                }
                // It takes some tens of milliseconds; one quadratic step would take minutes.
                let took = start.elapsed();
                assert!(took < Duration::from_secs(3), "{name}: {took:?}");
                if std::env::var_os("SHOW_TIMES").is_some() {
                    let said = outcome
                        .err()
                        .map_or("an event", |refusal| refusal.reason.name());
                    println!(
                        "{:>12} {name:>28} {said:>20} {took:?}",
                        provider.spec().name
                    );
                }
            }
        }
        let sample = provider.sender().sample(event, 1, AT);
        let request = source.sign(&sample, &source.secret, AT);
        assert!(
            source.verify(&request, &sample.body).is_ok(),
            "the next good request passes"
        );
    }
}
