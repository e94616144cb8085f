//! Requests that two servers may read differently, as data, and what must come of each.
//!
//! In a head and a body stand: `{P}` the path of a source, `{B}` a body of the case's own, `{I}` a whole
//! second request with another body, which must never be taken for one; `{nB}` and `{xB}` the length of
//! a piece in decimal and hexadecimal digits, and `{n}` the length of the whole body. Characters up to
//! U+00FF are bytes.
//!
//! The contract of ingest and the trial of hostile clients send the same; each includes this file.

use Expect::{Closed, Either, Once, Refused, Twice};

/// What must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// One refusal at most, and no record.
    Refused,
    /// One answer to one reading, that by chunks, and the connection ends behind it: what RFC 9112,
    /// section 6.3, allows where a length and chunks stand side by side, and all that hyper lets us have.
    /// With it, the body by that reading: what stands on raw where the answer is 200.
    Closed(&'static str),
    /// One answer with 200, and one record with the body as it was meant.
    Once,
    /// One of the two.
    Either,
    /// Two requests that are what they seem: the harness sees two where there are two.
    Twice,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub head: &'static str,
    pub body: &'static str,
    pub expect: Expect,
}

impl Case {
    /// The request as bytes: `body` stands for `{B}`, and a request with the body `hidden` for `{I}`.
    pub fn bytes(&self, path: &str, body: &str, hidden: &str) -> Vec<u8> {
        let filled = fill(self.body, path, body, hidden);
        let head = fill(self.head, path, body, hidden).replace("{n}", &filled.len().to_string());
        // The corpus names bytes by code points up to U+00FF; what is beyond is a mistake there.
        let bytes = head.chars().chain(filled.chars());
        bytes
            .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
            .collect()
    }

    /// The body that the first 200 stands for.
    pub fn meant(&self, path: &str, body: &str, hidden: &str) -> String {
        match self.expect {
            Closed(by_chunks) => fill(by_chunks, path, body, hidden),
            Refused | Once | Either | Twice => body.to_owned(),
        }
    }

    /// What is wrong with the statuses that came, in words. `closed` says that the connection ended behind
    /// them.
    pub fn fault(&self, statuses: &[u16], closed: bool) -> Option<String> {
        let fits = match (self.expect, statuses) {
            (Twice, [200, 200]) | (Once | Either, [200]) => true,
            (Refused | Either, [status]) => (400..600).contains(status),
            (Refused | Either, []) | (Closed(_), [_]) => closed,
            _ => false,
        };
        let (name, expect) = (self.name, self.expect);
        let end = if closed { "then closed" } else { "left open" };
        (!fits).then(|| format!("{name}: answered {statuses:?}, {end}; expected {expect:?}"))
    }
}

fn fill(text: &str, path: &str, body: &str, hidden: &str) -> String {
    let second = second(path, hidden);
    text.replace("{nB}", &body.len().to_string())
        .replace("{xB}", &format!("{:x}", body.len()))
        .replace("{nI}", &second.len().to_string())
        .replace("{xI}", &format!("{:x}", second.len()))
        .replace("{B}", body)
        .replace("{I}", &second)
        .replace("{P}", path)
}

