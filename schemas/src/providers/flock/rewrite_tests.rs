//! A stranger with one recorded request: what he can make of what it signed.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fate::Fate;
use crate::providers::fixture::{key, request, verifier};
use crate::providers::{Authentic, Credentials, Delivery, by_name};
use crate::reason::{Reason, Refusal};

const SECRET: &[u8] = b"flock_secret";
const NOW: i64 = 1_641_234_567;

/// A source under these options gets a body with the signature over `signed`: the scheme that matched.
fn verified(options: Value, signed: &[u8], body: &[u8]) -> Result<&'static str, Refusal> {
    let verifier = verifier(by_name("flock").expect("a provider"), options);
    let key = key(verifier.as_ref(), "flock-prod", SECRET);
    let mac = hex::encode(key.hmac_of(&[signed]).expect("a shared secret"));
    let mut request = request("flock");
    request.received_at = NOW * 1_000_000;
    let header = ("x-flock-signature".to_owned(), mac.into_bytes());
    request.headers.0.push(header);
    let credentials = Credentials {
        keys: vec![key],
        ..Credentials::default()
    };
    let delivery = Delivery {
        request: &request,
        body,
    };
    let Authentic { proof, .. } = verifier.verify(delivery, &credentials)?;
    Ok(proof.scheme.expect("a signature"))
}

/// What a genuine sender signs.
#[derive(Debug, Clone)]
enum Signed {
    Body(String),
    Timed {
        time: String,
        between: &'static str,
        text: String,
    },
}

impl Signed {
    fn text(&self) -> String {
        match self {
            Self::Body(body) => body.clone(),
            Self::Timed {
                time,
                between,
                text,
            } => format!("{time}{between}{text}"),
        }
    }

    /// Whether a body that is accepted under a scheme says what was signed, and no more.
    fn says(&self, scheme: &str, body: &str) -> bool {
        let members: Value = serde_json::from_str(body).expect("an event is JSON");
        let time_is = |time: &str| match &members["timestamp"] {
            Value::String(text) => text == time,
            other => {
                let written = other.to_string();
                written == time
            }
        };
        match (self, scheme) {
            (Self::Body(signed), "raw") => signed == body,
            (Self::Timed { time, text, .. }, "ts.raw") => time_is(time) && text == body,
            (Self::Timed { time, text, .. }, "ts.data" | "tsdata") => {
                let data: Value = serde_json::from_str(text).expect("an object");
                time_is(time) && members["data"] == data
            }
            _ => false,
        }
    }
}

