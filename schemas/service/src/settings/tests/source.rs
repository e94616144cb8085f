//! What a source may say.

use super::*;

/// The faults of a source given as flow YAML, without the common front of their paths.
fn source_faults(source: &str) -> Vec<(String, String)> {
    let yaml = format!("kafka: {{bootstrap_servers: b}}\nsources: {{s: {source}}}");
    match load(&yaml) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .into_iter()
            .map(|fault| (fault.path.replace("sources.s.", ""), fault.message))
            .collect(),
    }
}

pub(super) fn source_paths(source: &str) -> Vec<String> {
    source_faults(source)
        .into_iter()
        .map(|(path, _)| path)
        .collect()
}

#[test]
fn an_unauthenticated_source_is_a_fault() {
    assert_eq!(source_paths("{provider: flowcode}"), ["secrets"]);
    assert_eq!(source_paths("{provider: referralloop}"), ["token_sha256"]);
    assert_eq!(
        source_paths("{provider: referralloop, options: {signature: 'off'}}"),
        ["token_sha256"]
    );
    let near = "{provider: referralloop, allow_from: [192.0.2.0/24]}";
    let faults = source_faults(near);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].1.contains("an address proves no sender"),
        "{faults:?}"
    );
    let tokened = format!("{{provider: referralloop, token_sha256: ['{TOKEN}']}}");
    assert_eq!(source_faults(&tokened), []);
    let headed = format!("{{provider: referralloop, require_headers: {{X-Key: ['{TOKEN}']}}}}");
    assert_eq!(source_faults(&headed), []);
}

#[test]
fn tokens_in_plain_text_are_faults_and_are_not_shown() {
    let faults = source_faults("{provider: flowcode, secrets: [a], token: swordfish, tokens: []}");
    let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["token", "tokens"]);
    assert!(faults[0].1.contains("token_sha256"), "{faults:?}");

    let hash = sluice_schemas::identity::sha256(b"swordfish")
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let faults = source_faults(&format!(
        "{{provider: flockler, secrets: [a], token_sha256: ['{hash}'], options: \
         {{webhook_urls: ['https://x.example/v1/hooks/s/swordfish?a=b']}}}}"
    ));
    let (path, message) = faults.first().expect("a fault");
    assert_eq!(path, "options.webhook_urls[0]");
    assert!(message.contains("webhook_url_files"), "{message}");

    for bad in ["swordfish", &"é".repeat(32), &"+1".repeat(32), EMPTY] {
        let faults = source_faults(&format!(
            "{{provider: flowcode, secrets: [a], token_sha256: ['{bad}']}}"
        ));
        assert_eq!(faults.len(), 1, "{bad}");
        assert!(!faults[0].1.contains(bad), "{faults:?}");
    }
}

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_body_that_no_event_could_carry_is_a_fault_with_its_mend() {
    let largest = "{provider: flowcode, secrets: [a], max_body: 63MiB}";
    assert!(source_paths(largest).is_empty());
    let over = source_faults("{provider: flowcode, secrets: [a], max_body: 64MiB}");
    assert_eq!(over.len(), 1, "{over:?}");
    assert_eq!(over[0].0, "max_body");
    assert!(over[0].1.starts_with("must be at most 63MiB"), "{over:?}");
}

#[test]
fn bounds_and_names_of_a_source() {
    for (source, expected) in [
        ("{provider: nobody, secrets: [a]}", "provider"),
        ("{provider: flowcode, secrets: [../a]}", "secrets"),
        ("{provider: flowcode, secrets: [a, a]}", "secrets"),
        (
            "{provider: flowcode, secrets: [a], dedup_window: 73h}",
            "dedup_window",
        ),
        (
            "{provider: flowcode, secrets: [a], dedup_window: 0s}",
            "dedup_window",
        ),
        (
            "{provider: flowcode, secrets: [a], max_body: 1GiB}",
            "max_body",
        ),
        (
            "{provider: flowcode, secrets: [a], events: ['a b']}",
            "events",
        ),
        (
            "{provider: flowcode, secrets: [a], events: [a_b, a-b]}",
            "events",
        ),
        (
            "{provider: flowcode, secrets: [a], events: [other]}",
            "events",
        ),
        (
            "{provider: flowcode, secrets: [a], require_headers: {'a b': [x]}}",
            "require_headers.a b",
        ),
        (
            "{provider: flowcode, secrets: [a], surprise: 1}",
            "surprise",
        ),
        (
            "{provider: flowcode, secrets: [a], options: {surprise: 1}}",
            "options.surprise",
        ),
    ] {
        let paths = source_paths(source);
        assert!(
            paths.iter().any(|path| path == expected),
            "{source}: {paths:?}"
        );
    }
    let collide = "
kafka: {bootstrap_servers: b}
sources:
  a: {provider: flowcode, secrets: [a], events: [x_y]}
  b: {provider: flowcode, secrets: [a], events: [x-y]}
";
    assert_eq!(paths(collide), ["sources.b.events"]);
    for name in ["A", "a_b", "", &"x".repeat(64)] {
        let yaml = format!(
            "kafka: {{bootstrap_servers: b}}\nsources: {{'{name}': {{provider: flowcode, secrets: [a]}}}}"
        );
        assert_eq!(paths(&yaml), [format!("sources.{name}")]);
    }
}

