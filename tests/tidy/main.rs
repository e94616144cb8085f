//! What the tree has to keep to: sizes, imports, names and words, rule by rule.
//!
//! Comes in: every source file and document of the repository. Goes out: one line for each place that breaks
//! a rule and is not in `exceptions.txt`, and one for each line of that list that is stale.

mod documents;
mod exceptions;
mod imports;
mod tokens;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use exceptions::Found;
use tokens::{Kind, Token, closing, code, in_tests};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
const COLUMNS: usize = 110;

/// Words that are no plain English here, and sequences of them.
const WORDS: [&[&str]; 10] = [
    &["told"],
    &["tell"],
    &["tells"],
    &["whoever"],
    &["anew"],
    &["besides"],
    &["beside"],
    &["shall"],
    &["a", "person", "must"],
    &["person", "looks"],
];

/// The folders whose files import each other, and the name of their crate.
const CRATES: [(&str, &str); 10] = [
    ("schemas/src", "sluice_schemas"),
    ("schemas/service/src", "sluice_service"),
    ("ingest/src", "sluice_ingest"),
    ("processor/src", "sluice_processor"),
    ("processor/ctl/src", "sluice_ctl"),
    ("tests/src", "sluice_tests"),
    ("ingest/tests", ""),
    ("tests/e2e", ""),
    ("tests/guards", ""),
    ("tests/tidy", ""),
];

/// What is pure, and what it therefore does not import.
const PURE: [&str; 2] = ["processor/src/pipeline", "processor/src/dedup"];
const IMPURE: [&[&str]; 4] = [
    &["crate", "engine"],
    &["crate", "kafka"],
    &["sluice_service"],
    &["rdkafka"],
];

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let list = root.join("tests/tidy/exceptions.txt");
    let found = look(root, &texts(root).unwrap());
    let text = fs::read_to_string(&list).unwrap();
    let text = if std::env::var_os("TIDY_SHRINK").is_some() {
        let text = exceptions::shrunk(&text, &found);
        fs::write(&list, &text).unwrap();
        text
    } else {
        text
    };
    let faults = exceptions::faults(&text, &found);
    assert!(
        faults.is_empty(),
        "tests/tidy/exceptions.txt has one line for each exception:\n{}",
        faults.join("\n")
    );
}

/// Every place that breaks a rule, by how often it does or by how long it is.
fn look(root: &Path, texts: &BTreeMap<String, String>) -> Found {
    let mut found = Found::new();
    let sources: BTreeMap<&str, &str> = of(texts, |path| ends(path, &["rs"]));
    let all: BTreeMap<&str, Vec<Token<'_>>> = sources
        .iter()
        .map(|(path, text)| (*path, tokens::tokens(text)))
        .collect();
    let code: BTreeMap<&str, Vec<Token<'_>>> = all
        .iter()
        .map(|(path, tokens)| (*path, code(tokens)))
        .collect();
    let marked: BTreeMap<&str, Vec<bool>> = code
        .iter()
        .map(|(path, code)| (*path, in_tests(code)))
        .collect();
    for (path, text) in &sources {
        let lines = text.lines().count();
        over(&mut found, "file-lines", path, "-", lines, FILE_LINES);
        functions(&mut found, path, &code[path]);
        comments(&mut found, path, text, &all[path]);
        metrics(&mut found, path, &code[path], &marked[path]);
        layers(&mut found, path, &code[path]);
    }
    for (path, text) in of(texts, |path| !ends(path, &["rs"])) {
        let markdown = ends(path, &["md"]);
        for line in text
            .lines()
            .filter(|line| markdown || line.trim_start().starts_with('#'))
        {
            prose(&mut found, path, line);
            let long = line.chars().count() > COLUMNS && !(markdown && documents::unbroken(line));
            count(&mut found, "columns", path, "-", usize::from(long));
        }
        if markdown {
            references(&mut found, root, path, text);
        }
    }
    for (folder, name) in CRATES {
        circles(&mut found, folder, name, &code, &marked);
    }
    found
}

