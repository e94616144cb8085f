//! The faults of the settings: every key of `every-key.json` gets every value of a list, is left out, and
//! has a stranger next to it. What is reported is pinned by path and first words.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use sluice_schemas::settings::Fault;

use crate::golden::compare;

/// All keys that are documented, each with a good value.
const EVERY_KEY: &str = include_str!("every-key.json");

/// Keys of `every-key.json` that are no settings any more: each is a fault, whatever its value.
pub const REMOVED: [&str; 8] = [
    "peer_pause",
    "headers",
    "body_rate_after",
    "refusal_delay",
    "refusals",
    "h2_resets",
    "h2_header_bytes",
    "h2_overhead",
];

/// How many words of a fault are pinned: the rest is for a person, and may be said better.
const WORDS: usize = 3;

/// Keys whose values are one of a closed list, and all words of those lists.
const CHOICES: [&str; 11] = [
    "scheme",
    "encoding",
    "signature",
    "signed",
    "headers",
    "type_field",
    "lowercase",
    "from",
    "membership",
    "begin",
    "log_format",
];
const WORDS_OF_CHOICES: [&str; 32] = [
    "auto",
    "ts.data",
    "raw",
    "ts.raw",
    "tsdata",
    "hex",
    "base64",
    "base64_hex",
    "off",
    "optional",
    "required",
    "compact",
    "webhook",
    "svix",
    "type",
    "event_type",
    "eventType",
    "event",
    "unicode",
    "simple",
    "final_sigma",
    "ascii",
    "connection",
    "proxy_protocol",
    "forwarded_for",
    "dynamic",
    "static",
    "earliest",
    "latest",
    "json",
    "text",
    "Auto",
];

/// What each key is set to: wrong types, and numbers, durations and sizes about every bound.
fn values() -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!(true),
        json!([]),
        json!([1]),
        json!(["", "x"]),
        json!(["x", "x"]),
        json!({}),
        json!({"x": "y"}),
        json!(-1),
        json!(0),
        json!(0.005),
        json!(0.01),
        json!(1.5),
    ];
    for number in [
        1_u64,
        7,
        8,
        16,
        17,
        100,
        101,
        256,
        257,
        1_000,
        1_001,
        10_000,
        10_001,
        65_536,
        65_537,
        100_000,
        100_001,
        1_000_000,
        1_000_001,
        u64::MAX,
    ] {
        values.push(json!(number));
    }
    for text in [
        "",
        "x",
        "../x",
        "A b",
        "0s",
        "49ms",
        "50ms",
        "99ms",
        "100ms",
        "999ms",
        "1s",
        "10s",
        "11s",
        "60s",
        "61s",
        "300s",
        "301s",
        "1h",
        "3601s",
        "24h",
        "86401s",
        "48h",
        "73h",
        "36600d",
        "36601d",
        "5 minutes",
        "0B",
        "1B",
        "1023B",
        "1KiB",
        "4KiB",
        "8KiB",
        "16KiB",
        "64KiB",
        "65537B",
        "1MiB",
        "4MiB",
        "64MiB",
        "65MiB",
        "1GiB",
        "2GiB",
        "1TiB",
        "9GB",
        "127.0.0.1:80",
        "[::1]:80",
        "localhost:80",
        "http://h",
        "https://u:p@h/",
        "b1:1,b2:2",
        "b1,,b2",
        "@b",
    ] {
        values.push(json!(text));
    }
    for length in [63, 64, 65, 100, 101, 120, 121, 200, 201, 255, 256] {
        values.push(json!("k".repeat(length)));
    }
    values
}

/// Every path of a tree, each mapping before what is in it.
fn paths(tree: &Value, path: &str, all: &mut Vec<String>) {
    for (key, value) in tree.as_object().into_iter().flatten() {
        let path = format!("{path}/{}", key.replace('/', "~1"));
        all.push(path.clone());
        paths(value, &path, all);
    }
}

