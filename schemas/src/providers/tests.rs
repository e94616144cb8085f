//! Walks every provider's fixtures: each request becomes what stands next to it, and is also tried
//! tampered, late, early, under another secret and while a secret rotates.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ALL;
use super::api::{Authentic, Signing};
use super::fixture::{Fixture, fixtures, folder};
use super::signature::Key;
use crate::event::Authenticity;
use crate::fate::Fate;
use crate::reason::Reason;
use crate::settings::reader::{Faults, Node};

/// Headers of a request that no provider signs or reads.
const UNSIGNED: [&str; 4] = ["host", "accept", "content-type", "user-agent"];

#[test]
fn the_folders_on_disk_are_the_registry() {
    let entries = fs::read_dir(folder("")).expect("this folder");
    let mut folders: Vec<String> = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .filter(|name| name != "schemes")
        .collect();
    folders.sort();
    let mut names: Vec<&str> = ALL.iter().map(|provider| provider.spec().name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
    for name in names {
        for file in ["mod.rs", "README.md"] {
            assert!(folder(name).join(file).is_file(), "{name}/{file}");
        }
        assert!(super::by_name(name).is_some());
    }
}

#[test]
fn every_fixture_becomes_what_its_golden_file_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for fixture in fixtures() {
        let golden = fixture.path.with_extension("event.json");
        let outcome = fixture.outcome();
        if update {
            let text = serde_json::to_string_pretty(&outcome).expect("JSON");
            fs::write(&golden, text + "\n").expect("the golden file");
            continue;
        }
        let text = fs::read_to_string(&golden).unwrap_or_else(|_| panic!("{}", golden.display()));
        let expected: Value = serde_json::from_str(&text).expect("a golden file is JSON");
        assert_eq!(outcome, expected, "{}", fixture.path.display());
    }
}