fn functions(found: &mut Found, path: &str, code: &[Token<'_>]) {
    for at in 1..code.len() {
        if !code[at - 1].is("fn") || code[at].kind != Kind::Word {
            continue;
        }
        words(found, path, &code[at].text.replace('_', " "));
        let mut depth = 0;
        let body = (at..code.len()).find(|index| {
            depth += i32::from(code[*index].is("(") || code[*index].is("["));
            depth -= i32::from(code[*index].is(")") || code[*index].is("]"));
            depth == 0 && (code[*index].is("{") || code[*index].is(";"))
        });
        if let Some(body) = body.filter(|body| code[*body].is("{")) {
            let end = code
                .get(closing(code, body))
                .map_or(code[at].line, |token| token.line);
            let lines = end + 1 - code[at].line;
            over(
                found,
                "function-lines",
                path,
                code[at].text,
                lines,
                FUNCTION_LINES,
            );
        }
    }
}

/// Comments and texts: their words; of comments also the columns.
fn comments(found: &mut Found, path: &str, text: &str, tokens: &[Token<'_>]) {
    let lines: Vec<_> = text.lines().collect();
    for token in tokens {
        if token.kind == Kind::Comment {
            prose(found, path, token.text);
            let long = lines[token.line - 1].chars().count() > COLUMNS;
            count(found, "columns", path, "-", usize::from(long));
        } else if token.kind == Kind::Text && token.text.contains(' ') {
            words(found, path, token.text);
        }
    }
}

fn prose(found: &mut Found, path: &str, text: &str) {
    words(found, path, text);
    let marks = ["TODO", "FIXME"]
        .iter()
        .filter(|mark| text.contains(**mark))
        .count();
    count(found, "marker", path, "-", marks);
}

/// Metrics are named in one file.
fn metrics(found: &mut Found, path: &str, code: &[Token<'_>], in_tests: &[bool]) {
    let test_file =
        ends(path, &["tests.rs"]) || path.contains("tests/") || path.contains("_tests.rs");
    if test_file || path.starts_with("schemas/src/metric/") {
        return;
    }
    for (token, in_tests) in code.iter().zip(in_tests) {
        let crates = CRATES.iter().any(|(_, name)| token.text == *name);
        if token.kind == Kind::Text && token.text.starts_with("sluice_") && !in_tests && !crates {
            count(found, "metric", path, &token.text.replace(' ', "_"), 1);
        }
    }
}

/// Pure code imports nothing that is not.
fn layers(found: &mut Found, path: &str, code: &[Token<'_>]) {
    if !PURE.iter().any(|folder| path.starts_with(folder)) {
        return;
    }
    let words: Vec<_> = code.iter().filter(|token| !token.is(":")).collect();
    for from in 0..words.len() {
        for impure in IMPURE {
            if words[from..]
                .iter()
                .zip(impure)
                .take_while(|(token, name)| token.is(name))
                .count()
                == impure.len()
            {
                count(found, "layer", path, &impure.join("::"), 1);
            }
        }
    }
}

fn references(found: &mut Found, root: &Path, path: &str, text: &str) {
    let folder = root
        .join(path)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    for target in documents::links(text) {
        count(
            found,
            "link",
            path,
            target,
            usize::from(!folder.join(target).exists()),
        );
    }
    for name in documents::paths(text, root) {
        let exists = root.join(name).exists() || folder.join(name).exists();
        count(found, "path", path, name, usize::from(!exists));
    }
}

fn circles(
    found: &mut Found,
    folder: &str,
    name: &str,
    code: &BTreeMap<&str, Vec<Token<'_>>>,
    marked: &BTreeMap<&str, Vec<bool>>,
) {
    let within = |path: &str| Some(module(path.strip_prefix(folder)?.strip_prefix('/')?));
    let mut modules: BTreeMap<&str, Vec<String>> = code
        .keys()
        .filter_map(|path| Some((*path, within(path)?)))
        .collect();
    for path in modules.keys().copied().collect::<Vec<_>>() {
        for (file, name) in renamed(&code[path]) {
            let named = modules[path].iter().cloned().chain([name]).collect();
            let target = Path::new(path).with_file_name(file);
            if let Some(module) = target.to_str().and_then(|target| modules.get_mut(target)) {
                *module = named;
            }
        }
    }
    let files: Vec<_> = modules
        .into_iter()
        .map(|(path, module)| imports::File {
            path,
            module,
            code: &code[path],
            in_tests: &marked[path],
        })
        .collect();
    for (path, imported) in imports::circles(name, &files) {
        for other in imported {
            count(found, "circle", &path, &other, 1);
        }
    }
}

/// `#[path = "file"] mod name;`
fn renamed<'a>(code: &[Token<'a>]) -> Vec<(&'a str, String)> {
    let heads = code
        .windows(6)
        .filter(|w| w[0].is("path") && w[1].is("=") && w[2].kind == Kind::Text && w[4].is("mod"));
    heads
        .map(|window| (window[2].text, window[5].text.to_owned()))
        .collect()
}

/// The module of a file, by its path within its crate.
fn module(path: &str) -> Vec<String> {
    let mut names: Vec<_> = path
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if names.last().is_some_and(|last| last == "mod")
        || ["lib", "main"].contains(&names.join("/").as_str())
    {
        names.pop();
    }
    names
}

fn words(found: &mut Found, path: &str, text: &str) {
    let lower = text.to_lowercase();
    let parts: Vec<_> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect();
    for word in WORDS {
        let times = parts
            .windows(word.len())
            .filter(|window| *window == word)
            .count();
        count(found, "word", path, &word.join("_"), times);
    }
}

fn over(found: &mut Found, rule: &str, path: &str, detail: &str, lines: usize, limit: usize) {
    let key = (rule.to_owned(), path.to_owned(), detail.to_owned());
    if lines > limit {
        let longest = found.entry(key).or_default();
        *longest = lines.max(*longest);
    }
}

fn count(found: &mut Found, rule: &str, path: &str, detail: &str, times: usize) {
    if times > 0 {
        *found
            .entry((rule.to_owned(), path.to_owned(), detail.to_owned()))
            .or_default() += times;
    }
}

fn ends(path: &str, extensions: &[&str]) -> bool {
    extensions.iter().any(|extension| {
        path.ends_with(&format!(".{extension}")) || path.ends_with(&format!("/{extension}"))
    })
}

fn of(texts: &BTreeMap<String, String>, wanted: impl Fn(&str) -> bool) -> BTreeMap<&str, &str> {
    let all = texts
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    all.filter(|(path, _)| wanted(path)).collect()
}

/// Every text that people write, by its path from the root.
fn texts(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            let kind = entry.file_type()?;
            if kind.is_dir() && !["target", ".git", ".cache"].contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file()
                && (ends(&name, &["rs", "md", "yaml", "toml", "sh"]) || name == "Makefile")
            {
                let text = fs::read_to_string(root.join(&path))?;
                found.insert(path.to_string_lossy().into_owned(), text);
            }
        }
    }
    Ok(found)
}
