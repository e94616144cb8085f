//! HTTP/1: the bytes of a connection through all that serves one, against a second parser. Each request that
//! is taken is one that the other parser sees at the same place, with the same body.

use sluice_schemas::fuzz::input::Input;

use super::server::serve;

/// The most headers that the other parser reads.
const HEADERS: usize = 128;

/// How HTTP/2 begins, which the other parser does not know.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request as the other parser sees it.
#[derive(Debug)]
struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// A letter for how many bytes a read brings, and the bytes of the connection.
pub fn fuzz_http_edge(bytes: &[u8]) {
    let Some(mut input) = Input::new(bytes) else {
        return;
    };
    let step = input.pick(&[usize::MAX, 1, 7, 64]);
    let outcome = serve(input.rest(), step);
    if input.rest().starts_with(HTTP2) {
        return;
    }
    let (requests, methods) = requests(input.rest());
    let shown = || String::from_utf8_lossy(input.rest());
    let statuses = statuses(&outcome.answers, &methods);
    let taken = statuses
        .iter()
        .enumerate()
        .filter(|(_, status)| **status == 200);
    let taken: Vec<usize> = taken.map(|(at, _)| at).collect();
    assert_eq!(
        taken.len(),
        outcome.records.len(),
        "a 200 for each record of {:?}",
        shown()
    );
    for (at, (body, _)) in taken.into_iter().zip(&outcome.records) {
        let Some(request) = requests.get(at) else {
            panic!(
                "request {at} is taken, and the other parser sees {requests:?} in {:?}",
                shown()
            );
        };
        assert_eq!(
            body,
            &request.body,
            "the body of request {at} of {:?}",
            shown()
        );
        assert_eq!(request.method, "POST");
        assert!(request.target.contains("/v1/hooks/"), "{request:?}");
    }
    // What is malformed is answered once, and ends the connection.
    let beyond = statuses.get(requests.len()..).unwrap_or_default();
    assert!(
        beyond.len() <= 1,
        "{statuses:?} for {requests:?} in {:?}",
        shown()
    );
}

/// The status of each answer that is not interim.
fn statuses(mut answers: &[u8], methods: &[String]) -> Vec<u16> {
    let mut statuses: Vec<u16> = Vec::new();
    while !answers.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(answers).expect("our answers are HTTP");
        let httparse::Status::Complete(head) = parsed else {
            panic!("an answer is cut");
        };
        let status = answer.code.expect("a status");
        let length = answer
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.map_or(0, |header| digits(header.value).expect("a length"));
        // The answer to HEAD has the length of a body that does not follow.
        let bare = methods
            .get(statuses.len())
            .is_some_and(|method| method == "HEAD");
        let body = if bare || status < 200 { 0 } else { length };
        answers = &answers[head + body..];
        if status >= 200 {
            statuses.push(status);
        }
    }
    statuses
}

/// The requests up to the first that is malformed or not whole, and the methods of all heads.
fn requests(mut bytes: &[u8]) -> (Vec<Request>, Vec<String>) {
    let (mut requests, mut methods) = (Vec::new(), Vec::new());
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let whole = head.parse(bytes).is_ok_and(|parsed| parsed.is_complete());
        methods.extend(head.method.filter(|_| whole).map(str::to_owned));
        let Some((request, rest)) = request(bytes) else {
            return (requests, methods);
        };
        requests.push(request);
        bytes = rest;
    }
}

fn request(bytes: &[u8]) -> Option<(Request, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(bytes).ok()? else {
        return None;
    };
    let values = |name: &str| -> Vec<&[u8]> {
        let found = head
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value).collect()
    };
    let lengths = values("content-length");
    let codings = values("transfer-encoding");
    let rest = &bytes[end..];
    let (body, rest) = if codings.is_empty() {
        let length = match lengths[..] {
            [] => 0,
            [first, ..] if lengths.iter().all(|length| digits(length) == digits(first)) => {
                digits(first)?
            }
            _ => return None,
        };
        let (body, rest) = rest.split_at_checked(length)?;
        (body.to_vec(), rest)
    } else {
        // Only `chunked` alone, and only in HTTP/1.1, is read in one way by all.
        let is_chunked = codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked");
        if !is_chunked || head.version != Some(1) {
            return None;
        }
        chunks(rest)?
    };
    let request = Request {
        method: head.method?.to_owned(),
        target: head.path?.to_owned(),
        body,
    };
    Some((request, rest))
}

fn digits(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| good)
}

/// A body in chunks, and what follows it. Lines end with CR LF alone.
fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        let size = line.split(|byte| *byte == b';').next()?;
        let size = size.trim_ascii_end();
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            bytes = rest;
            break;
        }
        let (chunk, rest) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
    loop {
        // In trailers a bare LF ends nothing, for us as for a parser that goes by CR LF alone.
        let end = bytes.iter().position(|byte| *byte == b'\r')?;
        bytes = bytes[end..].strip_prefix(b"\r\n")?;
        if end == 0 {
            return Some((body, bytes));
        }
    }
}

/// A line without its end. A CR or LF within it is none that all read in one way.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let rest = bytes[end..].strip_prefix(b"\r\n")?;
    Some((&bytes[..end], rest))
}
