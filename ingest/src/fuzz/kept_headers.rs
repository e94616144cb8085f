//! The URL's token: whatever else a request repeats it in, no kept header and no target holds it.

use sluice_schemas::fuzz::input::Input;

use super::server::{TOKEN, serve};

/// The headers that a request has where its source asks for it.
const KEY: &str = "x-key: k3y\r\n";

/// The header that the provider signs by.
const SIGNATURE: &str = "x-webhook-signature";

/// A letter for how the URL writes the token, a query, and headers, a line each. The bytes 1 to 4 stand for
/// the token, in one of the four ways of writing it.
pub fn fuzz_kept_headers(bytes: &[u8]) {
    let Some(mut input) = Input::new(bytes) else {
        return;
    };
    let ways = [
        TOKEN.to_owned(),
        escaped(1),
        escaped(TOKEN.len()),
        escaped(TOKEN.len()).to_lowercase(),
    ];
    let path = &ways[input.choice(ways.len())];
    let fill = |text: &[u8]| {
        let mut filled = Vec::new();
        for byte in text {
            match byte {
                1..=4 => filled.extend_from_slice(ways[usize::from(*byte) - 1].as_bytes()),
                other => filled.push(*other),
            }
        }
        filled
    };
    let query = fill(input.line());
    let mut request = format!("POST /v1/hooks/list/{path}?").into_bytes();
    request.extend_from_slice(&query);
    request.extend_from_slice(b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n");
    request.extend_from_slice(KEY.as_bytes());
    while !input.is_empty() {
        request.extend_from_slice(&fill(input.line()));
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n{}");
    for (_, kept) in serve(&request, usize::MAX).records {
        let target = ("the target", kept.target.as_bytes());
        let headers = kept
            .headers
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        for (name, value) in headers.chain([target]) {
            assert!(name != "x-key", "a required header is kept");
            // What is signed or a signature is kept to the byte.
            if name == SIGNATURE {
                continue;
            }
            for text in [value.to_vec(), unescaped(value)] {
                let held = text
                    .windows(TOKEN.len())
                    .any(|part| part == TOKEN.as_bytes());
                assert!(
                    !held,
                    "{name} holds the token: {:?}",
                    String::from_utf8_lossy(value)
                );
            }
        }
    }
}

/// The token with the first of its characters escaped.
fn escaped(count: usize) -> String {
    let first: Vec<String> = TOKEN
        .bytes()
        .take(count)
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    first.concat() + &TOKEN[count..]
}

/// With its percent escapes undone, once.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = value;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let escape = behind.get(..2).filter(|_| *first == b'%');
        let byte = escape.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &behind[2..];
            }
            None => out.push(*first),
        }
    }
    out
}
