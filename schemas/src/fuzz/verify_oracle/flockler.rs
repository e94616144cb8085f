//! Flockler, read a second time.

use serde_json::json;

use super::shared::{Decision, Header, Parsed, Request, compare, unbase64, unhex, write};
use crate::fuzz::input::Input;
use crate::fuzz::lowercase::{WAYS, ways};
use crate::fuzz::reading::Value;
use crate::fuzz::signing::Source;
use crate::raw::Headers;
use crate::reason::Reason;

/// The URLs as they were typed.
const URLS: [&str; 2] = ["x", "https://Example.com/Hooks/Flockler?Key=ÄΣ"];

const ACTIONS: [&str; 3] = ["publish", "update", "unpublish"];

const ENVIRONMENTS: [&str; 4] = ["development", "sandbox", "staging", "production"];

/// The members of the article that are read: none may stand twice.
const KEYS: [&str; 10] = [
    "id",
    "site_id",
    "section_id",
    "title",
    "author",
    "type",
    "url",
    "article_url",
    "tags",
    "published_at",
];

/// What a source's options say.
struct Options {
    encoding: &'static str,
    lowercase: &'static str,
    environments: &'static [&'static str],
}

/// The headers.
struct Head {
    action: Header,
    environment: Header,
    signature: Header,
}

pub fn run(input: &mut Input<'_>) {
    let options = Options {
        encoding: input.pick(&["auto", "hex", "base64", "base64_hex"]),
        lowercase: input.pick(&["auto", "unicode", "simple", "final_sigma", "ascii"]),
        environments: input.pick(&[&["production"], &["sandbox", "production"]]),
    };
    let (signed, url, way) = (input.choice(5), input.pick(&URLS), input.choice(8));
    let mut head = Head {
        action: Header::read(input, "x-flockler-action"),
        environment: Header::read(input, "x-flockler-env"),
        signature: Header::read(input, "x-flockler-signature"),
    };
    let body = input.rest();
    let settings = json!({"encoding": options.encoding, "lowercase": options.lowercase,
        "webhook_urls": URLS, "environments": options.environments});
    let source = Source::new("flockler", settings).expect("good options");
    let text = text(&head, url, body);
    let message = ways(&text)
        .into_iter()
        .nth(signed)
        .flatten()
        .unwrap_or(text);
    head.signature = head
        .signature
        .carrying(&write(&Source::mac(&[&message]), way));
    let headers = [&head.action, &head.environment, &head.signature];
    let request = Request {
        headers: Headers(headers.map(|header| header.headers().0).concat()),
        body,
        token: false,
    };
    compare(&source, &request, decide(&options, &head, body));
}

/// What is signed, before it is lower-cased.
fn text(head: &Head, url: &str, body: &[u8]) -> Vec<u8> {
    let (action, environment) = (head.action.once(), head.environment.once());
    [
        b"POST".as_slice(),
        &action,
        &environment,
        url.as_bytes(),
        body,
    ]
    .join(&b'|')
}

/// The MAC that the header carries.
fn mac(value: &[u8], encoding: &str) -> Option<Vec<u8>> {
    let allowed = |name: &str| encoding == "auto" || encoding == name;
    let base64 = unbase64(value, true);
    let hex = unhex(value).filter(|_| allowed("hex"));
    let short = base64
        .clone()
        .filter(|bytes| bytes.len() == 32 && allowed("base64"));
    let long = base64
        .and_then(|text| unhex(&text))
        .filter(|_| allowed("base64_hex"));
    hex.or(short).or(long)
}

fn decide(options: &Options, head: &Head, body: &[u8]) -> Decision {
    let given = match head
        .signature
        .value()
        .map(|value| mac(value, options.encoding))
    {
        Ok(Some(given)) => given,
        Ok(None) => return Some(Err(Reason::SignatureMalformed)),
        Err(reason) => return Some(Err(reason)),
    };
    let mut scheme = None;
    for (at, way) in WAYS.into_iter().enumerate() {
        if options.lowercase == "auto" || options.lowercase == way {
            for url in URLS {
                let message = ways(&text(head, url, body))[at].take()?;
                let signs = Source::mac(&[&message])[..] == given;
                scheme = scheme.or(signs.then_some(way));
            }
        }
    }
    let Some(scheme) = scheme else {
        return Some(Err(Reason::SignatureMismatch));
    };
    let (action, environment) = (head.action.once(), head.environment.once());
    let Some(reason) = fault(options, &action, &environment, body) else {
        return Some(Ok(Some(scheme)));
    };
    // Signed is what it says in lower case. Where that is no dead letter of this kind, its case was changed.
    let at = WAYS.iter().position(|way| *way == scheme)?;
    let lower = |text: &[u8]| ways(text)[at].take();
    let signed = fault(
        options,
        &lower(&action)?,
        &lower(&environment)?,
        &lower(body)?,
    );
    let same = signed == Some(reason);
    Some(Err(if same {
        reason
    } else {
        Reason::SignatureMismatch
    }))
}

/// Why an authentic request is refused.
fn fault(options: &Options, action: &[u8], environment: &[u8], body: &[u8]) -> Option<Reason> {
    let parsed = Parsed::of(body, &["action", "article"]);
    let article = parsed.member("article");
    if parsed.fault.is_some() {
        return parsed.fault;
    }
    let known = |text: &[u8], set: &[&'static str]| {
        let mut set = set.iter().copied();
        set.find(|known| known.as_bytes() == text)
    };
    let (action, environment) = (known(action, &ACTIONS), known(environment, &ENVIRONMENTS));
    let says = parsed.member("action").and_then(Value::string);
    let agrees = says.as_deref().is_none_or(|says| Some(says) == action);
    let text = parsed.text.unwrap_or_default();
    let id = article.and_then(|article| article.member(text, "id")?.token(text));
    let accepted = |environment| options.environments.contains(&environment);
    if article.is_some_and(|article| article.has_twice(&KEYS)) {
        Some(Reason::MalformedJson)
    } else if action.is_none() || environment.is_none() || !agrees {
        Some(Reason::ContradictoryHeaders)
    } else if !environment.is_some_and(accepted) {
        Some(Reason::EnvironmentNotAccepted)
    } else {
        (says.is_none() || id.is_none_or(|id| id.is_empty())).then_some(Reason::MissingField)
    }
}
