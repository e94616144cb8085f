//! Answers over HTTP/2.

use std::fmt::Write;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};

use super::answers::ingest;
use super::{is_date, masked, same_as_golden};
use crate::http2;
use crate::support::{Ingest, Mood, SMALL};

/// One request over HTTP/2: its name, itself, its body.
type Asked = (&'static str, Request<()>, String);

fn http2_requests() -> Vec<Asked> {
    let body = || "{}".to_owned();
    let with = |lines: &[(&'static str, &str)]| {
        let mut request = http2::post("/v1/hooks/site");
        for (name, value) in lines {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    };
    let method = |method: Method| {
        let mut request = http2::post("/v1/hooks/site");
        *request.method_mut() = method;
        request
    };
    vec![
        ("right", http2::post("/v1/hooks/site?a=b"), body()),
        ("a token", http2::post("/v1/hooks/list/t0ken"), body()),
        ("no source", http2::post("/v1/hooks/nobody"), body()),
        ("a wrong token", http2::post("/v1/hooks/list/wrong"), body()),
        ("GET", method(Method::GET), String::new()),
        ("PUT", method(Method::PUT), body()),
        (
            "a coded body",
            with(&[("content-encoding", "gzip")]),
            body(),
        ),
        (
            "a body too large",
            http2::post("/v1/hooks/small"),
            "x".repeat(SMALL + 1),
        ),
        ("many headers", with(&[("x", "y"); 101]), body()),
        (
            "a large header",
            with(&[("x", &"y".repeat(20_000))]),
            String::new(),
        ),
    ]
}

#[test]
fn answers_over_http2_are_unchanged() {
    let mut text = String::new();
    let ingest = ingest();
    for (name, request, body) in http2_requests() {
        over_http2(&mut text, &ingest, name, request, &body);
    }
    ingest.mood(Mood::Refuse);
    over_http2(
        &mut text,
        &ingest,
        "the brokers refuse",
        http2::post("/v1/hooks/site"),
        "{}",
    );
    let starting = Ingest::start_with(false);
    over_http2(
        &mut text,
        &starting,
        "before the start",
        http2::post("/v1/hooks/site"),
        "{}",
    );
    same_as_golden("answers.http2.txt", &text);
}

fn over_http2(text: &mut String, ingest: &Ingest, name: &str, request: Request<()>, body: &str) {
    let (status, headers, answer) = http2::run(async {
        let stream = tokio::net::TcpStream::connect(ingest.address)
            .await
            .unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut ready = client.ready().await.unwrap();
        let (answer, mut stream) = ready.send_request(request, false).unwrap();
        stream.send_data(body.to_owned().into(), true).unwrap();
        let (head, mut incoming) = answer.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(part) = incoming.data().await {
            bytes.extend_from_slice(&part.unwrap());
        }
        (head.status, head.headers, String::from_utf8(bytes).unwrap())
    });
    let lines = header_lines(&headers);
    let answer = masked(&answer);
    write!(text, "== {name}\n{}\n{lines}\n{answer}", status.as_str()).unwrap();
}

fn header_lines(headers: &HeaderMap) -> String {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().unwrap();
        if name != "date" {
            return format!("{name}: {value}\n");
        }
        assert!(is_date(value), "{value}");
        "date: <date>\n".to_owned()
    };
    headers.iter().map(line).collect()
}
