//! Every cause, brought about on purpose, for each provider's own sender.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sluice_schemas::providers::{ALL, Provider};
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
use sluice_schemas::record::Record;
use uuid::Uuid;

use super::cause::Cause;
use super::verdict::{Given, Verdict, verdict};
use crate::judging::Judging;

mod changed;

mod steps;

const AT: i64 = 1_700_000_000;

pub fn unbase64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("base64")
}

/// A source of each provider, and another of each.
struct Bench {
    dir: tempfile::TempDir,
    judging: Judging,
}

fn name(provider: &dyn Provider) -> String {
    format!("my-{}", provider.spec().name)
}

/// `change` sees each source's settings and the content of its secret.
fn bench(change: &dyn Fn(&mut Value, &mut Vec<u8>)) -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sources = serde_json::Map::new();
    for provider in ALL {
        for name in [name(provider), format!("other-{}", provider.spec().name)] {
            let mut source = provider.sender().source(&name);
            if name.starts_with("my-") {
                change(&mut source.settings, &mut source.files[0].1);
            }
            for (file, content) in &source.files {
                std::fs::write(dir.path().join(file), content).expect("a secret");
            }
            sources.insert(name, source.settings);
        }
    }
    let settings = json!({
        "kafka": {"bootstrap_servers": "localhost:1"},
        "secrets_dir": dir.path(),
        "sources": sources,
    });
    let file = dir.path().join("settings.yaml");
    std::fs::write(&file, settings.to_string()).expect("the settings");
    let settings = sluice_service::settings::load(&file).expect("settings without faults");
    let judging = Judging::new(settings).expect("secrets without faults");
    Bench { dir, judging }
}

/// A request on its way.
#[derive(Clone)]
struct Sent {
    request: RawRequest,
    body: Vec<u8>,
    appended: i64,
}

impl Sent {
    fn header(&mut self, at: usize) -> &mut (String, Vec<u8>) {
        &mut self.request.headers.0[at]
    }

    fn verdict(&self, bench: &Bench, secret: Option<&[u8]>) -> Verdict {
        let record = Record {
            topic: "webhooks.raw".to_owned(),
            partition: 0,
            offset: 0,
            timestamp: self.appended,
            key: Vec::new(),
            value: self.body.clone(),
            headers: vec![(REQUEST.to_owned(), self.request.encode())],
        };
        let given = Given {
            secret: secret.map(<[u8]>::to_vec),
            ..Given::default()
        };
        let found = verdict(&bench.judging, &record, &given, &|_, _, _| Ok(None));
        found.unwrap_or_else(|failure| panic!("{failure:?}"))
    }
}

/// A request that is signed under this secret, or the source's; its signature headers stand first.
fn sent(provider: &dyn Provider, secret: Option<&[u8]>) -> Sent {
    let (name, sender) = (name(provider), provider.sender());
    let files = sender.source(&name).files;
    let secret = secret.unwrap_or(&files[0].1);
    let sample = sender.sample(sender.events()[0], 7, AT);
    let signed = sender.sign(&sample, secret, AT);
    let headers = signed.into_iter().rev().chain(sample.headers);
    let plain = [("content-type".to_owned(), "application/json".to_owned())];
    let headers = headers
        .chain(plain)
        .map(|(name, value)| (name, value.into_bytes()));
    Sent {
        request: RawRequest {
            id: Uuid::from_u128(7),
            source: name.clone(),
            provider: provider.spec().name.to_owned(),
            received_at: AT * 1_000_000,
            method: "POST".to_owned(),
            target: format!("/v1/hooks/{name}"),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            token: false,
            ack: Ack::Broker,
            headers: Headers(headers.collect()),
        },
        body: sample.body,
        appended: AT * 1000,
    }
}

#[track_caller]
fn is(verdict: &Verdict, cause: Cause, what: &str) {
    assert_eq!(verdict.cause, Some(cause.name()), "{what}: {verdict:#?}");
}

/// Breaks the request of each provider; it must be refused for this cause, or be good all the same, and not
/// good for all.
#[track_caller]
fn broken(what: &str, cause: Cause, change: &dyn Fn(&mut Sent)) {
    let bench = bench(&|_, _| {});
    let mut refused = 0;
    for provider in ALL {
        let mut sent = sent(provider, None);
        change(&mut sent);
        let verdict = sent.verdict(&bench, None);
        if !verdict.is_good() {
            refused += 1;
            is(
                &verdict,
                cause,
                &format!("{what}, {}", provider.spec().name),
            );
        }
    }
    assert!(refused > 0, "{what}");
}

#[test]
fn what_is_whole_is_an_event_under_its_secret() {
    let bench = bench(&|_, _| {});
    for provider in ALL {
        let verdict = sent(provider, None).verdict(&bench, None);
        assert!(verdict.is_good() && verdict.cause.is_none(), "{verdict:#?}");
        let secrets = verdict.steps[5].secrets.as_ref().expect("secrets");
        assert_eq!(
            (secrets[0].key_id.as_str(), secrets[0].matches),
            (name(provider).as_str(), true)
        );
        assert_eq!(verdict.steps.len(), super::steps::STEPS.len());
    }
}

/// Another secret in the form of the source's own.
fn another(provider: &dyn Provider) -> Vec<u8> {
    provider.sender().source("a-stranger").files[0].1.clone()
}

