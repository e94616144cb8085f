//! The URL that may have been signed, where the source signs one: as a proxy changed it on the way, or as it
//! was typed at the provider.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice_schemas::identity::sha256;
use sluice_schemas::providers::Verifier;

use super::super::case::{Case, fits};
use super::super::cause::{Cause, Finding};
use super::options;
use crate::output::plain;

/// How many bytes are hashed for one search at most.
const BUDGET: usize = 256 << 20;

/// An option for URLs with what it names, and all that the URL may have been.
pub struct Urls {
    option: &'static str,
    pub all: Vec<String>,
}

/// The parts of a URL.
#[derive(Clone, Default)]
struct Parts {
    scheme: String,
    host: String,
    path: String,
    query: Option<String>,
}

impl Parts {
    fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, rest) = rest.split_at(at);
        let (path, query) = target(rest);
        Some(Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            path,
            query,
        })
    }

    fn text(&self) -> String {
        let Self {
            scheme,
            host,
            path,
            query,
        } = self;
        match query {
            Some(query) => format!("{scheme}://{host}{path}?{query}"),
            None => format!("{scheme}://{host}{path}"),
        }
    }
}

fn target(text: &str) -> (String, Option<String>) {
    match text.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// Headers in which proxies keep the host and the path that a request came to.
const HOSTS: [&str; 4] = ["host", "x-forwarded-host", "x-original-host", ":authority"];
const PATHS: [&str; 6] = [
    "x-original-uri",
    "x-original-url",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-rewrite-url",
    "x-envoy-original-path",
];

/// What the URL may have been, the likeliest first; `None` where the source signs none.
pub fn urls(case: &Case<'_>) -> Option<Urls> {
    let option = case.source.provider.variants().urls?;
    let listed = case.source.options.get(option).and_then(Value::as_array);
    let listed = listed
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned);
    let files = case.credentials.files.values();
    let files = files.filter_map(|content| String::from_utf8(content.clone()).ok());
    let configured: Vec<String> = listed.chain(files).collect();
    let known: Vec<Parts> = configured.iter().filter_map(|url| Parts::of(url)).collect();
    let mut all = Vec::new();
    let mut seen: BTreeSet<String> = configured.into_iter().collect();
    let mut add = |url: String| {
        if seen.insert(url.clone()) {
            all.push(url);
        }
    };
    let parts = (
        hosts(case, &known),
        paths(case, &known),
        queries(case, &known),
    );
    nearest(&known, &parts, &mut add);
    farther(&parts, &mut add);
    let bytes = case.body.len().saturating_add(200) * case.credentials.keys.len().max(1);
    all.truncate((BUDGET / bytes).clamp(40, 20_000));
    Some(Urls { option, all })
}

/// Hosts, paths and queries.
type All = (Vec<String>, Vec<String>, Vec<Option<String>>);

/// Those with one difference, so that the URL that is named is the nearest.
fn nearest(known: &[Parts], (hosts, paths, queries): &All, add: &mut dyn FnMut(String)) {
    for base in known {
        let mut one = |change: &dyn Fn(&mut Parts)| {
            let mut parts = base.clone();
            change(&mut parts);
            add(parts.text());
        };
        for scheme in ["https", "http"] {
            one(&|parts| scheme.clone_into(&mut parts.scheme));
        }
        for path in slashes(&base.path) {
            one(&|parts| parts.path.clone_from(&path));
        }
        for query in queries {
            one(&|parts| parts.query.clone_from(query));
        }
        for host in hosts {
            one(&|parts| parts.host.clone_from(host));
        }
        for path in paths {
            one(&|parts| parts.path.clone_from(path));
        }
    }
}

/// All the others.
fn farther((hosts, paths, queries): &All, add: &mut dyn FnMut(String)) {
    for host in hosts {
        for path in paths {
            for query in queries {
                for scheme in ["https", "http"] {
                    let (scheme, host, path) = (scheme.to_owned(), host.clone(), path.clone());
                    let query = query.clone();
                    let parts = Parts {
                        scheme,
                        host,
                        path,
                        query,
                    };
                    add(parts.text());
                }
            }
        }
    }
    paths.iter().cloned().for_each(add);
}

fn hosts(case: &Case<'_>, known: &[Parts]) -> Vec<String> {
    let mut bare: Vec<String> = known.iter().map(|parts| parts.host.clone()).collect();
    for name in HOSTS {
        let values = case.request.headers.all(name);
        let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
        bare.extend(
            texts
                .flat_map(|text| text.split(','))
                .map(|text| text.trim().to_owned()),
        );
    }
    let mut all = Vec::new();
    for host in &bare {
        let name = host.split(':').next().unwrap_or(host);
        let www = name
            .strip_prefix("www.")
            .map_or(format!("www.{name}"), str::to_owned);
        all.push(host.clone());
        all.push(name.to_owned());
        all.extend(["443", "80", "8080", "8443"].map(|port| format!("{name}:{port}")));
        all.push(www);
    }
    distinct(all)
}

