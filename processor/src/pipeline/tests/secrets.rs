//! Secrets in time, for every provider: which of them verifies is decided by the time of receipt alone.

use sluice_schemas::timestamp::rfc3339;

use super::*;

/// What becomes of each provider's first sample under settings of its secret, and by which secret.
fn judged(
    secret: &dyn Fn(&str) -> serde_json::Value,
) -> Vec<(Fate, Option<Reason>, Option<String>)> {
    let bench = bench_of(|settings| {
        let name = settings["secrets"][0].as_str().map(str::to_owned);
        settings["secrets"] = json!([secret(&name.expect("the name of a file"))]);
    });
    let samples = ALL.into_iter().map(|provider| {
        let event = provider.sender().events()[0];
        let unsigned = provider.sender().sample(event, 1, AT);
        record(provider, &unsigned, 1)
    });
    let judged = samples.map(|record| {
        let mut notes = Notes::default();
        let (index, overlay) = (DedupIndex::new(3600), BatchOverlay::default());
        let disposition =
            judge(&record, &bench.rules(), &index, &overlay, &mut notes).expect("a known version");
        if let Disposition::Refused { refusal, .. } = &disposition {
            assert_eq!(
                refusal.detail,
                "no secret of the source was valid when the request was received"
            );
        }
        let out = outgoing(disposition, &record, &bench.topics);
        (out.label.fate, out.label.reason, notes.key_id)
    });
    judged.collect()
}

fn second(at: i64) -> String {
    rfc3339(at * 1000).expect("a time").replace(".000Z", "Z")
}

#[test]
fn a_secret_verifies_what_was_received_within_its_bounds_and_gives_its_key_id() {
    let within = second(AT);
    let micro = |digits: &str| within.replace('Z', &format!(".{digits}Z"));
    for (not_before, not_after) in [
        (None, None),
        (Some(within.clone()), Some(within.clone())),
        (Some(micro("000000")), Some(micro("000000"))),
        (Some(second(AT - 1)), Some(micro("0"))),
    ] {
        let found = judged(
            &|name| json!({"name": name, "not_before": not_before, "not_after": not_after, "key_id": "k-2"}),
        );
        for one in found {
            let expected = (Fate::Event, None, Some("k-2".to_owned()));
            assert_eq!(one, expected, "{not_before:?} {not_after:?}");
        }
    }
    for (not_before, not_after) in [
        (Some(second(AT + 1)), None),
        (None, Some(second(AT - 1))),
        (Some(micro("000001")), None),
    ] {
        let found =
            judged(&|name| json!({"name": name, "not_before": not_before, "not_after": not_after}));
        for one in found {
            let expected = (Fate::Rejected, Some(Reason::SignatureMismatch), None);
            assert_eq!(one, expected, "{not_before:?} {not_after:?}");
        }
    }
}
