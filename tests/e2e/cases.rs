//! The worked cases of `docs/operating.md`: a shell runs each command as it stands on the page, in its order.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sluice_schemas::fate::Fate;
use sluice_schemas::timestamp::rfc3339;
use sluice_tests::harness::cluster::root;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::offsets::delete_topic;
use sluice_tests::harness::process::find;
use sluice_tests::harness::wait::{PATIENCE, wait_for};
use uuid::Uuid;

use crate::ctl::{Ran, written};
use crate::harness::{Running, site};

const DAY: i64 = 86_400;

/// The commands of a case that were not run yet.
struct Case {
    title: &'static str,
    commands: VecDeque<String>,
    variables: Vec<(&'static str, String)>,
}

impl Case {
    /// The case of this title.
    fn of(title: &'static str) -> Self {
        let page = std::fs::read_to_string(root().join("docs/operating.md")).expect("the page");
        let (_, case) = page
            .split_once(&format!("\n### {title}\n"))
            .unwrap_or_else(|| panic!("no case {title}"));
        let ends = ["\n### ", "\n## "].map(|end| case.find(end).unwrap_or(case.len()));
        let case = &case[..ends[0].min(ends[1])];
        let mut commands = VecDeque::new();
        let mut is_command = false;
        for line in case.lines().map(str::trim) {
            match line {
                "```sh" => is_command = true,
                "```" => is_command = false,
                command if is_command => commands.push_back(command.to_owned()),
                _ => {}
            }
        }
        Self {
            title,
            commands,
            variables: Vec::new(),
        }
    }

    /// What the operator puts in from now on.
    fn put(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
    }

