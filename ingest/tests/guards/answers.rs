//! Every answer over HTTP/1.1: status, headers in their order, and body; and the values published to raw.

use std::fmt::Write;

use super::{masked, same_as_golden};
use crate::smuggling::corpus::PINNED;
use crate::support::{Ingest, SMALL, Sender};
use crate::{CODED, NOT_CODED, NOT_FOUND, TWO_READINGS};

/// Limits that keep the tests short.
pub const LIMITS: &str = "  limits: {first_byte_timeout: 500ms, idle_timeout: 300ms}";

pub const HEAD: &str = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n";

pub fn ingest() -> Ingest {
    Ingest::start_under(LIMITS)
}

/// A request that closes its connection, with further header lines.
pub fn request(line: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n{body}"
    )
}

pub fn post(path: &str) -> String {
    request(&format!("POST {path}"), "", "{}")
}

/// Sends these bytes; appends the answers and the published values.
pub fn append_exchange(text: &mut String, ingest: &Ingest, name: &str, bytes: &str) {
    let mut sender = ingest.connect();
    sender.write(bytes);
    append_answer(text, name, &mut sender);
    let taken = std::mem::take(&mut *ingest.publisher.published.lock().unwrap());
    for record in taken {
        let value = &record.value[..record.value.len().min(20)];
        writeln!(text, "raw: \"{}\"", value.escape_ascii()).unwrap();
    }
}

pub fn append_answer(text: &mut String, name: &str, sender: &mut Sender) {
    let answer = String::from_utf8(sender.rest()).unwrap();
    write!(text, "== {}\n{}", name.escape_debug(), masked(&answer)).unwrap();
}

#[test]
fn answers_to_requests_are_unchanged() {
    let ingest = ingest();
    let mut text = String::new();
    let mut ask = |name: &str, bytes: &str| append_exchange(&mut text, &ingest, name, bytes);
    heads(&mut ask);
    bodies(&mut ask);
    same_as_golden("answers.txt", &text);
}

/// Paths, tokens, methods and codings.
fn heads(ask: &mut impl FnMut(&str, &str)) {
    for path in [
        "/v1/hooks/site",
        "/v1/hooks/site/",
        "/v1/hooks/s%69te?a=b",
        "/v1/hooks/list/t0ken",
        "http://x/v1/hooks/site",
    ] {
        ask(path, &post(path));
    }
    ask(
        "a required header",
        &request("POST /v1/hooks/keyed", "x-key: k3y\r\n", "{}"),
    );
    for lines in ["x-key: wrong\r\n", "x-key: k3y\r\nx-key: k3y\r\n"] {
        ask(lines, &request("POST /v1/hooks/keyed", lines, "{}"));
    }
    ask("/v1/hooks/nobody", &post("/v1/hooks/nobody"));
    for path in NOT_FOUND {
        ask(path, &post(path));
    }
    for method in [
        "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "post",
    ] {
        for path in ["/v1/hooks/site", "/v1/hooks/nobody", "/v1/hooks/list/t0ken"] {
            let line = format!("{method} {path}");
            ask(&line, &request(&line, "", ""));
        }
    }
    ask("OPTIONS *", &request("OPTIONS *", "", ""));
    ask("CONNECT", &request("CONNECT x:80", "", ""));
    for coding in CODED.iter().chain(NOT_CODED) {
        let lines = format!("content-encoding: {coding}\r\n");
        ask(&lines, &request("POST /v1/hooks/site", &lines, "{}"));
    }
}

/// Bodies by their length, slow senders, and what comes behind a request.
fn bodies(ask: &mut impl FnMut(&str, &str)) {
    let large = "x".repeat(SMALL + 1);
    ask(
        "the largest body",
        &request("POST /v1/hooks/small", "", &large[1..]),
    );
    ask(
        "a body too large",
        &request("POST /v1/hooks/small", "", &large),
    );
    let chunked = |chunks: &str| {
        format!(
            "POST /v1/hooks/small HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        )
    };
    let chunk = format!("40\r\n{}\r\n", "x".repeat(64)).repeat(SMALL / 64);
    ask("the largest body in chunks", &chunked(&chunk));
    ask(
        "a body too large in chunks",
        &chunked(&format!("{chunk}1\r\nx\r\n")),
    );
    ask("no body", &request("POST /v1/hooks/site", "", ""));
    ask(
        "a slow body",
        &format!("{HEAD}content-length: 10\r\n\r\nabc"),
    );
    ask("a slow head", "POST /v1/hooks/si");
    ask(
        "an idle connection",
        &format!("{HEAD}content-length: 2\r\n\r\n{{}}"),
    );
    ask(
        "two at once",
        &format!("{HEAD}content-length: 1\r\n\r\n1{}", post("/v1/hooks/site")),
    );
    let expect = "expect: 100-continue\r\n";
    ask(
        "100-continue",
        &request("POST /v1/hooks/site", expect, "{}"),
    );
    ask("100-continue, no source", &request("POST /", expect, ""));
    ask(
        "a source that is not on, coded",
        &request("POST /v1/hooks/away", "content-encoding: br\r\n", "{}"),
    );
}

#[test]
fn answers_to_malformed_requests_are_unchanged() {
    let ingest = ingest();
    let mut text = String::new();
    let mut ask = |name: &str, bytes: &str| append_exchange(&mut text, &ingest, name, bytes);
    let hidden = format!("{HEAD}content-length: 1\r\n\r\nS");
    for case in PINNED {
        let bytes = case.bytes("/v1/hooks/site", "A", "S");
        ask(case.name, &String::from_utf8(bytes).unwrap());
    }
    for framing in TWO_READINGS {
        ask(framing, &format!("{HEAD}{framing}\r\n\r\n{hidden}"));
    }
    for head in [
        "POST /v1/hooks/site HTTP/1.0\r\ntransfer-encoding: chunked\r\n",
        "POST /v1/hooks/site HTTP/1.0\r\ncontent-length: 1\r\n",
        "POST /v1/hooks/site HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 1\r\n",
        "POST /v1/hooks/site\r\n",
        "POST /v1/hooks/site HTTP/2.0\r\n",
        "POST /v1/hooks/site HTTP/1.1\r\ncontent-length: 1\r\n",
        "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\nhost: x\r\ncontent-length: 1\r\n",
        "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551615\r\n",
        "nonsense\r\n",
    ] {
        ask(head, &format!("{head}\r\nA"));
    }
    let long = "x".repeat(70_000);
    ask("a long path", &format!("POST /{long} HTTP/1.1\r\n\r\n"));
    ask(
        "a long header",
        &format!("POST / HTTP/1.1\r\nx: {long}\r\n\r\n"),
    );
    let many = "x: y\r\n".repeat(101);
    ask("many headers", &format!("POST / HTTP/1.1\r\n{many}\r\n"));
    let narrow = Ingest::start_under("  limits: {header_bytes: 8KiB}");
    // The second lacks spaces and carriage returns, which the limit counts and hyper does not see.
    let compact = format!("x:{}\n", "y".repeat(85)).repeat(91);
    for (name, lines) in [
        (
            "a head that is too large",
            format!("x: {}\r\n", "y".repeat(8_150)),
        ),
        ("a head that is too large as it counts", compact),
    ] {
        let bytes = request("POST /v1/hooks/site", &lines, "{}");
        append_exchange(&mut text, &narrow, name, &bytes);
    }
    same_as_golden("answers.malformed.txt", &text);
}