/// A whole second request.
fn second(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A case with an ordinary first line and a host; `headers` may hold more than one line.
macro_rules! post {
    ($name:literal, $headers:literal, $body:literal, $expect:expr) => {
        Case {
            name: $name,
            head: concat!("POST {P} HTTP/1.1\r\nhost: h\r\n", $headers, "\r\n\r\n"),
            body: $body,
            expect: $expect,
        }
    };
}

/// A case whose head is all its own.
macro_rules! whole {
    ($name:literal, $head:literal, $body:literal, $expect:expr) => {
        Case {
            name: $name,
            head: $head,
            body: $body,
            expect: $expect,
        }
    };
}

/// Cases whose answers ingest's golden file `answers.malformed.txt` has, in this order.
#[rustfmt::skip]
pub const PINNED: &[Case] = &[
    post!("plain", "content-length: {nB}", "{B}{I}", Twice),
    post!("obs-fold", "x: a\r\n b\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("bare CR", "x: a\rb: c\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("NUL", "x: a\0b\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("space in a name", "content-length : {nB}", "{B}{I}", Refused),
    // A server may end lines so, and may take one length that was said twice (RFC 9112, sections 2.2
    // and 6.3). hyper does both, and shows neither to us.
    whole!("bare LF", "POST {P} HTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\n\r\n", "{B}{I}", Twice),
    post!("equal lengths", "content-length: {nB}\r\ncontent-length: {nB}", "{B}{I}", Twice),
    post!("unequal lengths", "content-length: {nB}\r\ncontent-length: 2", "{B}{I}", Refused),
    post!("list of lengths", "content-length: {nB}, {nB}", "{B}{I}", Refused),
    post!("signed length", "content-length: +{nB}", "{B}{I}", Refused),
    post!("hexadecimal length", "content-length: 0x{xB}", "{B}{I}", Refused),
    post!("length past 64 bits", "content-length: 18446744073709551617", "{B}{I}", Refused),
    post!("chunked", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Twice),
    post!("Chunked", "transfer-encoding: Chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Twice),
    post!("xchunked", "transfer-encoding: xchunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunked, identity", "transfer-encoding: chunked, identity", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("gzip, chunked", "transfer-encoding: gzip, chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunked twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunked, chunked", "transfer-encoding: chunked, chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    // Chunks win (RFC 9112, section 6.3), and the connection ends.
    post!("length and chunks", "content-length: 6\r\ntransfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Closed("{B}")),
    post!("chunks and length", "transfer-encoding: chunked\r\ncontent-length: 6", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Closed("{B}")),
    post!("chunk extension", "transfer-encoding: chunked", "{xB};a=b\r\n{B}\r\n0\r\n\r\n{I}", Twice),
    post!("LF in a chunk extension", "transfer-encoding: chunked", "{xB};\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("LF behind a chunk's size", "transfer-encoding: chunked", "{xB}\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("signed chunk", "transfer-encoding: chunked", "+{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk past 64 bits", "transfer-encoding: chunked", "10000000000000001\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk without an end", "transfer-encoding: chunked", "{xB}\r\n{B}B\r\n0\r\n\r\n{I}", Refused),
];

/// All others, one a line.
#[rustfmt::skip]
pub const MORE: &[Case] = &[
    post!("one-that-is-one", "content-length: {nB}", "{B}", Once),
    // Two lengths.
    post!("cl-te", "content-length: {n}\r\ntransfer-encoding: chunked", "0\r\n\r\n{I}", Closed("")),
    post!("te-cl", "transfer-encoding: chunked\r\ncontent-length: 4", "{xI}\r\n{I}\r\n0\r\n\r\n", Closed("{I}")),
    post!("te-cl-0", "transfer-encoding: chunked\r\ncontent-length: 0", "{xI}\r\n{I}\r\n0\r\n\r\n", Closed("{I}")),
    post!("cl-twice-unequal", "content-length: {nB}\r\ncontent-length: {n}", "{B}{I}", Refused),
    post!("cl-twice-unequal-0", "content-length: 0\r\ncontent-length: {n}", "{I}", Refused),
    post!("cl-list-unequal", "content-length: {nB}, {n}", "{B}{I}", Refused),
    // A length that is none.
    post!("cl-minus", "content-length: -{nB}", "{B}{I}", Refused),
    post!("cl-minus-0", "content-length: -0", "{I}", Refused),
    post!("cl-space-within", "content-length: 1 {nB}", "{B}{I}", Refused),
    post!("cl-space-around", "content-length:   {nB}  ", "{B}", Either),
    post!("cl-tab", "content-length:\t{nB}", "{B}", Either),
    post!("cl-letters", "content-length: {nB}a", "{B}{I}", Refused),
    post!("cl-point", "content-length: {nB}.0", "{B}{I}", Refused),
    post!("cl-empty", "content-length:", "{I}", Refused),
    post!("cl-zeros-before", "content-length: 0000000000{nB}", "{B}", Either),
    post!("cl-over-64-bits", "content-length: 18446744073709551616{nB}", "{B}{I}", Refused),
    post!("cl-64-bits-full", "content-length: 18446744073709551615", "{B}{I}", Refused),
    post!("cl-other-digits", "content-length: \u{b2}", "{B}{I}", Refused),
    // An encoding that is none, or that only some see.
    post!("te-xchunked-cl", "transfer-encoding: xchunked\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("te-identity", "transfer-encoding: identity\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("te-identity-chunked", "transfer-encoding: identity, chunked", "{xB}\r\n{B}\r\n0\r\n\r\n", Either),
    post!("te-chunked-then-other", "transfer-encoding: chunked\r\ntransfer-encoding: x", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("te-capitals", "Transfer-Encoding: CHUNKED", "{xB}\r\n{B}\r\n0\r\n\r\n", Either),
    post!("te-quoted", "transfer-encoding: \"chunked\"", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("te-parameter", "transfer-encoding: chunked;q=1", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("te-comma-before", "transfer-encoding: , chunked", "{xB}\r\n{B}\r\n0\r\n\r\n", Either),
    post!("te-comma-behind", "transfer-encoding: chunked,", "{xB}\r\n{B}\r\n0\r\n\r\n", Either),
    post!("te-tab", "transfer-encoding:\tchunked", "{xB}\r\n{B}\r\n0\r\n\r\n", Either),
    post!("te-vertical-tab", "transfer-encoding: \u{b}chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("te-no-break-space", "transfer-encoding: \u{a0}chunked", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("te-empty", "transfer-encoding:\r\ncontent-length: {nB}", "{B}{I}", Refused),
    // Lines that some join, split or pass over.
    post!("space-before-colon-te", "transfer-encoding : chunked\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("tab-before-colon", "content-length\t: {nB}", "{B}{I}", Refused),
    post!("fold-te", "transfer-encoding:\r\n chunked\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("fold-cl", "x-a: 1\r\n\tcontent-length: {nB}", "{B}{I}", Refused),
    post!("fold-behind-cl", "content-length: {nB}\r\n 0", "{B}{I}", Refused),
    whole!("fold-first", "POST {P} HTTP/1.1\r\n host: h\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    post!("bare-lf-hides-te", "x-a: 1\ntransfer-encoding: chunked\r\ncontent-length: {n}", "0\r\n\r\n{I}", Closed("")),
    post!("bare-lf-hides-cl", "x-a: 1\ncontent-length: 0\r\ncontent-length: {n}", "{I}", Refused),
    whole!("bare-lf-all", "POST {P} HTTP/1.1\nhost: h\ncontent-length: {nB}\n\n", "{B}", Either),
    post!("bare-cr-hides-te", "x-a: 1\rtransfer-encoding: chunked\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("bare-cr-in-value", "x-a: 1\r2\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("nul-in-value", "x-a: 1\0\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("nul-in-name", "x\0a: 1\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("nul-behind-te", "transfer-encoding\0: chunked\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("no-name", ": 1\r\ncontent-length: {nB}", "{B}{I}", Refused),
    post!("no-colon", "content-length {nB}", "{B}{I}", Refused),
    post!("space-in-name", "content length: {nB}", "{B}{I}", Refused),
    post!("bytes-in-name", "content-l\u{e9}ngth: {nB}", "{B}{I}", Refused),
    // Chunks.
    post!("chunk-extension", "transfer-encoding: chunked", "{xB};a=b\r\n{B}\r\n0;c\r\n\r\n", Either),
    post!("chunk-extension-lf", "transfer-encoding: chunked", "{xB};a\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-extension-hides-size", "transfer-encoding: chunked", "2;\nxx\r\n{xI}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-size-cr", "transfer-encoding: chunked", "{xB}\r{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-size-over-64-bits", "transfer-encoding: chunked", "10000000000000000{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-size-huge", "transfer-encoding: chunked", "ffffffffffffffff\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-size-0x", "transfer-encoding: chunked", "0x{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-size-minus", "transfer-encoding: chunked", "-1\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-size-space-before", "transfer-encoding: chunked", " {xB}\r\n{B}\r\n0\r\n\r\n", Either),
    post!("chunk-size-space-behind", "transfer-encoding: chunked", "{xB} \r\n{B}\r\n0\r\n\r\n", Either),
    post!("chunk-size-zeros", "transfer-encoding: chunked", "0000{xB}\r\n{B}\r\n000\r\n\r\n", Either),
    post!("chunk-size-none", "transfer-encoding: chunked", "\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    post!("chunk-without-end", "transfer-encoding: chunked", "{xB}\r\n{B}0\r\n\r\n{I}", Refused),
    post!("chunk-end-lf", "transfer-encoding: chunked", "{xB}\r\n{B}\n0\r\n\r\n{I}", Refused),
    post!("chunk-last-lf", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\n\n{I}", Refused),
    post!("trailer-cl", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\ncontent-length: {nI}\r\n\r\n", Either),
    post!("trailer-te", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\ntransfer-encoding: x\r\n\r\n", Either),
    post!("trailer-no-colon", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\nnonsense\r\n\r\n", Either),
    // hyper ends trailers at an empty line that CR LF ends, other servers at one that LF ends (RFC 9112,
    // section 2.2): nothing behind trailers is read.
    post!("trailer-lf-hides-body", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\nx-a: 1\n\nPOST {P} HTTP/1.1\r\ncontent-length: {nI}\r\n\r\n{I}", Closed("{B}")),
    post!("trailer-lf", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\nx-a: 1\n\r\n", Refused),
    post!("trailer-lf-end", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\nx-a: 1\n\n{I}", Closed("{B}")),
    post!("trailer-lf-between", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\nx-a: 1\n{I}\r\n\r\n", Closed("{B}")),
    post!("trailer-lf-asks", "expect: 100-continue\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip", "0\r\nx-a: 1\n\nPOST {P} HTTP/1.1\r\ncontent-length: {nI}\r\n\r\n{I}", Refused),
    post!("trailer-lf-all", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\nx-a: 1\n\n{I}", Refused),
    post!("trailer-good", "transfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\nx-a: 1\r\n\r\n{I}", Closed("{B}")),
    // First lines.
    whole!("absolute-form", "POST http://h{P} HTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}", Either),
    whole!("absolute-form-other-host", "POST http://i{P} HTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}", Either),
    whole!("authority-form", "POST h:80 HTTP/1.1\r\nhost: h\r\ncontent-length: {nI}\r\n\r\n", "{I}", Refused),
    whole!("asterisk-form", "POST * HTTP/1.1\r\nhost: h\r\ncontent-length: {nI}\r\n\r\n", "{I}", Refused),
    whole!("get-with-body", "GET {P} HTTP/1.1\r\nhost: h\r\ncontent-length: {nI}\r\n\r\n", "{I}", Refused),
    whole!("get-chunked", "GET {P} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n", "{xI}\r\n{I}\r\n0\r\n\r\n", Refused),
    whole!("head-with-body", "HEAD {P} HTTP/1.1\r\nhost: h\r\ncontent-length: {nI}\r\n\r\n", "{I}", Refused),
    whole!("http-0.9", "POST {P}\r\n\r\n", "{I}", Refused),
    whole!("http-0.9-get", "GET {P}\r\n", "", Refused),
    whole!("http-1.0", "POST {P} HTTP/1.0\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Once),
    whole!("http-1.0-te", "POST {P} HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n", "{xB}\r\n{B}\r\n0\r\n\r\n{I}", Refused),
    whole!("http-1.0-te-cl", "POST {P} HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    whole!("http-1.2", "POST {P} HTTP/1.2\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}", Either),
    whole!("http-2-in-words", "POST {P} HTTP/2.0\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    whole!("http-in-small-letters", "POST {P} http/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    whole!("two-spaces", "POST  {P}  HTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    whole!("tabs", "POST\t{P}\tHTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    whole!("line-before", "\r\nPOST {P} HTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}", Either),
    whole!("method-odd", "PO ST {P} HTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    whole!("request-in-path", "POST {P}\rHTTP/1.1 HTTP/1.1\r\nhost: h\r\ncontent-length: {nB}\r\n\r\n", "{B}{I}", Refused),
    whole!("no-host", "POST {P} HTTP/1.1\r\ncontent-length: {nI}\r\n\r\n", "{I}", Refused),
    whole!("two-hosts", "POST {P} HTTP/1.1\r\nhost: h\r\nhost: i\r\ncontent-length: {nI}\r\n\r\n", "{I}", Refused),
    // Words that change the meaning of others.
    post!("connection-names-cl", "connection: content-length\r\ncontent-length: {nB}", "{B}", Either),
    post!("connection-names-te", "connection: transfer-encoding\r\ntransfer-encoding: chunked", "{xB}\r\n{B}\r\n0\r\n\r\n", Either),
    post!("expect", "expect: 100-continue\r\ncontent-length: {nB}", "{B}", Once),
    post!("expect-other", "expect: a-pony\r\ncontent-length: {nB}", "{B}", Either),
    post!("upgrade-h2c", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\ncontent-length: {nB}", "{B}", Once),
    post!("upgrade-websocket", "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: {nB}", "{B}", Either),
];
