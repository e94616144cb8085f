//! The steps of an answer: none contradicts its cause, or another step.

use sluice_schemas::providers::ALL;
use sluice_schemas::reason::Reason;

use super::super::steps::{State, Step};
use super::{AT, bench, is, name, sent};
use crate::explain::cause::Cause;

fn step<'s>(steps: &'s [Step], name: &str) -> &'s Step {
    let found = steps.iter().find(|step| step.name == name);
    found.expect("a step of that name")
}

#[test]
fn where_no_signature_can_be_read_no_secret_was_tried() {
    let bench = bench(&|_, _| {});
    for provider in ALL {
        let names = provider.spec().headers;
        let mut missing = sent(provider, None);
        missing
            .request
            .headers
            .0
            .retain(|(name, _)| !names.contains(&name.as_str()));
        let mut malformed = sent(provider, None);
        for (name, value) in &mut malformed.request.headers.0 {
            if names.contains(&name.as_str()) && name.contains("sig") {
                *value = b"?".to_vec();
            }
        }
        for sent in [missing, malformed] {
            let verdict = sent.verdict(&bench, None);
            if verdict.is_good() {
                continue;
            }
            let signature = step(&verdict.steps, "signature");
            let of_it = (signature.state, signature.says.as_str());
            assert_eq!(of_it, (State::Skip, "not reached"), "{verdict:#?}");
            let tried = signature.secrets.as_ref().expect("a list");
            assert!(tried.is_empty(), "{verdict:#?}");
            let timestamp = step(&verdict.steps, "timestamp");
            if timestamp.says.contains("none") {
                assert_ne!(timestamp.state, State::Ok, "{verdict:#?}");
            }
        }
    }
}

#[test]
fn a_body_that_is_no_json_is_not_called_json_and_its_secret_fits() {
    let bench = bench(&|_, _| {});
    let (mut dead, mut mismatch) = (0, 0);
    for provider in ALL {
        let sender = provider.sender();
        let secret = &sender.source(&name(provider)).files[0].1;
        let mut sent = sent(provider, None);
        let mut sample = sender.sample(sender.events()[0], 7, AT);
        sample.body = b"nope".to_vec();
        let signed = sender.sign(&sample, secret, AT).into_iter();
        let signed = signed.map(|(name, value)| (name, value.into_bytes()));
        let signed: Vec<(String, Vec<u8>)> = signed.collect();
        let headers = &mut sent.request.headers.0;
        headers.retain(|(name, _)| !signed.iter().any(|(own, _)| own == name));
        headers.extend(signed);
        sent.body = sample.body;
        let verdict = sent.verdict(&bench, None);
        let signature = step(&verdict.steps, "signature");
        if verdict.reason == Some(Reason::SignatureMismatch.name()) {
            mismatch += 1;
            is(&verdict, Cause::NotJson, provider.spec().name);
            assert!(signature.says.contains("gives it over this body"));
            assert!(!signature.says.contains("fits under no secret"));
        } else {
            dead += 1;
            let body = step(&verdict.steps, "body");
            assert_eq!(body.state, State::Fail, "{verdict:#?}");
            assert!(body.says.ends_with("; 4 bytes"), "{verdict:#?}");
        }
        let tried = signature.secrets.as_ref().expect("a list");
        assert!(tried.iter().any(|one| one.matches), "{verdict:#?}");
    }
    assert!(dead + mismatch == ALL.len(), "{dead} {mismatch}");
}
