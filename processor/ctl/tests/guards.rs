//! Guards of the command: its help, its exit statuses, and what it writes where no broker is needed. See
//! `tests/guards/README.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

#[path = "../../../tests/guards/golden.rs"]
mod golden;

use golden::compare;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicectl"));
    command
        .env_clear()
        .env("SLUICE_MEMBER", "m-0")
        .args(arguments);
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("it starts")
}

/// What a run wrote and how it ended; the folder's name is replaced.
fn show(text: &mut String, what: &str, output: &Output, dir: &Path) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "== {what}\nstatus {:?}", output.status.code());
    for (name, bytes) in [("out", &output.stdout), ("err", &output.stderr)] {
        let written = String::from_utf8_lossy(bytes).replace(&dir.display().to_string(), "(dir)");
        for line in written.lines() {
            let _ = writeln!(text, "{}", format!("{name} {line}").trim_end());
        }
    }
}

/// Calls whose help, or whose refusal of the command line, is pinned.
const HELP: &[&[&str]] = &[
    &["--help"],
    &["check", "--help"],
    &["send", "--help"],
    &["find", "--help"],
    &["show", "--help"],
    &["tail", "--help"],
    &["listen", "--help"],
    &["explain", "--help"],
    &["dead-letters", "--help"],
    &["dead-letters", "list", "--help"],
    &["dead-letters", "redrive", "--help"],
    &["rejected", "--help"],
    &["rejected", "stats", "--help"],
    &["duplicates", "--help"],
    &["duplicates", "show", "--help"],
    &["topics", "--help"],
    &["topics", "plan", "--help"],
    &["topics", "apply", "--help"],
    &["sources", "--help"],
    &["sources", "add", "--help"],
    &["secret", "--help"],
    &["secret", "check", "--help"],
    &["token", "--help"],
    &["token", "new", "--help"],
    &["providers", "--help"],
    &["providers", "show", "--help"],
    &["audit", "--help"],
    &["replay", "--help"],
    &["referralloop", "--help"],
    &["referralloop", "sync", "--help"],
    &["referralloop", "subscribe", "--help"],
    &["referralloop", "unsubscribe", "--help"],
    &["flock", "--help"],
    &["flock", "identify-customer", "--help"],
    &["flock", "live-campaign", "--help"],
    &["flock", "validate-code", "--help"],
    &["flock", "create-referral", "--help"],
    &["flock", "ingest-checkpoint", "--help"],
    &["flock", "trigger-reward", "--help"],
    &["completions", "--help"],
    &["man", "--help"],
    &[],
    &["chekc"],
    &["send"],
    &["send", "codes", "--wait", "soon"],
    &["send", "codes", "--forge", "--stale"],
    &["check"],
    &["find"],
    &["find", "x"],
    &["find", "x", "--since", "yesterday"],
    &["show", "--raw", "3"],
    &["tail", "--fate", "lost"],
    &["listen"],
    &[
        "listen",
        "--forward",
        "http://localhost:3000",
        "--raw",
        "--type",
        "x",
    ],
    &[
        "listen",
        "--forward",
        "http://localhost:3000",
        "--timeout",
        "0s",
    ],
    &["rejected", "list", "--until", "soon"],
    &["audit", "--since", "yesterday"],
    &["find", "x", "--until", "1h"],
    &["rejected", "list", "--since", "-1h"],
    &["send", "codes", "--count", "-1"],
    &["help", "topics", "plan"],
    &["topics", "help"],
];

#[test]
fn the_help_reads_the_same() {
    let mut text = String::new();
    for arguments in HELP {
        let what = format!("sluicectl {}", arguments.join(" "));
        show(
            &mut text,
            &what,
            &run(&mut command(arguments)),
            Path::new("/nowhere"),
        );
    }
    compare("help-sluicectl.txt", &text);
}

#[test]
fn the_version_has_the_commit() {
    let shown = run(&mut command(&["--version"]));
    let expected = format!("sluicectl {}\n", sluice_service::VERSION);
    assert_eq!(String::from_utf8_lossy(&shown.stdout), expected);
}

