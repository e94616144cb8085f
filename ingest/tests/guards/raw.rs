//! The raw record of every provider's fixture, of every kind of request that the playground sends, and
//! of requests with headers that are dropped or kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use serde_json::{Value, json};
use sluice_schemas::identity::sha256;
use sluice_schemas::providers::testing::{TestSource, Unsigned};
use sluice_schemas::providers::{ALL, Provider};

use super::{is_request_id, same_as_golden, settings};
use crate::broker::{Running, becomes, exchange, raw_reader, start};
use crate::support::hex;

const TOPIC: &str = "webhooks.raw";

const PARTITIONS: i32 = 4;

/// The token of the guarded sources.
const TOKEN: &str = "guards-token";

/// The time in the samples, in seconds since 1970.
const AT: i64 = 1_700_000_000;

/// Placeholders of a request id, a time in microseconds and a trace.
const ID: &str = "00000000-0000-7000-8000-000000000000";
const MICROS: &str = "1700000000000000";
const TRACE: &str = "00-00000000000000000000000000000000-0000000000000000-01";

/// A request as it goes over the wire, and the golden file that its record stands in.
struct Case {
    file: String,
    name: String,
    request: Vec<u8>,
}

#[test]
fn raw_records_are_unchanged() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let running = start(settings(&yaml(&bootstrap)));
    becomes(&running, "200");
    let mut cases = fixtures();
    cases.extend(playground());
    cases.extend(door());
    let since = micros();
    let answers: Vec<String> = cases.iter().map(|case| sent(&running, case)).collect();
    let accepted = answers.iter().filter(|answer| is_request_id(answer));
    let records = records(&bootstrap, accepted.count(), since);
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let record = records.get(answer).unwrap_or(answer);
        let text = files.entry(&case.file).or_default();
        writeln!(text, "== {}\n{record}", case.name).unwrap();
    }
    running.shutdown.cancel();
    running.end().unwrap();
    for (file, text) in files {
        same_as_golden(&format!("raw.{file}.txt"), &text);
    }
}

fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// The request's id, or the answer where it was refused.
fn sent(running: &Running, case: &Case) -> String {
    let answer = exchange(running.address, &case.request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let id = body.strip_prefix("{\"id\":\"");
    match id.and_then(|id| id.strip_suffix("\"}")) {
        Some(id) if head.starts_with("HTTP/1.1 200 ") => id.to_owned(),
        _ => format!("{}\n{body}\n", head.lines().next().unwrap()),
    }
}

/// Reads `count` records; their descriptions by request id.
fn records(bootstrap: &str, count: usize, since: i64) -> HashMap<String, String> {
    let consumer = raw_reader(bootstrap, PARTITIONS);
    let began = Instant::now();
    let mut records = HashMap::new();
    while records.len() < count {
        let found = records.len();
        assert!(began.elapsed() < Duration::from_secs(20), "{found}");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let (id, text) = describe(&message, since);
            assert!(records.insert(id, text).is_none(), "an id came twice");
        }
    }
    records
}

/// A record's request id, and its description with the varying parts masked.
fn describe(message: &BorrowedMessage<'_>, since: i64) -> (String, String) {
    let (key, value) = (message.key().unwrap(), message.payload().unwrap());
    let mut text = format!("topic {} {}\n", message.topic(), message.partition());
    writeln!(text, "key {}", hex(key)).unwrap();
    let mut id = String::new();
    for header in message.headers().unwrap().iter() {
        let value = std::str::from_utf8(header.value.unwrap()).unwrap();
        let value = match header.key {
            "request" => {
                id = request_id(value, since);
                request_masked(value)
            }
            "traceparent" => {
                assert!(is_trace(value), "{value}");
                TRACE.to_owned()
            }
            _ => value.to_owned(),
        };
        let bytes = value.as_bytes();
        // Readable first, for the first difference that a failure shows.
        writeln!(text, "header {} {}", header.key, bytes.escape_ascii()).unwrap();
        writeln!(text, "     = {}", hex(bytes)).unwrap();
    }
    writeln!(text, "value {} {}", value.len(), hex(&sha256(value))).unwrap();
    (id, text)
}

fn is_trace(text: &str) -> bool {
    text.len() == TRACE.len()
        && text
            .chars()
            .zip(TRACE.char_indices())
            .all(|(found, (at, wanted))| {
                // The version and the flags do not vary: every trace is sampled here.
                if wanted == '-' || !(3..52).contains(&at) {
                    found == wanted
                } else {
                    matches!(found, '0'..='9' | 'a'..='f')
                }
            })
}