#[test]
fn a_wrong_secret_is_likely_and_proved_by_the_right_one() {
    let bench = bench(&|_, _| {});
    for provider in ALL {
        let secret = another(provider);
        let sent = sent(provider, Some(&secret));
        let verdict = sent.verdict(&bench, None);
        is(&verdict, Cause::WrongSecret, "likely");
        assert_eq!(verdict.proved, Some(false));
        let verdict = sent.verdict(&bench, Some(&secret));
        is(&verdict, Cause::WrongSecret, "proved");
        assert_eq!(verdict.proved, Some(true));
        let third = provider.sender().source("a-third").files[0].1.clone();
        is(
            &sent.verdict(&bench, Some(&third)),
            Cause::Unknown,
            "neither",
        );
        let all = serde_json::to_string(&verdict).expect("JSON");
        for secret in [&secret, &third] {
            let secret = String::from_utf8_lossy(secret).into_owned();
            assert!(!all.contains(&secret), "{all}");
        }
        let body = String::from_utf8_lossy(&sent.body).into_owned();
        assert!(
            !all.contains(&body) && !all.contains("example.com"),
            "{all}"
        );
    }
}

#[test]
fn a_request_to_another_sources_url_is_found() {
    let bench = bench(&|_, _| {});
    for provider in ALL {
        let other = format!("other-{}", provider.spec().name);
        let secret = provider.sender().source(&other).files[0].1.clone();
        let verdict = sent(provider, Some(&secret)).verdict(&bench, None);
        is(&verdict, Cause::WrongSource, provider.spec().name);
        assert!(verdict.says.expect("a sentence").contains(&other));
        // And one of another provider.
        for foreign in ALL
            .into_iter()
            .filter(|one| one.spec().name != provider.spec().name)
        {
            let mut sent = sent(foreign, None);
            sent.request.source = name(provider);
            provider.spec().name.clone_into(&mut sent.request.provider);
            is(
                &sent.verdict(&bench, None),
                Cause::WrongSource,
                foreign.spec().name,
            );
        }
    }
}

#[test]
fn a_secret_in_another_form_is_found() {
    for provider in ALL {
        let right = provider.sender().source(&name(provider)).files[0].1.clone();
        let bare = right.strip_prefix(b"whsec_").map(unpadded);
        let signing: Vec<Vec<u8>> = match bare {
            // The sender uses the text, or what stands behind the prefix as text.
            Some(bare) => vec![bare],
            None => vec![
                [right.as_slice(), b"\n"].concat(),
                STANDARD.encode(&right).into_bytes(),
                super::guess::secrets::to_hex(&right).into_bytes(),
                [b"whsec_", right.as_slice()].concat(),
            ],
        };
        let bench = bench(&|_, _| {});
        for secret in signing {
            let verdict = sent(provider, Some(&secret)).verdict(&bench, None);
            is(&verdict, Cause::SecretEncoding, provider.spec().name);
        }
    }
}

#[test]
fn a_secret_that_was_not_valid_is_named_with_the_time() {
    let bench = bench(&|settings, _| {
        let file = settings["secrets"][0].take();
        let ended = json!({"name": file, "not_after": "2020-01-01T00:00:00Z", "key_id": "old"});
        settings["secrets"] = json!([ended]);
    });
    for provider in ALL {
        let verdict = sent(provider, None).verdict(&bench, None);
        is(&verdict, Cause::SecretNotValid, provider.spec().name);
        let says = serde_json::json!(verdict).to_string();
        assert!(says.contains("the secret old fits"), "{says}");
    }
}

/// The text behind the prefix, in a form that the sender takes as text.
fn unpadded(text: &[u8]) -> Vec<u8> {
    [text, b"\n"].concat().trim_ascii().to_vec()
}

#[test]
fn clocks_and_replays_differ_in_their_distance() {
    let far = |seconds: i64| {
        move |sent: &mut Sent| {
            sent.request.received_at += seconds * 1_000_000;
            sent.appended += seconds * 1000;
        }
    };
    broken("early", Cause::Clock, &far(-900));
    broken("late", Cause::Clock, &far(900));
    broken("old", Cause::Replay, &far(86_400));
    broken("our clock", Cause::Clock, &|sent| {
        sent.request.received_at += 86_400 * 1_000_000;
    });
}

#[test]
fn what_names_its_cause_by_itself_does() {
    let bench = bench(&|_, _| {});
    let provider = ALL[0];
    let mut unknown = sent(provider, None);
    unknown.request.source = "nobody".to_owned();
    is(
        &unknown.verdict(&bench, None),
        Cause::SourceUnknown,
        "a name",
    );
    let mut changed = sent(provider, None);
    changed.request.provider = ALL[1].spec().name.to_owned();
    is(
        &changed.verdict(&bench, None),
        Cause::ProviderChanged,
        "a provider",
    );
    assert!(bench.dir.path().exists());
}

#[test]
fn a_url_or_an_option_that_was_not_expected_is_found() {
    for provider in ALL {
        let variants = provider.variants();
        if let Some(option) = variants.urls {
            for (from, to) in [
                ("https://", "http://"),
                ("/v1/", "/proxied/v1/"),
                ("example.com", "example.com:8443"),
            ] {
                let bench = bench(&|settings, _| {
                    if let Some(urls) = settings["options"].get_mut(option) {
                        *urls = json!([urls[0].as_str().expect("a URL").replacen(from, to, 1)]);
                    }
                });
                let mut sent = sent(provider, None);
                sent.request
                    .headers
                    .0
                    .push(("host".to_owned(), b"Hooks.example.com".to_vec()));
                is(&sent.verdict(&bench, None), Cause::ProxyUrl, to);
            }
        }
        for (option, values) in variants.options {
            let mut fits = 0;
            for value in *values {
                let bench = bench(&|settings, _| {
                    if settings["provider"] == json!(provider.spec().name) {
                        settings["options"][*option] = json!(value);
                    }
                });
                let verdict = sent(provider, None).verdict(&bench, None);
                fits += usize::from(verdict.is_good());
                if !verdict.is_good() {
                    is(&verdict, Cause::WrongOptions, value);
                }
            }
            assert!(fits > 0, "{option}");
        }
    }
}
