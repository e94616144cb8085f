//! A stranger with one recorded request, who changes what its signature ignores: the case of its letters.

use proptest::prelude::*;
use serde_json::json;

use super::lowercase::Lowercase;
use crate::fate::Fate;
use crate::providers::fixture::{key, request, verifier};
use crate::providers::signature::Key;
use crate::providers::{Credentials, Delivery, Proof, Verifier, by_name};
use crate::raw::RawRequest;
use crate::reason::{Reason, Refusal};

const URLS: [&str; 2] = [
    "https://Example.com/Hooks/ΟΔΟΣ?Key=ABC",
    "https://b.example",
];

fn source(ways: &str) -> Box<dyn Verifier> {
    let options = json!({"webhook_urls": URLS, "lowercase": ways});
    verifier(by_name("flockler").expect("a provider"), options)
}

fn credentials(source: &dyn Verifier) -> Credentials {
    Credentials {
        keys: vec![key(source, "a", b"secret-a"), key(source, "b", b"secret-b")],
        ..Credentials::default()
    }
}

/// A request with these headers; its signature is over `signed`, in lower case by `way`.
fn delivered(
    (action, environment): (&[u8], &[u8]),
    signed: (&[u8], &[u8], &str, &[u8]),
    way: Lowercase,
) -> RawRequest {
    let (of_action, of_environment, url, body) = signed;
    let parts = [b"POST", of_action, of_environment, url.as_bytes(), body];
    let text = way.apply(&parts.join(&b'|'));
    let mac = Key::hmac(b"secret-b")
        .hmac_of(&[&text])
        .expect("a shared secret");
    let mut request = request("flockler");
    for (name, value) in [
        ("x-flockler-action", action.to_vec()),
        ("x-flockler-env", environment.to_vec()),
        ("x-flockler-signature", hex::encode(mac).into_bytes()),
    ] {
        request.headers.0.push((name.to_owned(), value));
    }
    request
}

/// What a good request becomes once its headers and its body are these.
fn rewritten(action: &str, environment: &str, body: &str, genuine: &str) -> Result<(), Refusal> {
    let source = source("auto");
    let headers = (action.as_bytes(), environment.as_bytes());
    let signed = (
        b"update".as_slice(),
        b"production".as_slice(),
        URLS[0],
        genuine.as_bytes(),
    );
    let request = delivered(headers, signed, Lowercase::Unicode);
    let delivery = Delivery {
        request: &request,
        body: body.as_bytes(),
    };
    source
        .verify(delivery, &credentials(source.as_ref()))
        .map(drop)
}

const GENUINE: &str =
    r#"{"action":"update","article":{"id":7,"title":"a\nb\u00c4","tags":[null,true,1e5]}}"#;

#[test]
fn a_request_whose_case_was_changed_is_a_mismatch() {
    let cases = [
        ("update", "production", GENUINE.replace("null", "NULL")),
        ("update", "production", GENUINE.replace("true", "tRue")),
        ("update", "production", GENUINE.replace(r"\n", r"\N")),
        (
            "update",
            "production",
            GENUINE.replace(r"\u00c4", r"\U00C4"),
        ),
        ("update", "production", GENUINE.replace("action", "Action")),
        (
            "update",
            "production",
            GENUINE.replace("article", "ARTICLE"),
        ),
        ("update", "production", GENUINE.replace("\"id\"", "\"ID\"")),
        ("update", "production", GENUINE.replace("update", "UPDATE")),
        ("UPDATE", "production", GENUINE.to_owned()),
        ("update", "Production", GENUINE.to_owned()),
        // One letter in two of the four ways.
        (
            "update",
            "production",
            GENUINE.replace("article", "art\u{130}cle"),
        ),
    ];
    for (action, environment, body) in cases {
        let seen = rewritten(action, environment, &body, GENUINE);
        let reason = seen.err().map(|refusal| refusal.reason);
        assert_eq!(
            reason,
            Some(Reason::SignatureMismatch),
            "{action} {environment} {body}"
        );
    }
    assert_eq!(rewritten("update", "production", GENUINE, GENUINE), Ok(()));
}

#[test]
fn a_signed_header_that_was_added_is_a_mismatch() {
    for name in ["x-flockler-action", "x-flockler-env"] {
        for first in [false, true] {
            let source = source("auto");
            let signed = (
                b"update".as_slice(),
                b"production".as_slice(),
                URLS[1],
                GENUINE.as_bytes(),
            );
            let mut request = delivered((b"update", b"production"), signed, Lowercase::Unicode);
            let at = if first { 0 } else { request.headers.0.len() };
            request
                .headers
                .0
                .insert(at, (name.to_owned(), b"x".to_vec()));
            let delivery = Delivery {
                request: &request,
                body: GENUINE.as_bytes(),
            };
            let seen = source
                .verify(delivery, &credentials(source.as_ref()))
                .map(drop);
            let reason = seen.err().map(|refusal| refusal.reason);
            assert_eq!(
                reason,
                Some(Reason::SignatureMismatch),
                "{name}, first: {first}"
            );
        }
    }
}

