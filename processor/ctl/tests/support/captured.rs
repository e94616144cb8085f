//! Genuine requests of the providers' senders, ways of breaking them, and their two forms as files: in come a
//! source's name and changes, out comes a capture or a raw record.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::{digest, hmac};
use serde_json::{Value, json};
use sluice_schemas::providers::by_name;
use sluice_schemas::providers::sending::{SendingSource, Unsigned};

/// 2026-01-31T08:00:00Z, the time at which the providers sign, and at which requests come where not said.
pub const AT: i64 = 1_769_846_400;

/// The token of the sources that have one.
pub const TOKEN: &str = "k3J9mWq7xT2vR8nL5pZ4cY6b";

/// Each source: name, provider, the secret that its provider signs with.
const SOURCES: [(&str, &str, &str); 12] = [
    ("flock-prod", "flock", "flock_secret_of_production"),
    ("flock-test", "flock", "flock_secret_of_the_tests"),
    ("flock-raw", "flock", "flock_secret_raw"),
    ("flock-lines", "flock", "flock_secret_lines"),
    ("flock-twice64", "flock", "flock_secret_twice"),
    ("flock-rotated", "flock", "flock_secret_of_last_year"),
    ("waitlist", "referralloop", "waitlist_secret_of_ours"),
    ("waitlist-signed", "referralloop", "waitlist_signed_secret"),
    (
        "codes",
        "flowcode",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ),
    (
        "codes-eu",
        "flowcode",
        "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH",
    ),
    (
        "codes-off",
        "flowcode",
        "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH",
    ),
    ("site", "flockler", "flockler_secret_of_site"),
];

/// The settings of the sources and their secrets' files, in a folder; it is the settings file's path.
pub fn installation(dir: &Path) -> String {
    for (name, _, secret) in SOURCES {
        let content = match name {
            "flock-lines" => format!("{secret}\n\n"),
            "flock-twice64" => STANDARD.encode(secret),
            _ => secret.to_owned(),
        };
        std::fs::write(dir.join(name), content).expect("a secret is written");
    }
    std::fs::write(dir.join("flock-new"), "flock_secret_of_this_year").expect("written");
    let (flock, flowcode) = (plain("flock"), plain("flowcode"));
    let gate = hex(&digest::digest(&digest::SHA256, b"gate-value"));
    let token = hex(&digest::digest(&digest::SHA256, TOKEN.as_bytes()));
    let url = "https://hooks.example.com/v1/hooks/site";
    let settings = json!({
        "kafka": {"bootstrap_servers": "localhost:1"},
        "secrets_dir": dir,
        "sources": {
            "flock-prod": flock("flock-prod"),
            "flock-test": flock("flock-test"),
            "flock-lines": flock("flock-lines"),
            "flock-twice64": flock("flock-twice64"),
            "flock-raw": {"provider": "flock", "secrets": ["flock-raw"], "options": {"scheme": "raw"}},
            "flock-rotated": {"provider": "flock", "secrets": [
                {"name": "flock-rotated", "not_after": "2026-01-30T12:00:00Z"}, "flock-new",
            ]},
            "waitlist": {"provider": "referralloop", "secrets": ["waitlist"], "token_sha256": [token]},
            "waitlist-signed": {"provider": "referralloop", "secrets": ["waitlist-signed"],
                "options": {"signature": "required"}},
            "codes": flowcode("codes"),
            "codes-eu": {"provider": "flowcode", "secrets": ["codes-eu"],
                "require_headers": {"x-gate": [gate]}},
            "codes-off": {"provider": "flowcode", "secrets": ["codes-off"], "enabled": false},
            "site": {"provider": "flockler", "secrets": ["site"], "options": {"webhook_urls": [url]}},
        },
    });
    let path = dir.join("sluice.yaml");
    std::fs::write(&path, settings.to_string()).expect("the settings are written");
    path.display().to_string()
}

fn plain(provider: &'static str) -> impl Fn(&str) -> Value {
    move |name| json!({"provider": provider, "secrets": [name]})
}