#[test]
fn every_documented_event_has_a_fixture() {
    let mut types: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for fixture in fixtures() {
        if let Ok(authentic) = fixture.verify() {
            let name = fixture.provider.spec().name;
            types
                .entry(name)
                .or_default()
                .push(authentic.payload.fields().r#type);
        }
    }
    for provider in ALL {
        let spec = provider.spec();
        for event in spec.documented {
            assert!(
                types[spec.name].iter().any(|found| found == event),
                "{event}"
            );
        }
    }
}

/// What is read of a header that is not named, a mask in it would change.
#[test]
fn a_verdict_depends_on_no_header_but_those_that_the_provider_names() {
    for mut fixture in fixtures() {
        let expected = fixture.outcome();
        let named = fixture.provider.spec().headers;
        let headers = &mut fixture.request.headers.0;
        headers.retain(|(name, _)| named.contains(&name.as_str()));
        assert_eq!(fixture.outcome(), expected, "{}", fixture.path.display());
        for name in named {
            assert_eq!(*name, name.to_lowercase());
        }
    }
}

#[test]
fn every_reason_that_a_provider_decides_has_a_fixture() {
    let seen: BTreeSet<Reason> = fixtures().iter().filter_map(Fixture::reason).collect();
    // The rest is decided by the processor, which knows redrives, settings, sizes and earlier events.
    let elsewhere = [
        Reason::RedriveLimit,
        Reason::UnknownSource,
        Reason::TooLargeForTopic,
        Reason::Duplicate,
    ];
    for reason in Reason::ALL {
        assert_eq!(
            seen.contains(&reason),
            !elsewhere.contains(&reason),
            "{reason}"
        );
    }
}

#[test]
fn no_expectation_is_without_its_request() {
    for provider in ALL {
        let entries = fs::read_dir(folder(provider.spec().name).join("fixtures"));
        for entry in entries.expect("each provider has fixtures") {
            let path = entry.expect("an entry").path();
            let name = path.to_string_lossy().replace(".event.json", ".http");
            assert!(std::path::Path::new(&name).is_file(), "{}", path.display());
        }
    }
}

#[test]
fn a_signed_fixture_that_is_tampered_with_is_rejected() {
    for mut fixture in fixtures() {
        let Ok(Authentic { proof, payload }) = fixture.verify() else {
            continue;
        };
        let identity = payload.identity();
        drop(payload);
        if proof.scheme.is_none() {
            continue;
        }
        let path = fixture.path.clone();
        for at in 0..fixture.body.len() {
            // This bit never makes a capital of a small letter, which are the same to Flockler.
            fixture.body[at] ^= 2;
            match fixture.verify() {
                Ok(authentic) => {
                    assert_eq!(
                        proof.authenticity,
                        Authenticity::PartiallySigned,
                        "{}",
                        path.display()
                    );
                    assert_eq!(authentic.proof.authenticity, Authenticity::PartiallySigned);
                }
                Err(refusal) if proof.authenticity == Authenticity::Signed => {
                    assert_eq!(
                        refusal.reason,
                        Reason::SignatureMismatch,
                        "{} at {at}",
                        path.display()
                    );
                }
                Err(_) => {}
            }
            fixture.body[at] ^= 2;
        }
        for at in 0..fixture.request.headers.0.len() {
            let kept = fixture.request.headers.0[at].clone();
            if UNSIGNED.contains(&kept.0.as_str()) {
                continue;
            }
            // The last byte of each word, for each may be a signature.
            let value = &mut fixture.request.headers.0[at].1;
            for end in 0..value.len() {
                if value.get(end + 1).is_none_or(|next| *next == b' ') {
                    value[end] ^= 2;
                }
            }
            let what = format!("{}: {}", path.display(), kept.0);
            match fixture.verify() {
                // A header outside the signature: were it part of the identity, a recorder could replay.
                Ok(authentic) => {
                    let authenticity = authentic.proof.authenticity;
                    assert_eq!(authenticity, Authenticity::PartiallySigned, "{what}");
                    assert_eq!(authentic.payload.identity(), identity, "{what}");
                }
                Err(refusal) => assert_eq!(refusal.reason.fate(), Fate::Rejected, "{what}"),
            }
            fixture.request.headers.0[at] = kept;
        }
    }
}

#[test]
fn age_is_judged_at_its_bound_and_against_the_receipt() {
    for mut fixture in fixtures() {
        if fixture.verify().is_err() {
            continue;
        }
        let (path, outcome) = (fixture.path.clone(), fixture.outcome());
        let at = fixture.request.received_at;
        let micros = |age: Duration| i64::try_from(age.as_micros()).expect("some minutes");
        // Where age is not judged, a century changes nothing.
        let century = Duration::from_secs(100 * 365 * 86_400);
        let bound = micros(fixture.age.unwrap_or(century));
        for at in [at - bound, at + bound] {
            assert_eq!(
                fixture.received(at, Fixture::outcome),
                outcome,
                "{}",
                path.display()
            );
        }
        if fixture.age.is_some() {
            for at in [at - bound - 1, at + bound + 1, i64::MIN, i64::MAX] {
                let reason = fixture.received(at, Fixture::reason);
                assert_eq!(
                    reason,
                    Some(Reason::TimestampStale),
                    "{} at {at}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn another_secret_is_a_mismatch_and_a_rotation_is_none() {
    for mut fixture in fixtures() {
        let path = fixture.path.display().to_string();
        let is_hmac = fixture.credentials.keys.first().is_some_and(Key::is_hmac);
        let other = || {
            let mut key = if is_hmac {
                Key::hmac(b"another secret")
            } else {
                Key::ed25519([7; 32])
            };
            "other".clone_into(&mut key.name);
            vec![key]
        };
        let own = fixture.credentials.keys.clone();
        match fixture.verify().map(|authentic| authentic.proof) {
            Ok(proof) if proof.scheme.is_some() => {
                let reason = fixture.with_keys(other(), Fixture::reason);
                assert_eq!(reason, Some(Reason::SignatureMismatch), "{path}");
                let outcome = fixture.outcome();
                for keys in [[other(), own.clone()].concat(), [own, other()].concat()] {
                    assert_eq!(fixture.with_keys(keys, Fixture::outcome), outcome, "{path}");
                }
            }
            Ok(_) => {
                let outcome = fixture.outcome();
                assert_eq!(
                    fixture.with_keys(Vec::new(), Fixture::outcome),
                    outcome,
                    "{path}"
                );
            }
            // Nothing is a dead letter that is not authentic.
            Err(refusal) if refusal.reason.fate() == Fate::DeadLetter => {
                if fixture.verifier.signing() == Signing::Required {
                    let reason = fixture.with_keys(other(), Fixture::reason);
                    assert_eq!(reason, Some(Reason::SignatureMismatch), "{path}");
                }
            }
            Err(_) => {}
        }
    }
}

#[test]
fn only_a_provider_by_sequence_returns_a_sequence() {
    for mut fixture in fixtures() {
        let Ok(first) = fixture
            .verify()
            .map(|authentic| authentic.payload.identity())
        else {
            continue;
        };
        let by_sequence = fixture.verifier.by_sequence();
        assert_eq!(
            first.sequence.is_some(),
            by_sequence,
            "{}",
            fixture.path.display()
        );
        // Sent again: a new request, with the same content.
        fixture.request.id = Uuid::from_u128(2);
        fixture.request.received_at += 1_000_000;
        let again = fixture
            .verify()
            .map(|authentic| authentic.payload.identity());
        let again = again.expect("a second later it is as good");
        assert_eq!(again.sequence, first.sequence, "{}", fixture.path.display());
        assert_eq!(
            again.parts == first.parts,
            !by_sequence,
            "{}",
            fixture.path.display()
        );
    }
}

#[test]
fn a_description_has_the_options_of_the_readme_and_the_code_reads_each() {
    for provider in ALL {
        let name = provider.spec().name;
        let description = provider.sender().description();
        let described: Vec<&str> = description.options.iter().map(|one| one.name).collect();
        let readme = fs::read_to_string(folder(name).join("README.md")).expect("a README");
        let (_, options) = readme.split_once("## Options\n").expect("its options");
        let (options, _) = options.split_once("\n## ").expect("and what follows");
        let documented = options
            .lines()
            .filter_map(|line| line.strip_prefix("- `")?.split('`').next());
        assert_eq!(described, documented.collect::<Vec<_>>(), "{name}");
        let nonsense = described.iter().map(|name| ((*name).to_owned(), json!(-1)));
        let faults = Faults::default();
        let mut node = Node::root(Value::Object(nonsense.collect()), &faults);
        let _ = provider.verifier(&mut node);
        node.finish();
        let found: BTreeSet<String> = faults
            .take()
            .into_iter()
            .map(|fault| {
                assert_ne!(fault.message, "is not a setting", "{name}: {}", fault.path);
                fault.path
            })
            .collect();
        for option in &described {
            assert!(found.contains(*option), "{name}: {option}");
        }
        if let Some(url) = description.signed_url {
            assert!(described.contains(&url.plain) && described.contains(&url.files));
        }
    }
}
