//! Guards of ingest's contracts while code moves: raw records, HTTP answers, properties of Kafka clients,
//! metrics, the command line and the spool's files, each as text in `golden/`. A difference fails the test
//! with the file and the first differing line.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sluice-ingest --test contract guards` writes the files again. A changed
//! golden file is a change for providers, operators or the processor, and is reviewed as one.
//!
//! Parts that vary from run to run are replaced by a placeholder after their form was checked. The bytes
//! of a spooled record have a golden file next to `record`'s own tests: `ingest/golden/spool.v1.bin`.

use std::path::Path;

use sluice_schemas::settings::Settings;
use uuid::Uuid;

mod raw;

mod answers;

mod http2;

mod trouble;

mod admin;

mod clients;

mod metrics;

mod program;

mod spool;

/// Compares with the golden file of this name, or writes it where `UPDATE_GOLDEN` is set.
fn same_as_golden(name: &str, found: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guards/golden");
    let file = folder.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(file, found).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    if golden == found {
        return;
    }
    let same = |(one, other): &(&str, &str)| one == other;
    let pairs = golden.lines().zip(found.lines());
    let line = pairs.take_while(same).count();
    let shown = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    panic!(
        "{} differs in line {}\n golden: {}\n  found: {}",
        file.display(),
        line + 1,
        shown(&golden),
        shown(found)
    );
}

/// Settings from these lines of YAML.
fn settings(yaml: &str) -> Settings {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.yaml");
    std::fs::write(&file, yaml).unwrap();
    sluice_service::settings::load(&file).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Whether the text is a request id: `UUIDv7` in lower case.
fn is_request_id(text: &str) -> bool {
    let parsed = Uuid::try_parse(text);
    parsed.is_ok_and(|id| id.get_version_num() == 7 && id.to_string() == text)
}

/// Answers without carriage returns, their dates and ids masked.
fn masked(answers: &str) -> String {
    let mut text = String::new();
    // A body has no line end, and the next answer stands behind it.
    let apart = answers.replace("}HTTP/1.1 ", "}\nHTTP/1.1 ");
    for line in apart.lines() {
        if let Some(date) = line.strip_prefix("date: ") {
            assert!(is_date(date), "{date}");
            text.push_str("date: <date>");
        } else if let Some(body) = line.strip_prefix("{\"id\":\"") {
            let (id, rest) = body.split_at(36);
            assert!(is_request_id(id), "{id}");
            text.push_str("{\"id\":\"<id>");
            text.push_str(rest);
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

/// Whether the text has the form of an HTTP date: `Thu, 26 Nov 2026 05:27:04 GMT`.
fn is_date(text: &str) -> bool {
    let form = "Aaa, 00 Aaa 0000 00:00:00 GMT";
    text.len() == form.len()
        && text
            .chars()
            .zip(form.chars())
            .all(|(found, wanted)| match wanted {
                '0' => found.is_ascii_digit(),
                'a' => found.is_ascii_lowercase(),
                'A' => found.is_ascii_uppercase(),
                other => found == other,
            })
}