fn paths(case: &Case<'_>, known: &[Parts]) -> Vec<String> {
    let mut bare: Vec<String> = known.iter().map(|parts| parts.path.clone()).collect();
    bare.push(target(&case.request.target).0);
    bare.extend(case.path.as_deref().map(|path| target(path).0));
    for name in PATHS {
        let texts = case.request.headers.all(name);
        let texts = texts.filter_map(|value| std::str::from_utf8(value).ok());
        bare.extend(texts.map(|text| target(text).0));
    }
    let prefixes = case.request.headers.all("x-forwarded-prefix");
    let prefixes: Vec<String> = prefixes
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    let mut all = Vec::new();
    for path in &bare {
        all.extend(slashes(path));
        let mut rest = path.as_str();
        for _ in 0..3 {
            // A prefix that a proxy took off or put on.
            let Some(at) = rest.get(1..).and_then(|text| text.find('/')) else {
                break;
            };
            rest = &rest[at + 1..];
            all.extend(slashes(rest));
        }
        all.extend(
            prefixes
                .iter()
                .map(|prefix| format!("{}{path}", prefix.trim_end_matches('/'))),
        );
        for prefix in ["/api", "/webhooks", "/hooks", "/ingest", "/sluice"] {
            all.push(format!("{prefix}{path}"));
        }
        all.push(format!("{path}/{}", case.source.name));
    }
    all.push("/".to_owned());
    all.push(String::new());
    distinct(all)
}

/// A path with and without a slash at its end.
fn slashes(path: &str) -> [String; 2] {
    let bare = path.trim_end_matches('/');
    [
        path.to_owned(),
        if path.ends_with('/') {
            bare.to_owned()
        } else {
            format!("{bare}/")
        },
    ]
}

fn queries(case: &Case<'_>, known: &[Parts]) -> Vec<Option<String>> {
    let mut all: Vec<Option<String>> = vec![None];
    all.extend(known.iter().map(|parts| parts.query.clone()));
    all.push(target(&case.request.target).1);
    all.extend(case.path.as_deref().map(|path| target(path).1));
    let mut seen = BTreeSet::new();
    all.retain(|query| seen.insert(query.clone()));
    all
}

fn distinct(mut all: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.retain(|text| seen.insert(text.clone()));
    all
}

impl Urls {
    /// A verifier that takes these URLs for the webhook's own.
    pub fn verifier(&self, case: &Case<'_>, urls: &[String]) -> Box<dyn Verifier> {
        options::verifier(case.source, &[(self.option, json!(urls))])
    }

    /// The one that fits a request, of those from which a first look knows that one does.
    pub fn finding(&self, case: &Case<'_>, fitting: &dyn Fn(&dyn Verifier) -> bool) -> Finding {
        let (mut from, mut to) = (0, self.all.len());
        while to - from > 1 {
            let middle = usize::midpoint(from, to);
            let is_first = fitting(self.verifier(case, &self.all[from..middle]).as_ref());
            (from, to) = if is_first {
                (from, middle)
            } else {
                (middle, to)
            };
        }
        let found = self.all.get(from).map(String::as_str).unwrap_or_default();
        let (shown, has_token) = shown(case, found);
        let option = self.option;
        let how = if has_token {
            format!("put it, with the token, into a file for {option}'s sibling for files")
        } else {
            format!("name it under options.{option}")
        };
        let says =
            format!("the signature is over the URL {shown}, which the source does not have; {how}");
        Finding::proved(Cause::ProxyUrl, says)
    }

    /// Whether any fits the request as it is.
    pub fn fit(&self, case: &Case<'_>) -> Option<Finding> {
        let fitting =
            |verifier: &dyn Verifier| fits(verifier, &case.credentials, &case.request, &case.body);
        let all = self.verifier(case, &self.all);
        fitting(all.as_ref()).then(|| self.finding(case, &fitting))
    }
}

/// A URL for people: without a token, and without a query that the settings do not have.
fn shown(case: &Case<'_>, url: &str) -> (String, bool) {
    let is_token = |part: &str| case.source.token_sha256.contains(&sha256(part.as_bytes()));
    let has_token = url.split(['/', '?', '&', '=']).any(is_token);
    let in_file = |query: &str| {
        let mut files = case.credentials.files.values();
        files.any(|content| String::from_utf8_lossy(content).contains(query))
    };
    let (path, query) = target(url);
    let path: Vec<&str> = path
        .split('/')
        .map(|part| if is_token(part) { "***" } else { part })
        .collect();
    let path = path.join("/");
    let text = match query {
        Some(query) if case.source.options.to_string().contains(&query) && !in_file(&query) => {
            format!("{path}?{query}")
        }
        Some(_) => format!("{path}?***"),
        None => path,
    };
    (plain(&text), has_token)
}