    /// The next command, which must have this in it.
    #[track_caller]
    fn command(&mut self, running: &Running, with: &str) -> Command {
        let next = self.commands.pop_front().unwrap_or_default();
        assert!(next.contains(with), "{}: {next} is not {with}", self.title);
        let binary = find("sluicectl").expect("the binary");
        let folder = binary.parent().expect("a folder").display().to_string();
        let path = std::env::var("PATH").expect("a path");
        let mut command = Command::new("bash");
        command
            .args(["-c", &next])
            .current_dir(running.site.dir())
            .env("PATH", format!("{folder}:{path}"))
            .env(
                "SLUICE_CONFIG",
                written(&running.site, &running.site.settings),
            )
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the next command to its end, which must have this status.
    #[track_caller]
    fn run(&mut self, running: &Running, with: &str, status: i32) -> Ran {
        let output = self.command(running, with).output().expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran = Ran {
            status: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        };
        assert_eq!(ran.status, Some(status), "{with}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// No command is left.
    #[track_caller]
    fn end(self) {
        assert!(self.commands.is_empty(), "not run: {:?}", self.commands);
    }
}

/// An installation with the source `codes`, whose secret was rotated, and which its provider signs with.
fn start() -> (Running, std::path::PathBuf, Source) {
    let mut site = site("cases");
    let mut codes = site.source("flowcode").expect("a source").clone();
    "codes".clone_into(&mut codes.name);
    codes.secret_file = Some("codes-new".to_owned());
    codes.secret = b"whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3".to_vec();
    std::fs::write(site.secret_path("codes-new"), &codes.secret).expect("a secret");
    for folder in [site.secret_path("codes-old"), site.dir().join("codes-old")] {
        std::fs::write(folder, OLD).expect("a secret");
    }
    let mut settings = site.settings["sources"]["my-flowcode"].clone();
    settings["secrets"] = json!(["codes-new"]);
    site.set(&["sources", "codes"], settings);
    site.sources.push(codes.clone());
    let (running, file) = Running::on_one_file(site);
    (running, file, codes)
}

const OLD: &[u8] = b"whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk";

#[test]
fn each_command_of_a_case_does_what_the_page_says() {
    let (mut running, file, codes) = start();
    let kind = codes.samples().expect("samples")[0];
    let first = running.accept(&codes.signed(kind, 1, now()).expect("a request"));
    running.outcome(&first);
    new_settings(&running);
    a_missing_topic(&mut running);
    an_early_rotation(&mut running, &file, &codes);
    since_monday(&running, &first);
    nothing_came(&mut running, &codes);
}

fn new_settings(running: &Running) {
    let mut new = running.site.settings.clone();
    new["sources"]["codes"]["secrets"] = json!(["codes-old"]);
    std::fs::write(running.site.dir().join("new.yaml"), new.to_string()).expect("settings");
    let mut case = Case::of("Try new settings on last week");
    case.run(running, "replay --since 7d", 0);
    let changed = case.run(running, "--settings new.yaml", 1);
    changed.line(&["event -> rejected signature_mismatch"]);
    case.run(running, "--into trial.", 1);
    case.run(running, "redrive", 0);
    case.end();
}

fn a_missing_topic(running: &mut Running) {
    let source = running.source("flock");
    let kind = source.samples().expect("samples")[0];
    let topic = source.topic(&running.names(), kind).expect("a topic");
    delete_topic(running.site.bootstrap(), &topic).expect("deletion");
    let waits = running.accept(&source.signed(kind, 1, now()).expect("a request"));
    let mut case = Case::of("A topic was missing for an hour");
    case.run(running, "topics plan", 1).line(&[&topic]);
    case.run(running, "topics apply", 0).line(&[&topic]);
    assert_eq!(running.outcome(&waits).fate, Fate::Event);
    running.wait_caught_up();
    let audited = case.run(running, "audit", 0);
    audited.line(&["balanced"]);
    assert!(!audited.out.contains("in flight"), "{}", audited.out);
    case.end();
}

fn an_early_rotation(running: &mut Running, file: &std::path::Path, codes: &Source) {
    let kind = codes.samples().expect("samples")[0];
    let right = codes.unsigned(kind, 2, now()).expect("a sample");
    let right = codes.sign_with(&right, OLD, now()).expect("a request");
    let mut forged = codes.signed(kind, 3, now()).expect("a request");
    forged.body = b"{}".to_vec().into();
    let [right, forged] = [&right, &forged].map(|request| {
        let id = running.accept(request);
        assert_eq!(running.outcome(&id).reason, "signature_mismatch");
        id
    });
    let mut case = Case::of("A secret was rotated too early");
    case.put("ID", &right);
    case.run(running, "rejected stats", 0);
    let listed = case.run(running, "rejected list", 0);
    listed.line(&[&right]);
    listed.line(&[&forged]);
    case.run(running, "explain", 1).line(&["wrong_secret"]);
    let tried = case.run(running, "--secret-file", 1);
    assert!(tried.out.contains("--secret-file"), "{}", tried.out);

    let old = json!({"name": "codes-old", "not_after": "2100-01-01T00:00:00Z"});
    running
        .site
        .set(&["sources", "codes", "secrets"], json!(["codes-new", old]));
    let next = file.with_extension("next");
    std::fs::write(&next, running.site.settings.to_string()).expect("a file");
    std::fs::rename(&next, file).expect("an atomic swap");
    let mut n = 10;
    wait_for("the services to take it over", PATIENCE, || {
        n += 1;
        let request = codes.sign_with(&codes.unsigned(kind, n, now())?, OLD, now())?;
        let id = running.accept(&request);
        Ok((running.outcome(&id).fate == Fate::Event).then_some(()))
    })
    .expect("an event");
    case.run(running, "secret check", 0)
        .line(&["codes-old", "2100-"]);
    // With those that were tried while the services took the settings over.
    let dry = case.run(running, "--dry-run", 0);
    let done = case.run(running, "redrive", 0);
    assert!(!dry.out.contains(" 0 sent"), "{}", dry.out);
    assert!(done.out.contains(" sent"), "{}", done.out);
    running.wait_caught_up();
    let found = case.run(running, "find", 0);
    assert!(found.out.contains("event"), "{}", found.out);
    case.run(running, "audit", 0).line(&["balanced"]);
    case.end();
}

fn since_monday(running: &Running, id: &str) {
    let monday = rfc3339((now() - 3 * DAY) * 1_000).expect("a time");
    let mut case = Case::of("Is anything lost since Monday?");
    case.put("MONDAY", &monday);
    case.put("ID", id);
    case.run(running, "audit", 0).line(&["balanced"]);
    let found = case.run(running, "find", 0);
    let (partition, offset) = place(&found.out);
    case.put("PARTITION", &partition);
    case.put("OFFSET", &offset);
    let shown: Value =
        serde_json::from_str(&case.run(running, "show --raw", 0).out).expect("a file");
    assert_eq!(shown["offset"].to_string(), offset);
    case.run(running, "dead-letters stats", 0);
    case.end();
}

/// Raw's partition and offset in what `find` prints.
fn place(found: &str) -> (String, String) {
    let mut lines = found.lines().map(str::trim);
    let raw = lines.find_map(|line| line.strip_prefix("raw "));
    let (partition, offset) = raw
        .and_then(|place| place.trim().split_once('/'))
        .expect("its place on raw");
    (partition.to_owned(), offset.to_owned())
}

fn nothing_came(running: &mut Running, codes: &Source) {
    let mut case = Case::of("The provider says it sent, we have nothing");
    case.put("ID", &Uuid::from_u128(7).to_string());
    case.put("INGEST", &format!("http://{}", running.site.listen()));
    case.run(running, "find", 1);
    case.run(running, "send codes", 0).line(&["event"]);

    let mut tail = case.command(running, "tail");
    let tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut tail = tail.expect("a shell");
    let mut progress = BufReader::new(tail.stderr.take().expect("standard error")).lines();
    let begun = progress.find(|line| line.as_ref().is_ok_and(|line| line.contains("Ctrl-C")));
    assert!(begun.is_some(), "it ended");
    let kind = codes.samples().expect("samples")[0];
    let mut forged = codes.signed(kind, 4, now()).expect("a request");
    forged.body = b"{}".to_vec().into();
    let refused = running.accept(&forged);
    let mut lines = BufReader::new(tail.stdout.take().expect("standard output")).lines();
    let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(&refused)));
    assert!(line.is_some(), "it ended");
    let mut killed = Command::new("kill");
    let killed = killed.args(["-INT", &tail.id().to_string()]).status();
    assert!(killed.expect("kill").success());
    assert!(tail.wait().expect("an end").success());

    case.put("REFUSED", &refused);
    case.run(running, "rejected list", 0).line(&[&refused]);
    case.run(running, "explain", 1);
    case.end();
}
