//! Requests that senders and proxies in the field make: odd, and as good as any other.

use serde_json::json;

use super::ALL;
use super::api::{Provider, partition_key};
use super::fixture::verifier;
use super::sender_tests::Source;
use super::testing::Unsigned;
use crate::event::Fields;
use crate::reason::Reason;

const AT: i64 = 1_700_000_000;

/// What an event's sample becomes once its body is changed and signed again: its partition key and its
/// columns, or the reason and its detail.
fn signed(
    provider: &'static dyn Provider,
    event: &str,
    change: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Result<(Vec<u8>, Fields), String> {
    let source = Source::new(provider);
    let mut unsigned = provider.sender().sample(event, 7, AT);
    unsigned.body = change(unsigned.body);
    let Unsigned { body, .. } = &unsigned;
    let request = source.sign(&unsigned, &source.secret, AT);
    let authentic = source
        .verify(&request, body)
        .map_err(|refusal| format!("{}: {}", refusal.reason, refusal.detail))?;
    let key = partition_key(source.verifier.as_ref(), &request.headers, body);
    Ok((key, authentic.payload.fields()))
}

/// Every event of every provider.
fn samples() -> impl Iterator<Item = (&'static dyn Provider, &'static str)> {
    let events = |provider: &'static dyn Provider| provider.sender().events().iter();
    ALL.into_iter()
        .flat_map(move |provider| events(provider).map(move |event| (provider, *event)))
}

#[test]
fn a_key_with_half_a_surrogate_pair_is_a_key_like_any_other() {
    for (provider, event) in samples() {
        let plain = signed(provider, event, |body| body).expect("a sample");
        for key in [r"\ud83d", r"name\udc00", r"\ude00\ud83d", r"\uD83D\ud83d"] {
            // At the beginning of each object of the body, one after the other.
            let mut at = 0;
            loop {
                let mut inserted = false;
                let outcome = signed(provider, event, |body| {
                    let mut text = String::from_utf8(body).expect("UTF-8");
                    if let Some(found) = text[at..].find('{') {
                        at += found + 1;
                        let comma = if text[at..].starts_with('}') { "" } else { "," };
                        text.insert_str(at, &format!("\"{key}\":\"x\"{comma}"));
                        inserted = true;
                    }
                    text.into_bytes()
                });
                assert_eq!(outcome.as_ref(), Ok(&plain), "{event} with {key} at {at}");
                if !inserted {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_byte_order_mark_before_the_body_is_passed_over() {
    let marked = |body: Vec<u8>| [b"\xef\xbb\xbf".as_slice(), &body].concat();
    for (provider, event) in samples() {
        let plain = signed(provider, event, |body| body);
        assert_eq!(signed(provider, event, marked), plain, "{event}");
        // One: two of them are no more JSON than anything else before the first bracket. Flock, whose scheme
        // is not pinned here, takes an object alone for a body that may be signed.
        let twice = signed(provider, event, |body| marked(marked(body)));
        let refusal = twice.expect_err("no JSON");
        let reasons = ["malformed_json", "signature_mismatch"];
        let reason = reasons[usize::from(provider.spec().name == "flock")];
        assert!(refusal.starts_with(reason), "{event}: {refusal}");
    }
}

#[test]
fn what_is_signed_over_the_parsed_body_is_signed_without_its_mark() {
    let provider = super::by_name("referralloop").expect("a provider");
    let source = Source::new(provider);
    let sample = provider.sender().sample("signup.created", 7, AT);
    // The signature is over the body written again, which is the sample itself.
    let request = source.sign(&sample, &source.secret, AT);
    let marked = [b"\xef\xbb\xbf ".as_slice(), &sample.body].concat();
    let authentic = source.verify(&request, &marked).expect("an event");
    assert_eq!(authentic.proof.scheme, Some("compact"));
}

/// What a Flowcode sample becomes under a signature header made from its good entry.
fn under_header(make: impl FnOnce(&str) -> String) -> Result<(), Reason> {
    let provider = super::by_name("flowcode").expect("a provider");
    let source = Source::new(provider);
    let sample = provider.sender().sample("scan.created", 7, AT);
    let mut request = source.sign(&sample, &source.secret, AT);
    let mut headers = request.headers.0.iter_mut();
    let found = headers.find(|(name, _)| name == "webhook-signature");
    let value = &mut found.expect("a signature").1;
    let good = String::from_utf8(value.clone()).expect("text");
    *value = make(&good).into_bytes();
    let outcome = source.verify(&request, &sample.body);
    outcome.map(drop).map_err(|refusal| refusal.reason)
}

#[test]
fn a_signature_header_that_a_proxy_folded_is_read_entry_by_entry() {
    // A signature that begins as a version does.
    let other = format!("v1,v1{}=", "A".repeat(41));
    for odd in [
        other.as_str(),
        "v1,rubbish",
        "v2,later",
        "v1,",
        "v1a,v1",
        "rubbish",
        "vubbish",
        ",",
    ] {
        for fold in [" ", ", ", ",", " , ", ",\t", "  ", ",,"] {
            for order in [[0, 1, 1], [1, 0, 1], [1, 1, 0]] {
                let outcome = under_header(|good| {
                    let entries = order.map(|is_odd| if is_odd == 1 { odd } else { good });
                    entries.join(fold)
                });
                assert_eq!(outcome, Ok(()), "{odd:?} folded with {fold:?}, {order:?}");
            }
        }
    }
}

#[test]
fn a_folded_header_without_a_good_entry_is_as_bad_as_before() {
    let zeros = format!("v1,{}=", "A".repeat(43));
    for (value, reason) in [
        (format!("{zeros}, {zeros}"), Reason::SignatureMismatch),
        (format!("{zeros},{zeros}"), Reason::SignatureMismatch),
        (format!("v1,rubbish,{zeros}"), Reason::SignatureMismatch),
        ("v2,later, v1,rubbish".into(), Reason::SignatureMismatch),
        ("v1,rubbish, v1,rubbish".into(), Reason::SignatureMalformed),
        ("v1,v2,v1,v1".into(), Reason::SignatureMalformed),
        (",".into(), Reason::SignatureMalformed),
        (", ,".into(), Reason::SignatureMalformed),
        ("v1".into(), Reason::SignatureMalformed),
        ("v1, v1".into(), Reason::SignatureMalformed),
        (
            format!("{}, {zeros}", "x".repeat(4096)),
            Reason::SignatureMalformed,
        ),
    ] {
        assert_eq!(under_header(|_| value.clone()), Err(reason), "{value}");
    }
    // A blank between a version and its signature is no fold.
    let parted = under_header(|good| good.replacen("v1,", "v1 ", 1));
    assert_eq!(parted, Err(Reason::SignatureMalformed));
    // The bound on v1a entries counts those of a folded header too.
    let many = format!("v1a,{}==", "A".repeat(86));
    let many = under_header(|good| format!("{},{good}", [many.as_str(); 9].join(",")));
    assert_eq!(many, Err(Reason::SignatureMalformed));
}

/// What a `ReferralLoop` request with a good token becomes under these values of the signature's header.
fn with_a_token(signature: &str, values: &[&str]) -> Result<(), Reason> {
    let provider = super::by_name("referralloop").expect("a provider");
    let source = Source {
        verifier: verifier(provider, json!({ "signature": signature })),
        ..Source::new(provider)
    };
    let sample = provider.sender().sample("signup.created", 7, AT);
    let mut request = source.sign(&sample, &source.secret, AT);
    request.token = true;
    let good = request.headers.0.pop().expect("a signature");
    let headers = values.iter().map(|value| {
        let value = value.replace("good", &String::from_utf8_lossy(&good.1));
        (good.0.clone(), value.into_bytes())
    });
    request.headers.0.extend(headers);
    let outcome = source.verify(&request, &sample.body);
    outcome.map(drop).map_err(|refusal| refusal.reason)
}

#[test]
fn an_empty_signature_that_is_optional_is_none() {
    for (values, outcome) in [
        ([""].as_slice(), Ok(())),
        (&[" \t "], Ok(())),
        (&["", ""], Ok(())),
        (&["good"], Ok(())),
        // Two headers of which one says something are no less odd than before.
        (&["", "good"], Err(Reason::SignatureMalformed)),
        (&["sha256="], Err(Reason::SignatureMalformed)),
        (&["0"], Err(Reason::SignatureMalformed)),
    ] {
        assert_eq!(with_a_token("optional", values), outcome, "{values:?}");
    }
    let required = with_a_token("required", &[""]);
    assert_eq!(required, Err(Reason::SignatureMalformed));
    assert_eq!(with_a_token("off", &["0"]), Ok(()));
}