fn hex(bytes: &impl AsRef<[u8]>) -> String {
    bytes
        .as_ref()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A request on its way.
#[derive(Clone)]
pub struct Request {
    pub source: String,
    pub provider: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub received_at: i64,
    pub token: bool,
}

/// What the source's provider would send, before it is signed.
pub fn sample(source: &str) -> Unsigned {
    match SOURCES
        .iter()
        .find(|(name, ..)| *name == source)
        .expect("a source")
        .1
    {
        "flowcode" => unsigned(concat!(
            r#"{"type":"scan.created","timestamp":"2026-01-31T07:59:58Z","data":{"code_id":"code_7","#,
            r#""place":"Café Zoë","url":"https://example.com/a","scans":7}}"#
        )),
        "flock" => by_name("flock")
            .expect("it")
            .sender()
            .sample("invitee.accepted", 7, AT),
        "flockler" => {
            by_name("flockler")
                .expect("it")
                .sender()
                .sample("article.update", 702_920, AT)
        }
        provider => by_name(provider)
            .expect("it")
            .sender()
            .sample("signup.created", 7, AT),
    }
}

/// A body of one's own.
pub fn unsigned(body: &str) -> Unsigned {
    let (headers, body) = (Vec::new(), body.as_bytes().to_vec());
    Unsigned {
        headers,
        body,
        delivery_id: "msg_2Lhn7RkT4oQmBz".to_owned(),
    }
}

/// The genuine request of a source.
pub fn good(source: &str) -> Request {
    signed(source, sample(source), json!({}), source, AT)
}

/// A request to a source, signed under options with the secret of a source (or any text) at a time.
pub fn signed(
    source: &str,
    sample: Unsigned,
    mut options: Value,
    secret: &str,
    at: i64,
) -> Request {
    let (_, provider, _) = SOURCES
        .iter()
        .find(|(name, ..)| *name == source)
        .expect("a source");
    let known = SOURCES
        .iter()
        .find(|(name, ..)| *name == secret)
        .map(|(_, _, secret)| *secret);
    if *provider == "flockler" && options.get("webhook_urls").is_none() {
        options["webhook_urls"] = json!(["https://hooks.example.com/v1/hooks/site"]);
    }
    let sending = SendingSource {
        options: &options,
        secrets: &[known.unwrap_or(secret).as_bytes().to_vec()],
        files: &BTreeMap::new(),
    };
    let sender = by_name(provider).expect("a provider").sender();
    let sent = sender.sign_for(sample, &sending, at).expect("it is signed");
    let mut request = Request {
        source: source.to_owned(),
        provider: (*provider).to_owned(),
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{source}"),
        headers: Vec::new(),
        body: sent.body,
        received_at: AT,
        token: false,
    };
    let length = request.body.len().to_string();
    let usual = [
        ("host", "hooks.example.com"),
        ("user-agent", "Webhooks/1.0"),
        ("accept", "*/*"),
    ];
    for (name, value) in usual
        .into_iter()
        .chain([("content-type", "application/json")])
    {
        request = request.also(name, value);
    }
    request = request.also("content-length", &length);
    for (name, value) in sent.headers {
        request = request.also(&name, &value);
    }
    if source == "waitlist" {
        request.target = format!("{}/{TOKEN}", request.target);
        request.token = true;
    }
    request
}

/// A MAC in hex that no sender of ours makes.
pub fn other_mac(algorithm: hmac::Algorithm, secret: &str, message: &[u8]) -> String {
    hex(&hmac::sign(
        &hmac::Key::new(algorithm, secret.as_bytes()),
        message,
    ))
}

impl Request {
    /// One more header.
    pub fn also(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// A header with another value, in its place.
    pub fn header(mut self, name: &str, change: impl Fn(&str) -> String) -> Self {
        let found = self
            .headers
            .iter_mut()
            .find(|(found, _)| found.eq_ignore_ascii_case(name));
        let (_, value) = found.expect("the header is there");
        *value = change(std::str::from_utf8(value).expect("text")).into_bytes();
        self
    }

    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    /// A header under another name.
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        let found = self
            .headers
            .iter_mut()
            .find(|(found, _)| found.eq_ignore_ascii_case(from));
        to.clone_into(&mut found.expect("the header is there").0);
        self
    }

    /// Another body, as what rewrites bodies sends it: with the length of the new one.
    pub fn body(self, change: impl Fn(&str) -> Vec<u8>) -> Self {
        let cut = self.cut(change);
        let length = cut.body.len().to_string();
        cut.header("content-length", |_| length.clone())
    }

    /// Another body under the old length.
    pub fn cut(mut self, change: impl Fn(&str) -> Vec<u8>) -> Self {
        self.body = change(std::str::from_utf8(&self.body).expect("text"));
        self
    }

    /// Received so many seconds after it was signed.
    pub const fn later(mut self, seconds: i64) -> Self {
        self.received_at = AT + seconds;
        self
    }

    /// As a proxy writes it to a file.
    pub fn capture(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        text.extend(b"\r\n");
        text.extend(&self.body);
        text
    }

    /// As `show --raw` writes it, with more headers of the record.
    pub fn record(&self, more: &[(&str, &str)]) -> Vec<u8> {
        let latin1 = |value: &[u8]| value.iter().copied().map(char::from).collect::<String>();
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name, latin1(value)))
            .collect();
        let request = json!({
            "v": 1, "id": "019c1313-f400-7d60-9d9f-6f3f6f0c2a11", "source": self.source,
            "provider": self.provider, "received_at": self.received_at * 1_000_000,
            "method": self.method, "target": self.target, "peer": "192.0.2.7", "token": self.token,
            "ack": "broker", "headers": headers,
        });
        let more = more
            .iter()
            .map(|(name, value)| json!([name, STANDARD.encode(value)]));
        let headers = [json!(["request", STANDARD.encode(request.to_string())])];
        record(
            &headers.into_iter().chain(more).collect::<Vec<_>>(),
            &self.body,
            self.received_at,
        )
    }
}