/// Faults by path and first words; the path of the file itself is replaced.
pub fn shown(faults: &[Fault], dir: &Path) -> String {
    let one = |fault: &Fault| {
        let path = if Path::new(&fault.path).starts_with(dir) {
            "(file)"
        } else {
            &fault.path
        };
        let words = fault.message.split(' ').take(WORDS);
        format!("{path}: {}", words.collect::<Vec<_>>().join(" "))
    };
    faults.iter().map(one).collect::<Vec<_>>().join(" | ")
}

/// The faults of a settings file of this content.
pub fn load(dir: &Path, content: &[u8]) -> String {
    let file = dir.join("settings.yaml");
    std::fs::write(&file, content).expect("the settings");
    match sluice_service::settings::load(&file) {
        Ok(_) => "ok".to_owned(),
        Err(faults) => shown(&faults, dir),
    }
}

/// The mapping at this path.
fn mapping<'t>(tree: &'t mut Value, path: &str) -> &'t mut Map<String, Value> {
    let found = tree.pointer_mut(path).and_then(Value::as_object_mut);
    found.expect("a path of the tree")
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 60 {
        format!("\"k…\"({})", text.len() - 2)
    } else {
        text
    }
}

/// By what is reported, in the order in which it is met, the values that it is reported for.
#[derive(Default)]
struct Found(Vec<(String, Vec<String>)>);

impl Found {
    fn add(&mut self, reported: String, value: &str) {
        let known = self.0.iter_mut().find(|(other, _)| *other == reported);
        match known {
            Some((_, values)) => values.push(value.to_owned()),
            None => self.0.push((reported, vec![value.to_owned()])),
        }
    }

    fn show(&self, text: &mut String, path: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "== {path}");
        for (reported, values) in &self.0 {
            let _ = writeln!(text, "{reported} <- {}", values.join(" "));
        }
    }
}

/// Takes the keys of [`REMOVED`] out of the settings.
pub fn remove_removed(tree: &mut Value) {
    let limits = tree["ingest"]["limits"].as_object_mut();
    limits
        .expect("a mapping")
        .retain(|key, _| !REMOVED.contains(&key.as_str()));
}

fn every_key(dir: &Path) -> String {
    let mut tree: Value = serde_json::from_str(EVERY_KEY).expect("JSON");
    let (mut all, mut text) = (Vec::new(), String::new());
    paths(&tree, "", &mut all);
    remove_removed(&mut tree);
    let load = |tree: &Value| load(dir, tree.to_string().as_bytes());
    for path in all {
        let mut found = Found::default();
        let (parent, key) = path.rsplit_once('/').expect("a slash");
        let mut without = tree.clone();
        mapping(&mut without, parent).remove(key);
        found.add(load(&without), "(missing)");
        let mut values = values();
        if CHOICES.contains(&key) {
            values.extend(WORDS_OF_CHOICES.map(|word| json!(word)));
        }
        for value in values {
            let mut changed = tree.clone();
            let shown = short(&value);
            mapping(&mut changed, parent).insert(key.replace("~1", "/"), value);
            found.add(load(&changed), &shown);
        }
        let mut beside = tree.clone();
        if let Some(map) = beside.pointer_mut(&path).and_then(Value::as_object_mut) {
            map.insert("stranger".to_owned(), json!("x"));
            found.add(load(&beside), "(a stranger in it)");
        }
        found.show(&mut text, &path[1..].replace('/', "."));
    }
    let mut found = Found::default();
    found.add(load(&tree), "(as it stands)");
    let mut beside = tree;
    beside["stranger"] = json!("x");
    found.add(load(&beside), "(a stranger in it)");
    found.show(&mut text, "the file");
    text
}

/// A folder in memory where there is one: thousands of files are written.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a folder")
}

#[test]
fn every_fault_of_every_key_is_the_same() {
    let dir = folder();
    compare("settings-faults.txt", &every_key(dir.path()));
}
