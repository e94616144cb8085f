//! What `--check` says of settings of which each is good, and which do not go together.

use std::process::Command;

/// The status of `--check` under these properties of Kafka's client, and what it says.
fn check(properties: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.yaml");
    let yaml = format!(
        "kafka: {{bootstrap_servers: 'localhost:1', properties: {{{properties}}}}}\n\
         sources: {{site: {{provider: flowcode, secrets: [x]}}}}\n"
    );
    std::fs::write(&file, yaml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-ingest"))
        .args(["--check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn properties_that_do_not_fit_the_producers_own_are_faults_of_the_check() {
    assert_eq!(check("").0, Some(0));
    let (status, said) = check("linger.ms: '9000'");
    assert_eq!(status, Some(78), "the start would end with it: {said}");
    assert!(said.contains("message.timeout.ms"), "{said}");
}