/// A raw record with these headers.
pub fn record(headers: &[Value], body: &[u8], at: i64) -> Vec<u8> {
    let record = json!({
        "sluice": "raw-record", "v": 1, "topic": "webhooks.raw", "partition": 3, "offset": 1042,
        "timestamp": at * 1000 + 20, "key": STANDARD.encode("key"), "headers": headers,
        "body": STANDARD.encode(body),
    });
    record.to_string().into_bytes()
}

/// JSON with other blanks and the keys in their order: `indent` as an editor, else as Python's `json.dumps`.
pub fn respaced(text: &str, indent: bool) -> String {
    let (mut out, mut quoted, mut escaped, mut depth) = (String::new(), false, false, 0);
    for c in text.chars() {
        depth -= usize::from(!quoted && matches!(c, '}' | ']'));
        if indent && !quoted && matches!(c, '}' | ']') {
            out.extend(["\n", &"  ".repeat(depth)]);
        }
        out.push(c);
        depth += usize::from(!quoted && matches!(c, '{' | '['));
        match c {
            '{' | '[' | ',' if indent && !quoted => out.extend(["\n", &"  ".repeat(depth)]),
            ':' | ',' if !quoted => out.push(' '),
            _ => (),
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    out
}

/// What gzip makes of it.
pub fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

pub fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).expect("Latin-1"))
        .collect()
}

/// `é` as `\u00e9`, as Python and PHP write it.
pub fn ascii(text: &str) -> String {
    let escape = |c: char| match c {
        ' '..='~' => c.to_string(),
        _ => format!("\\u{:04x}", u32::from(c)),
    };
    text.chars().map(escape).collect()
}

pub fn sorted(text: &str) -> Vec<u8> {
    serde_json::from_str::<Value>(text)
        .expect("JSON")
        .to_string()
        .into_bytes()
}