/// The id in a header `request`, checked with the time of receipt: both have their form and agree.
fn request_id(json: &str, since: i64) -> String {
    let request: Value = serde_json::from_str(json).unwrap();
    let id = request["id"].as_str().unwrap();
    assert!(is_request_id(id), "{json}");
    let received = request["received_at"].as_i64().unwrap();
    assert!((since..=micros()).contains(&received), "{json}");
    let millis = id.replace('-', "");
    let millis = i64::from_str_radix(&millis[..12], 16).unwrap();
    assert_eq!(millis, received / 1000, "{json}");
    id.to_owned()
}

fn request_masked(json: &str) -> String {
    let request: Value = serde_json::from_str(json).unwrap();
    let mut masked = json.to_owned();
    for (name, placeholder) in [("id", json!(ID)), ("received_at", Value::Null)] {
        let found = format!("\"{name}\":{}", request[name]);
        assert_eq!(json.matches(&found).count(), 1, "{json}");
        let instead = match placeholder {
            Value::Null => format!("\"{name}\":{MICROS}"),
            other => format!("\"{name}\":{other}"),
        };
        masked = masked.replace(&found, &instead);
    }
    masked
}

/// For each provider a source for its fixtures, a guarded one for fixtures with a token, and the
/// playground's; and one source that requires a token and a header.
fn yaml(bootstrap: &str) -> String {
    let mut sources = serde_json::Map::new();
    for provider in ALL {
        let name = provider.spec().name;
        let mut open = provider.sender().source(name).settings;
        if let Some(open) = open.as_object_mut()
            && open.remove("token_sha256").is_some()
        {
            // Without a token its requests must be signed.
            open.insert("options".to_owned(), json!({"signature": "required"}));
        }
        let mut guarded = open.clone();
        guarded["token_sha256"] = json!([hex(&sha256(TOKEN.as_bytes()))]);
        sources.insert(name.to_owned(), open);
        sources.insert(format!("{name}-guarded"), guarded);
        sources.insert(playground_name(provider), source(provider).settings);
    }
    let door = json!({
        "provider": "flowcode", "secrets": ["x"],
        "token_sha256": [hex(&sha256(TOKEN.as_bytes()))],
        "require_headers": {"X-Key": [hex(&sha256(b"k3y"))]},
    });
    sources.insert("door".to_owned(), door);
    json!({
        "kafka": {"bootstrap_servers": bootstrap},
        "topics": {"partitions": PARTITIONS, "replication": 1},
        "sources": sources,
        "telemetry": {"trace_ratio": 1},
    })
    .to_string()
}

/// One request on a connection of its own. `lines` are the head's, each with its line end; a character
/// is a byte there.
fn request(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: hooks.example.com\r\n{lines}Connection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut request: Vec<u8> = head.chars().map(|c| u8::try_from(c).unwrap()).collect();
    request.extend(body);
    request
}

/// Every `{provider}/fixtures/*.http` of this workspace, in the order of their names. Found by search, so
/// that the folders may move.
fn fixtures() -> Vec<Case> {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    find(root, &mut files);
    files.sort_by_key(|file| (provider_of(file), file.file_name().map(ToOwned::to_owned)));
    assert!(files.len() >= 234, "{} fixtures", files.len());
    files.iter().map(|file| fixture(file)).collect()
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type().unwrap().is_dir() {
            if !hidden && name != "target" {
                find(&path, files);
            }
        } else if folder.ends_with("fixtures") && path.extension().is_some_and(|it| it == "http") {
            files.push(path);
        }
    }
}