/// Settings whose files stand in the same folder.
fn settings(dir: &Path) -> String {
    // The hash of `t0ken`.
    let hash = "b46c09677343261f0b439a472422225e3a230c9c094d6ab16762e2036b597053";
    let settings = "kafka: {bootstrap_servers: '127.0.0.1:1'}
secrets_dir: DIR
sources:
  codes: {provider: flowcode, secrets: [codes], events: [scan.created]}
  plain: {provider: flock, secrets: [flock], require_headers: {x-edge: [HASH]}}
  shut: {provider: flock, secrets: [flock], enabled: false}
  old: {provider: flock, secrets: [{name: token, not_after: 2020-01-01T00:00:00Z, key_id: of-2019}]}
  waitlist: {provider: referralloop, token_sha256: [HASH]}
";
    let dir = dir.display().to_string();
    settings.replace("HASH", hash).replace("DIR", &dir)
}

/// Calls that end without a broker and without ingest, in the folder of the settings.
const CALLS: [&str; 56] = [
    "--config no.yaml check",
    "--config bad.yaml check",
    "--config bad.yaml check --json",
    "--config bad.yaml send codes",
    "--config good.yaml send nowhere",
    "--config good.yaml send codes",
    "--config good.yaml send codes scan.deleted",
    "--config good.yaml send shut",
    "--config good.yaml send plain",
    "--config good.yaml send plain --header x-edge",
    "--config good.yaml send plain --header x-edge:t0ken",
    "--config good.yaml send waitlist",
    "--config good.yaml send waitlist --token-file gone",
    "--config good.yaml send waitlist --token-file another",
    "--config good.yaml send waitlist --token-file token --forge",
    "--config good.yaml send waitlist --token-file token --url ftp://h",
    "--config good.yaml send waitlist --token-file token --url http://127.0.0.1:1",
    "--config good.yaml send waitlist --token-file token --url http://127.0.0.1:1 --json",
    "--config bad.yaml find x",
    "--config good.yaml find x --since 2999-01-01T00:00:00Z",
    "--config good.yaml rejected list --since 2026-01-02T00:00:00Z --until 2026-01-01T00:00:00Z",
    "--config good.yaml rejected list --provider flok",
    "--config good.yaml rejected list --reason malformed_json",
    "--config good.yaml show --raw -- -1 7",
    "--config good.yaml show --raw 99999999999 7",
    "--config bad.yaml tail",
    "--config good.yaml tail --type scan.created --fate rejected",
    "--config good.yaml send --wait codes",
    "--config good.yaml send waitlist --token-file token --wait",
    "--config good.yaml send waitlist --token-file token --url http://h/v1/hooks/waitlist/t0ken",
    "--config bad.yaml listen --forward http://localhost:3000",
    "--config good.yaml listen --forward localhost:3000",
    "--config good.yaml listen --forward http://me:secret@localhost:3000",
    "--config bad.yaml topics plan",
    "--config good.yaml send old",
    "providers",
    "providers show flowcode",
    "providers show flockler --json",
    "providers show nobody",
    "secret check",
    "secret check --provider flowcode",
    "secret check --provider flowcode codes gone",
    "secret check --provider flowcode token --json",
    "--config bad.yaml secret check",
    "--config good.yaml secret check",
    "--config good.yaml secret check old codes --json",
    "--config good.yaml secret check nowhere",
    "sources add new --provider flowcode",
    "sources add new --provider flockler --host h.example --json",
    "sources add new --provider flock --secret-file token --options {\"max_age\":\"1m\"}",
    "sources add New --provider flock --options {\"max_age\":\"soon\"}",
    "--config good.yaml sources add codes --provider flowcode",
    "--config good.yaml referralloop subscribe waitlist",
    "--config good.yaml referralloop sync --timeout 0s",
    "--config good.yaml flock validate-code --referral-code x --api-key-file gone",
    "--config good.yaml flock validate-code --referral-code x --api-key-file token --api-url http://example.com",
];