#[test]
fn what_the_sender_wrote_itself_is_a_dead_letter_as_before() {
    let broken = [
        (
            r#"{"action":"update","article":{"id":7}"#,
            Reason::MalformedJson,
        ),
        (
            r#"{"action":"update","action":"update"}"#,
            Reason::MalformedJson,
        ),
        (
            r#"{"action":"publish","article":{"id":7}}"#,
            Reason::ContradictoryHeaders,
        ),
        (r#"{"action":"update","article":{}}"#, Reason::MissingField),
        ("[]", Reason::MissingField),
    ];
    for (body, reason) in broken {
        let seen = rewritten("update", "production", body, body);
        assert_eq!(
            seen.err().map(|refusal| refusal.reason),
            Some(reason),
            "{body}"
        );
    }
}

/// The search as it stood before text was lower-cased once: each way by itself, over all of it.
fn each_way_by_itself(
    request: &RawRequest,
    body: &[u8],
    keys: &[Key],
    mac: &[u8; 32],
) -> Option<(&'static str, String)> {
    let first = |name| request.headers.all(name).next().unwrap_or_default();
    let (action, environment) = (first("x-flockler-action"), first("x-flockler-env"));
    for way in Lowercase::ALL {
        let body = way.apply(body);
        for url in URLS {
            let parts = [
                request.method.as_bytes(),
                action,
                environment,
                url.as_bytes(),
                b"",
            ];
            let prefix = way.apply(&parts.join(&b'|'));
            let mut keys = keys.iter();
            if let Some(key) = keys.find(|key| key.hmac_matches(&[&prefix, &body], mac)) {
                return Some((way.name(), key.name.clone()));
            }
        }
    }
    None
}

/// Text of the letters in which the four ways differ, and of what stands around them.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "a", "B", " ", "|", ".", "'", "\u{301}", "\u{307}", "i\u{307}", "I\u{307}", "İ", "Σ", "σ",
        "ς", "ΑΣ", "ΑΣ.", "Ä", "ä", "K", "ẞ", "Ⱥ", "Θ", "日本", "Ϲ",
    ]);
    let piece = prop_oneof![
        20 => piece.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
        1 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn way() -> impl Strategy<Value = Lowercase> {
    prop::sample::select(Lowercase::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn lower_casing_once_accepts_what_the_four_ways_accept(
        (action, environment, body, other) in (texts(), texts(), texts(), texts()),
        (way, url, is_forged) in (way(), prop::sample::select(URLS.to_vec()), prop::bool::weighted(0.2)),
    ) {
        let signed = if is_forged { &other } else { &body };
        let request = delivered(
            (&action, &environment), (&action, &environment, url, signed), way,
        );
        let source = source("auto");
        let credentials = credentials(source.as_ref());
        let value = request.headers.all("x-flockler-signature").next().expect("a signature");
        let mac: [u8; 32] = hex::decode(value).expect("hex").try_into().expect("32 bytes");
        let expected = each_way_by_itself(&request, &body, &credentials.keys, &mac);
        let seen = proved(&request, &body, &credentials, &mac);
        let seen = seen.map(|Proof { scheme, key_id, .. }| {
            (scheme.expect("a scheme"), key_id.expect("a key"))
        });
        prop_assert!(is_forged || expected.is_some());
        prop_assert_eq!(seen, expected);
    }

    /// S8: a stranger writes letters in another case wherever he likes.
    #[test]
    fn no_change_of_case_makes_a_dead_letter(upper in proptest::collection::vec(any::<bool>(), 100)) {
        let changed = |text: &str, skip: usize| -> String {
            let letters = text.chars().zip(upper.iter().cycle().skip(skip));
            letters.map(|(c, upper)| if *upper { c.to_ascii_uppercase() } else { c }).collect()
        };
        let (action, environment) = (changed("update", 1), changed("production", 7));
        for (action, environment) in [(action.as_str(), environment.as_str()), ("update", "production")] {
            let body = changed(GENUINE, 3);
            let seen = rewritten(action, environment, &body, GENUINE);
            let fate = seen.as_ref().err().map(|refusal| refusal.reason.fate());
            prop_assert_ne!(fate, Some(Fate::DeadLetter), "{:?} of {}", seen, body);
        }
    }
}

fn proved(
    request: &RawRequest,
    body: &[u8],
    credentials: &Credentials,
    mac: &[u8; 32],
) -> Option<Proof> {
    let faults = crate::settings::reader::Faults::default();
    let options = json!({"webhook_urls": URLS});
    let source =
        super::options::Source::read(&mut crate::settings::reader::Node::root(options, &faults));
    let delivery = Delivery { request, body };
    let found = super::signature::verify_signature(&source, credentials, delivery, mac);
    found.ok().map(|(proof, _)| proof)
}

/// The least time of many runs.
#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn least(mut run: impl FnMut()) -> std::time::Duration {
    let times = (0..20).map(|_| {
        let since = std::time::Instant::now();
        run();
        since.elapsed()
    });
    times.min().expect("a run")
}

/// S14: a forgery in letters for which all four ways differ.
#[test]
fn a_forged_mebibyte_is_lower_cased_once() {
    let mut slower = Vec::new();
    for (what, piece) in [
        ("Ä", "Ä"),
        ("all four", "Äİ ΑΣ "),
        ("日", "日Ä"),
        ("ASCII", "aB"),
    ] {
        let body = piece.repeat((1 << 20) / piece.len()).into_bytes();
        let signed = (
            b"update".as_slice(),
            b"production".as_slice(),
            URLS[0],
            b"".as_slice(),
        );
        let request = delivered((b"update", b"production"), signed, Lowercase::Unicode);
        let source = source("auto");
        let credentials = credentials(source.as_ref());
        let before = least(|| {
            assert_eq!(
                each_way_by_itself(&request, &body, &credentials.keys, &[0; 32]),
                None
            );
        });
        let now = least(|| assert!(proved(&request, &body, &credentials, &[0; 32]).is_none()));
        let hashed = least(|| {
            let _ = credentials.keys[0].hmac_of(&[&body]);
        });
        println!("{what}: before {before:?}, now {now:?}, a hash {hashed:?}");
        // Each way by itself would lower-case it four times.
        if what != "ASCII" && now * 10 > before * 8 {
            slower.push(format!("{what}: {now:?} against {before:?}"));
        }
    }
    assert!(
        slower.is_empty(),
        "no faster than each way by itself: {slower:?}"
    );
}
