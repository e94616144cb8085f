//! What a secret may be where its file was written otherwise than the sender reads it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use sluice_schemas::providers::Verifier;
use sluice_schemas::providers::signature::Key;

use super::super::cause::Cause;
use super::Guess;

/// What secrets of one specification begin with. Others write it before secrets of their own.
const PREFIX: &[u8] = b"whsec_";

const MARK: &[u8] = b"\xef\xbb\xbf";

/// The secret in a file as the source reads it; `None` where it reads none.
pub fn plain(verifier: &dyn Verifier, content: &[u8]) -> Option<Key> {
    verifier.key(content).ok()
}

/// The content of a file as secrets of other forms. `name` is how the file is called to people.
pub fn keys(name: &str, content: &[u8]) -> Vec<Guess<Key>> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |says: &str, bytes: Vec<u8>| {
        if !bytes.is_empty() && !all.iter().any(|(_, known)| *known == bytes) {
            all.push((says.to_owned(), bytes));
        }
    };
    add("as the text that it is", content.to_vec());
    for (end, says) in [
        (&b"\n"[..], "with a line end (LF) behind it"),
        (b"\r\n", "with a line end (CRLF) behind it"),
        (b" ", "with a blank behind it"),
    ] {
        add(says, [content, end].concat());
    }
    let without_mark = content.strip_prefix(MARK).unwrap_or(content);
    let trimmed = without_mark.trim_ascii();
    add(
        "without the byte order mark before it",
        without_mark.to_vec(),
    );
    add(
        "without the blanks or line ends around it",
        trimmed.to_vec(),
    );
    let unquoted = trimmed.trim_ascii_start();
    let unquoted = strip(unquoted, b'"').or_else(|| strip(unquoted, b'\''));
    add(
        "without the quotes around it",
        unquoted.unwrap_or_default().to_vec(),
    );
    let text = unquoted.unwrap_or(trimmed);
    let bare = text.strip_prefix(PREFIX);
    add(
        "without its prefix, as text",
        bare.unwrap_or_default().to_vec(),
    );
    add("with the prefix whsec_", [PREFIX, text].concat());
    for (text, of) in [(Some(text), ""), (bare, ", without its prefix")] {
        let Some(text) = text else { continue };
        for bytes in from_base64(text) {
            add(&format!("decoded from base64{of}"), bytes);
        }
        if let Some(bytes) = from_hex(text) {
            add(&format!("decoded from hex{of}"), bytes);
        }
    }
    encoded(text, bare, &mut add);
    all.into_iter()
        .map(|(says, bytes)| {
            let says = format!("the secret {name} fits {says}");
            Guess::new(Cause::SecretEncoding, says, Key::hmac(&bytes))
        })
        .collect()
}

/// The secret in an encoding that the sender uses as text.
fn encoded(text: &[u8], bare: Option<&[u8]>, add: &mut dyn FnMut(&str, Vec<u8>)) {
    let decoded = bare.and_then(|bare| from_base64(bare).into_iter().next());
    for bytes in [Some(text), decoded.as_deref()].into_iter().flatten() {
        add("encoded as base64", STANDARD.encode(bytes).into_bytes());
        add(
            "encoded as base64 without padding",
            STANDARD_NO_PAD.encode(bytes).into_bytes(),
        );
        add("encoded as base64url", URL_SAFE.encode(bytes).into_bytes());
        add("encoded as hex", to_hex(bytes).into_bytes());
        add(
            "encoded as hex in capitals",
            to_hex(bytes).to_uppercase().into_bytes(),
        );
    }
    add("in small letters", text.to_ascii_lowercase());
    add("in capitals", text.to_ascii_uppercase());
    add(
        "with its percent escapes undone",
        super::body::unescaped(text, false),
    );
}

fn strip(text: &[u8], quote: u8) -> Option<&[u8]> {
    text.strip_prefix(&[quote])?.strip_suffix(&[quote])
}

/// The bytes of base64 in each of its alphabets.
pub fn from_base64(text: &[u8]) -> Vec<Vec<u8>> {
    let engines = [
        STANDARD.decode(text),
        STANDARD_NO_PAD.decode(text),
        URL_SAFE.decode(text),
        URL_SAFE_NO_PAD.decode(text),
    ];
    engines.into_iter().flatten().take(1).collect()
}

/// The bytes of hex digits.
pub fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| {
        let digits = std::str::from_utf8(pair).ok();
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        u8::from_str_radix(digits?, 16).ok()
    };
    pairs.iter().map(byte).collect()
}

/// Bytes as hex digits.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}
