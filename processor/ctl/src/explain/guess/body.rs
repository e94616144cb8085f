//! What the body may have been where its signature was made.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::cause::Cause;
use super::Guess;
use super::charset::charsets;
use super::inflate::inflated;
use super::json::{Node, Orders, written};

/// How many bytes all guesses together may have.
const BUDGET: usize = 96 << 20;

/// Bodies by the bytes, each once.
pub struct Bodies {
    seen: BTreeSet<[u8; 32]>,
    left: usize,
    all: Vec<Guess<Vec<u8>>>,
}

impl Bodies {
    fn add(&mut self, cause: Cause, says: impl Into<String>, bytes: Vec<u8>) {
        let hash = sluice_schemas::identity::sha256(&bytes);
        if bytes.len() <= self.left && self.seen.insert(hash) {
            self.left -= bytes.len();
            self.all.push(Guess::new(cause, says, bytes));
        }
    }
}

/// Every guess, the likeliest first.
pub fn bodies(body: &[u8], orders: &Orders) -> Vec<Guess<Vec<u8>>> {
    let mut all = Bodies {
        seen: BTreeSet::from([sluice_schemas::identity::sha256(body)]),
        left: BUDGET,
        all: Vec::new(),
    };
    line_ends(body, &mut all);
    let says = "letters of the body became capitals; in small letters the signature fits";
    all.add(Cause::BodyChanged, says, body.to_ascii_lowercase());
    wrapped(body, &mut all);
    charsets(body, &mut |says, bytes| {
        all.add(Cause::Charset, says, bytes);
    });
    closed(body, &mut all);
    if let Some(node) = std::str::from_utf8(body).ok().and_then(Node::read) {
        rewritten(&node, orders, &mut all);
        members(&node, 0, &mut all);
    }
    all.all
}

/// Blanks, line ends and marks around the body, and the line ends within it.
fn line_ends(body: &[u8], all: &mut Bodies) {
    use Cause::ReserialisedBody as Rewritten;
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let mut add = |says: &str, bytes: Vec<u8>| all.add(Rewritten, says, bytes);
    for (end, says) in [
        (&b"\n"[..], "a line end (LF) was added behind the body"),
        (b"\r\n", "a line end (CRLF) was added behind the body"),
        (b"\r", "a carriage return was added behind the body"),
        (b"\0", "a zero byte was added behind the body"),
    ] {
        if let Some(rest) = body.strip_suffix(end) {
            add(says, rest.to_vec());
        }
    }
    add(
        "blanks or line ends were added behind the body",
        body.trim_ascii_end().to_vec(),
    );
    add(
        "blanks or line ends were added around the body",
        body.trim_ascii().to_vec(),
    );
    for (end, says) in [
        (
            &b"\n"[..],
            "the line end (LF) behind the body was taken off",
        ),
        (b"\r\n", "the line end (CRLF) behind the body was taken off"),
        (b" ", "a blank behind the body was taken off"),
        (b"\n\n", "the line ends behind the body were taken off"),
    ] {
        add(says, [body, end].concat());
    }
    match body.strip_prefix(MARK) {
        Some(rest) => add("a byte order mark was put before the body", rest.to_vec()),
        None => add(
            "the byte order mark before the body was taken off",
            [MARK, body].concat(),
        ),
    }
    let lf = replaced(body, b"\r\n", b"\n");
    let crlf = replaced(&lf, b"\n", b"\r\n");
    for (tail, more) in [
        (&b""[..], ""),
        (b"\n", ", and the last taken off"),
        (b"\r\n", ", and the last taken off"),
    ] {
        add(
            &format!("line ends were turned from LF into CRLF{more}"),
            [lf.as_slice(), tail].concat(),
        );
        add(
            &format!("line ends were turned from CRLF into LF{more}"),
            [crlf.as_slice(), tail].concat(),
        );
    }
    add(
        "line ends were turned into CRLF, one was added",
        lf.trim_ascii_end().to_vec(),
    );
}

fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(from) {
            out.extend(to);
            rest = behind;
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

/// What stands around the body: compression, a form, base64, JSON in JSON.
fn wrapped(body: &[u8], all: &mut Bodies) {
    if let Some((coding, inner)) = inflated(body) {
        let says =
            format!("the body is compressed ({coding}), and what it holds is what was signed");
        all.add(Cause::CompressedBody, says, inner);
    }
    let trimmed = body.trim_ascii();
    for (engine, says) in [
        (&STANDARD, "the body was encoded as base64"),
        (&URL_SAFE_NO_PAD, "the body was encoded as base64url"),
    ] {
        if let Ok(inner) = engine.decode(trimmed) {
            all.add(Cause::BodyWrapped, says, inner);
        }
    }
    for pair in trimmed.split(|byte| *byte == b'&') {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        if let (Some(_), Some(value)) = (parts.next(), parts.next()) {
            let says = "the body is a form, and one of its values is what was signed";
            all.add(Cause::FormEncoded, says, unescaped(value, true));
        }
    }
    for plus in [true, false] {
        let says = "the body was percent-encoded as of a form";
        let text = unescaped(trimmed, plus);
        let without = text.strip_suffix(b"=").map(<[u8]>::to_vec);
        all.add(Cause::FormEncoded, says, text);
        if let Some(text) = without {
            all.add(Cause::FormEncoded, says, text);
        }
    }
    for part in multipart(body) {
        let says = "the body is a form of several parts, and one of them is what was signed";
        all.add(Cause::FormEncoded, says, part);
    }
}

/// The parts of `multipart/form-data`.
fn multipart(body: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Vec::new();
    };
    let boundary = text.lines().next().filter(|line| line.starts_with("--"));
    let Some(boundary) = boundary else {
        return Vec::new();
    };
    let part = |part: &str| {
        let (_, content) = part
            .split_once("\r\n\r\n")
            .or_else(|| part.split_once("\n\n"))?;
        let content = content
            .strip_suffix("\r\n")
            .or_else(|| content.strip_suffix('\n'));
        content.map(|content| content.as_bytes().to_vec())
    };
    text.split(boundary.trim_end()).filter_map(part).collect()
}

/// A text with its percent escapes undone.
pub fn unescaped(text: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &behind[2..];
                continue;
            }
            (b'+', _) if plus => out.push(b' '),
            _ => out.push(first),
        }
        rest = behind;
    }
    out
}

/// A body without the lengths of its chunks; `None` where it has none.
pub fn dechunked(body: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut out) = (body, Vec::new());
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?.trim();
        let long = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        if long == 0 {
            return Some(out);
        }
        out.extend(rest.get(end + 1..)?.get(..long)?);
        rest = rest.get(end + 1 + long..)?;
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n")?;
    }
}

/// A body that was cut shortly before its end: with the brackets that it lacks.
fn closed(body: &[u8], all: &mut Bodies) {
    let (mut open, mut in_text, mut escaped) = (Vec::new(), false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => open.push(b'}'),
            b'[' if !in_text => open.push(b']'),
            b'}' | b']' if !in_text => {
                open.pop();
            }
            _ => {}
        }
    }
    if open.is_empty() {
        return;
    }
    let says = "the end of the body was cut off";
    let quote: &[u8] = if in_text { b"\"" } else { b"" };
    open.reverse();
    for tail in [&b""[..], b"\n"] {
        all.add(
            Cause::BodyTruncated,
            says,
            [body, quote, open.as_slice(), tail].concat(),
        );
    }
}

fn rewritten(node: &Node, orders: &Orders, all: &mut Bodies) {
    written(node, orders, &mut |says, text| {
        let says =
            format!("the body was JSON that is {says} when it was signed, and was written again");
        let with_crlf = text.contains('\n').then(|| text.replace('\n', "\r\n"));
        let with_end = format!("{text}\n");
        all.add(Cause::ReserialisedBody, says.clone(), text.into_bytes());
        all.add(
            Cause::ReserialisedBody,
            format!("{says}, without its last line end"),
            with_end.into_bytes(),
        );
        if let Some(text) = with_crlf {
            all.add(
                Cause::ReserialisedBody,
                format!("{says}, with LF for CRLF"),
                text.into_bytes(),
            );
        }
    });
}

/// Values within the body that may be the body that was signed.
fn members(node: &Node, depth: usize, all: &mut Bodies) {
    let says = "the body stands as a value in another body";
    match node {
        Node::Text(text) if text.trim_start().starts_with(['{', '[']) => {
            all.add(Cause::BodyWrapped, says, text.clone().into_bytes());
        }
        Node::Text(text) => {
            if let Ok(inner) = STANDARD.decode(text)
                && inner.starts_with(b"{")
            {
                all.add(Cause::BodyWrapped, format!("{says}, in base64"), inner);
            }
        }
        Node::Array(items) if depth < 2 => {
            for item in items {
                members(item, depth + 1, all);
            }
        }
        Node::Object(inside) if depth < 2 => {
            for (_, value) in inside {
                members(value, depth + 1, all);
                if matches!(value, Node::Object(_)) {
                    written(value, &Orders::new(), &mut |_, text| {
                        all.add(Cause::BodyWrapped, says, text.into_bytes());
                    });
                }
            }
        }
        Node::Scalar(_) | Node::Array(_) | Node::Object(_) => {}
    }
}