#[test]
fn what_needs_no_broker_reads_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = settings(dir.path());
    let bad = good.replace("codes:", "co_des:");
    // The secret of `plain` is missing.
    for (name, content) in [
        ("good.yaml", good.as_str()),
        ("bad.yaml", &bad),
        ("codes", "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
        ("token", "t0ken\n"),
        ("another", "another\n"),
    ] {
        std::fs::write(dir.path().join(name), content).expect("a file");
    }
    let mut text = String::new();
    for call in CALLS {
        let arguments: Vec<&str> = call.split(' ').collect();
        let mut command = command(&arguments);
        let ran = run(command.current_dir(dir.path()));
        show(&mut text, &format!("sluicectl {call}"), &ran, dir.path());
    }
    assert!(!text.contains("AAAA"), "a secret is shown");
    compare("command-sluicectl.txt", &text);
}

/// The pages of single commands.
const PAGES: &[&str] = &[
    "",
    "-audit",
    "-check",
    "-completions",
    "-find",
    "-listen",
    "-man",
    "-replay",
    "-send",
    "-show",
    "-tail",
    "-explain",
];

/// The pages of the commands that call providers.
const API_PAGES: [&str; 11] = [
    "-referralloop",
    "-referralloop-subscribe",
    "-referralloop-sync",
    "-referralloop-unsubscribe",
    "-flock",
    "-flock-create-referral",
    "-flock-identify-customer",
    "-flock-ingest-checkpoint",
    "-flock-live-campaign",
    "-flock-trigger-reward",
    "-flock-validate-code",
];

#[test]
fn completions_and_pages_have_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let printed = run(&mut command(&["completions", shell]));
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        for word in [
            "check",
            "send",
            "find",
            "topics",
            "audit",
            "replay",
            "referralloop",
            "flock",
            "completions",
            "man",
            "--token-file",
        ] {
            let plain = word.trim_start_matches('-');
            assert!(printed.contains(plain), "{shell}: {word}");
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    let made = run(command(&["man"]).arg(dir.path()));
    assert!(made.status.success());
    let pages: BTreeSet<String> = std::fs::read_dir(dir.path())
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("a page")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let records =
        |name: &str| ["", "-list", "-show", "-stats"].map(|part| format!("-{name}{part}"));
    let groups = [
        "-topics",
        "-topics-apply",
        "-topics-plan",
        "-sources",
        "-sources-add",
        "-secret",
        "-secret-check",
        "-token",
        "-token-new",
        "-providers",
        "-providers-show",
        "-dead-letters-redrive",
        "-rejected-redrive",
    ];
    let plain = PAGES.iter().chain(&groups).chain(&API_PAGES);
    let expected = plain.map(|name| (*name).to_owned());
    let expected = expected.chain(
        ["dead-letters", "rejected", "duplicates"]
            .map(records)
            .concat(),
    );
    let expected: BTreeSet<String> = expected.map(|name| format!("sluicectl{name}.1")).collect();
    assert_eq!(pages, expected);
    pages_have_all_that_the_help_has(dir.path());
}

fn pages_have_all_that_the_help_has(dir: &Path) {
    for (name, words) in [
        (
            "send",
            ["SH ENVIRONMENT", "SLUICE_TOKEN_FILE", "token\\-file"],
        ),
        (
            "audit",
            ["SLUICE_CONFIG", "each raw record", "duplicate\\*(Aqs"],
        ),
        (
            "topics-plan",
            [".SH \"EXAMPLES\"", "where\nrecords", "jq \\-r"],
        ),
    ] {
        let page = dir.join(format!("sluicectl-{name}.1"));
        let page = std::fs::read_to_string(page).expect("a page");
        for word in words.iter().chain(&[".SH \"EXIT STATUS\"\n.nf\n  0 "]) {
            assert!(page.contains(word), "{name}: {word}: {page}");
        }
        assert!(!page.contains("EXTRA"), "{page}");
    }
}

#[test]
fn a_reader_that_goes_away_changes_no_status() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "{}").expect("a file");
    let mut child = command(&["check", "--config"])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    let written = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{written}");
    assert!(!written.contains("panicked"), "{written}");
}

#[test]
fn an_output_that_cannot_be_written_is_said_once_with_status_1() {
    for call in [
        &["providers"] as &[&str],
        &["token", "new"],
        &["completions", "bash"],
        &["check", "--help"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let ran = run(command(call).stdout(full.expect("a full disk")));
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{call:?}: {said}");
        assert_eq!(
            said.matches("cannot be written").count(),
            1,
            "{call:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{call:?}: {said}");
    }
}