#[test]
fn a_secret_may_say_when_it_is_valid_and_what_it_is_called() {
    let yaml = "kafka: {bootstrap_servers: b}\nsources: {s: {provider: flowcode, secrets: [a,
  {name: b},
  {name: c, not_before: 2026-03-01T12:00:00Z, not_after: '2026-03-01T13:00:00.5+01:00', key_id: c-1},
  {name: c, not_before: 2026-03-02T00:00:00Z, key_id: c-2}]}}";
    let settings = load(yaml).expect("no fault");
    let found: Vec<_> = settings.sources["s"]
        .secrets
        .iter()
        .map(|secret| {
            let validity = secret.validity;
            (
                secret.file.as_str(),
                secret.key_id.as_str(),
                validity.not_before,
                validity.not_after,
            )
        })
        .collect();
    let noon = 1_772_366_400_000_000;
    assert_eq!(
        found,
        [
            ("a", "a", None, None),
            ("b", "b", None, None),
            ("c", "c-1", Some(noon), Some(noon + 599_999)),
            ("c", "c-2", Some(noon + 43_200_000_000), None),
        ]
    );
}

#[test]
fn faults_of_secrets_have_their_paths() {
    for (secrets, expected) in [
        ("x", &["secrets"][..]),
        ("[1]", &["secrets"]),
        ("[{}]", &["secrets[0].name"]),
        ("[{name: ../a}]", &["secrets[0].name"]),
        (
            "[{name: a, not_before: yesterday}]",
            &["secrets[0].not_before"],
        ),
        (
            "[{name: a, not_after: 2026-03-01}]",
            &["secrets[0].not_after"],
        ),
        (
            "[{name: a, not_after: 2026-03-01T12:00:00}]",
            &["secrets[0].not_after"],
        ),
        (
            "[{name: a, not_after: 2026-03-01T12:00:00.1234567Z}]",
            &["secrets[0].not_after"],
        ),
        (
            "[{name: a, not_after: 1772366400}]",
            &["secrets[0].not_after"],
        ),
        (
            "[a, {name: b, not_before: 2026-03-01T12:00:01Z, not_after: 2026-03-01T12:00:00Z}]",
            &["secrets[1].not_after"],
        ),
        (
            "[{name: a, not_before: 2026-03-01T12:00:00Z, not_after: 2026-03-01T12:00:00Z}]",
            &[],
        ),
        ("[{name: a, key_id: ''}]", &["secrets[0].key_id"]),
        ("[{name: a, key_id: 'a b'}]", &["secrets[0].key_id"]),
        ("[{name: a, until: x}]", &["secrets[0].until"]),
        ("[a, {name: b, key_id: a}]", &["secrets[1].key_id"]),
        (
            "[{name: a, key_id: x}, {name: b, key_id: x}]",
            &["secrets[1].key_id"],
        ),
        // One file twice: where some request could be of both, or where both have one name.
        ("[a, {name: a, key_id: b}]", &["secrets"]),
        (
            "[{name: a, not_after: 2026-03-01T12:00:00Z}, {name: a, not_before: 2026-03-01T12:00:00Z, key_id: b}]",
            &["secrets"],
        ),
        (
            "[{name: a, not_after: 2026-03-01T12:00:00Z}, {name: a, not_before: 2026-03-01T12:00:01Z}]",
            &["secrets[1].key_id"],
        ),
        (
            "[{name: a, not_after: 2026-03-01T12:00:00Z}, {name: a, not_before: 2026-03-01T12:00:01Z, key_id: b}]",
            &[],
        ),
    ] {
        let mut found = source_paths(&format!("{{provider: flowcode, secrets: {secrets}}}"));
        found.dedup();
        assert_eq!(found, expected, "{secrets}");
    }
}