fn signed() -> impl Strategy<Value = Signed> {
    let time = prop_oneof![
        Just(NOW.to_string()),
        Just(format!("{NOW}.5")),
        Just("2022-01-03T18:29:27Z".to_owned()),
        Just("2022-01-03 18:29:27 UTC".to_owned()),
    ];
    let text = prop_oneof![
        Just(r#"{"invitee":{"id":"a"}}"#.to_owned()),
        Just(format!(
            r#"{{"name":"referral.accepted","timestamp":{NOW}}}"#
        )),
        Just(format!(
            r#"{{"name":"x","timestamp":{NOW},"data":{{"campaignId":"c"}}}}"#
        )),
        "[a-z]{1,6}".prop_map(|name| format!(r#"{{"name":"{name}","timestamp":{NOW}}}"#)),
    ];
    let timed = (time, prop::sample::select(vec![".", ""]), text.clone());
    let timed = timed.prop_map(|(time, between, text)| Signed::Timed {
        time,
        between,
        text,
    });
    prop_oneof![text.prop_map(Signed::Body), timed]
}

/// Bodies that a stranger makes of a signed text that he knows, divided at a place.
fn rewritings(signed: &str, at: usize) -> Vec<String> {
    let (before, after) = signed.split_at(at);
    let after_stop = after.strip_prefix('.').unwrap_or(after);
    let mut all = vec![signed.to_owned(), after_stop.to_owned()];
    for time in ["", " ", "{", before, after, signed] {
        let time = json!(time).to_string();
        for data in ["{}", "null", signed, before, after, after_stop] {
            for data in [data.to_owned(), json!(data).to_string()] {
                all.push(format!(
                    r#"{{"name":"reward.fulfilled","timestamp":{time},"data":{data}}}"#
                ));
            }
        }
        all.push(format!(
            r#"{{"name":"reward.fulfilled","timestamp":{time}}}"#
        ));
    }
    all.push(format!(
        r#"{{"name":"x","timestamp":{before},"data":{after_stop}}}"#
    ));
    all
}

proptest! {
    #[test]
    fn what_is_accepted_was_signed_as_that_time_and_data_or_as_that_body(
        signed in signed(),
        at in any::<prop::sample::Index>(),
        age in prop::sample::select(vec![json!({"max_age": 0}), json!({})]),
    ) {
        let text = signed.text();
        let at = at.index(text.len());
        let places = [0, at, text.find('{').unwrap_or(0), text.find('.').unwrap_or(0)];
        for at in places {
            for body in rewritings(&text, at) {
                if let Ok(scheme) = verified(age.clone(), text.as_bytes(), body.as_bytes()) {
                    prop_assert!(signed.says(scheme, &body), "{scheme} of {signed:?} took {body}");
                }
            }
        }
    }

    /// S8: no rewriting of what was signed for a time ends where a stranger must not write.
    #[test]
    fn a_rewritten_request_is_rejected_and_no_dead_letter(
        signed in signed(),
        at in any::<prop::sample::Index>(),
    ) {
        let text = signed.text();
        for body in rewritings(&text, at.index(text.len())) {
            let seen = verified(json!({"max_age": 0}), text.as_bytes(), body.as_bytes());
            let fate = seen.as_ref().err().map(|refusal| refusal.reason.fate());
            // The sender's own bytes are judged as they are.
            if !matches!(&signed, Signed::Body(own) if *own == body) {
                prop_assert_ne!(fate, Some(Fate::DeadLetter), "{:?} of {}", seen, body);
            }
        }
    }
}

#[test]
fn a_signed_text_sent_as_the_body_is_a_mismatch_under_auto_alone() {
    let data = r#"{"invitee":{"id":"a"}}"#;
    let reason = |options: &Value, body: &str| {
        let seen = verified(options.clone(), body.as_bytes(), body.as_bytes());
        seen.err().map(|refusal| refusal.reason)
    };
    let texts = [
        format!("{NOW}.{data}"),
        format!("{NOW}{data}"),
        format!("{NOW}"),
        "[]".to_owned(),
        "{\"name\":".to_owned(),
        String::new(),
    ];
    for text in &texts {
        for auto in [json!({}), json!({"max_age": 0}), json!({"scheme": "auto"})] {
            let seen = reason(&auto, text);
            assert_eq!(seen, Some(Reason::SignatureMismatch), "{auto} {text}");
        }
    }
    let raw = json!({"scheme": "raw", "max_age": 0});
    for text in &texts {
        let seen = reason(&raw, text).map(Reason::fate);
        assert_eq!(seen, Some(Fate::DeadLetter), "{text}");
    }
    // A key twice is still an object.
    let twice = r#"{"name":"a","name":"b","timestamp":1641234567}"#;
    for options in [json!({}), raw] {
        assert_eq!(reason(&options, twice), Some(Reason::MalformedJson));
    }
}

#[test]
fn a_time_that_cannot_be_read_is_in_no_scheme() {
    // A body that was signed as it is, sent as the data of another event.
    let recorded = r#"{"name":"referrer.visited","entityId":"a"}"#;
    let body = format!(r#"{{"name":"reward.fulfilled","timestamp":"","data":{recorded}}}"#);
    for scheme in ["auto", "tsdata"] {
        let options = json!({"max_age": 0, "scheme": scheme});
        let seen = verified(options, recorded.as_bytes(), body.as_bytes());
        let reason = seen.map_err(|refusal| refusal.reason);
        assert_eq!(reason, Err(Reason::SignatureMismatch), "{scheme}");
    }
}