/// The name of the folder above `fixtures`.
fn provider_of(file: &Path) -> String {
    let folder = file.ancestors().nth(2).unwrap();
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Lines of `# setting: value`, the request's head, an empty line, the body. A fixture whose request had
/// a token goes to the source that asks for one.
fn fixture(file: &Path) -> Case {
    let content = std::fs::read(file).unwrap();
    let end = content.windows(2).position(|two| two == b"\n\n").unwrap();
    let head: String = content[..end].iter().copied().map(char::from).collect();
    let provider = provider_of(file);
    let path = if head.contains("\n# token: true") || head.starts_with("# token: true") {
        format!("/v1/hooks/{provider}-guarded/{TOKEN}")
    } else {
        format!("/v1/hooks/{provider}")
    };
    let lines = head.lines().filter(|line| !line.starts_with('#'));
    // The first is the request's own.
    let lines: String = lines.skip(1).flat_map(|line| [line, "\r\n"]).collect();
    Case {
        file: provider,
        name: file.file_stem().unwrap().to_str().unwrap().to_owned(),
        request: request(&path, &lines, &content[end + 2..]),
    }
}

fn playground_name(provider: &dyn Provider) -> String {
    format!("my-{}", provider.spec().name)
}

fn source(provider: &dyn Provider) -> TestSource {
    provider.sender().source(&playground_name(provider))
}

/// The kinds of request of the playground: each event, a repetition, a forgery, a guessed token, a stale
/// request, and one whose JSON lacks its last bracket.
fn playground() -> Vec<Case> {
    let mut cases = Vec::new();
    for provider in ALL {
        let (sender, source) = (provider.sender(), source(provider));
        let secret = source.files[0].1.clone();
        let token = source
            .token
            .map_or(String::new(), |token| format!("/{token}"));
        let path = format!("/v1/hooks/{}{token}", playground_name(provider));
        let mut add = |what: &str, path: &str, unsigned: &Unsigned, secret: &[u8], at: i64| {
            let mut lines = "content-type: application/json\r\n".to_owned();
            let signed = sender.sign(unsigned, secret, at);
            for (name, value) in unsigned.headers.iter().chain(&signed) {
                write!(lines, "{name}: {value}\r\n").unwrap();
            }
            cases.push(Case {
                file: "playground".to_owned(),
                name: format!("{}: {what}", provider.spec().name),
                request: request(path, &lines, &unsigned.body),
            });
        };
        let mut n = 1;
        for event in sender.events() {
            let unsigned = sender.sample(event, n, AT);
            add(event, &path, &unsigned, &secret, AT);
            add(&format!("{event}, again"), &path, &unsigned, &secret, AT);
            n += 1;
        }
        let unsigned = sender.sample(sender.events()[0], n, AT);
        add("a forgery", &path, &unsigned, b"a stranger's guess", AT);
        let guessed = format!("/v1/hooks/{}/a-guess", playground_name(provider));
        add("a guessed token", &guessed, &unsigned, &secret, AT);
        let stale = sender.sample(sender.events()[0], n + 1, AT - 3_600);
        add("of an hour ago", &path, &stale, &secret, AT - 3_600);
        let mut broken = sender.sample(sender.events()[0], n + 2, AT);
        broken.body.pop();
        add("a broken one", &path, &broken, &secret, AT);
    }
    cases
}

/// Headers that are dropped or kept, keys, spellings of a path, and a body in chunks.
fn door() -> Vec<Case> {
    let guarded = format!("/v1/hooks/door/{TOKEN}?a=%65&b");
    let plain = "/v1/hooks/flowcode";
    let large = "x".repeat(70_000);
    let all = "X-Key: k3y\r\nX-Odd: \u{e9}\u{ff}\r\nX-Twice: 1\r\nx-other:  padded \r\n\
               X-Twice: 2\r\nX-Empty:\r\nCookie: a=b\r\nAuthorization: x\r\n\
               Proxy-Authorization: x\r\nProxy-Authenticate: x\r\nProxy-Connection: x\r\nTE: trailers\r\n\
               Trailer: x\r\nUpgrade: x\r\nKeep-Alive: x\r\nX-Hop: 1\r\nConnection: x-hop\r\n\
               X-Forwarded-For: 203.0.113.7\r\nTraceparent: 00-1-2-03\r\n";
    let chunked = format!(
        "POST {plain} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\n{{\r\n1;a=b\r\n}}\r\n0\r\nX-Trailer: 1\r\n\r\n"
    );
    let case = |name: &str, request: Vec<u8>| Case {
        file: "door".to_owned(),
        name: name.to_owned(),
        request,
    };
    vec![
        case("everything that is dropped", request(&guarded, all, b"{}")),
        case("no body", request(plain, "", b"")),
        case("not UTF-8", request(plain, "", b"\xff\xfe")),
        case("a key", request(plain, "webhook-id: msg_1\r\n", b"{}")),
        case(
            "a long key",
            request(
                plain,
                &format!("webhook-id: {}\r\n", "k".repeat(257)),
                b"{}",
            ),
        ),
        case(
            "two keys",
            request(plain, "webhook-id: a\r\nwebhook-id: b\r\n", b"{}"),
        ),
        case("chunks", chunked.into_bytes()),
        case("a large body", request(plain, "", large.as_bytes())),
        case(
            "an escaped path",
            request("/v1/hooks/%66lowcode/?x=/%2F", "", b"{}"),
        ),
        case(
            "an escaped token",
            request("/v1/hooks/door/%67uards-token/", "x-key: k3y\r\n", b"{}"),
        ),
        case("no required header", request(&guarded, "", b"{}")),
    ]
}
