//! The four ways of lower-casing: what a sender signs in any of them is accepted under it, under the first of
//! those that give the same text, and nothing else is.

use serde_json::json;

use super::input::Input;
use super::signing::{Source, refused_signature};
use crate::raw::Headers;
use crate::reason::Reason;

/// Their names, in the order of trying.
pub const WAYS: [&str; 4] = ["unicode", "simple", "final_sigma", "ascii"];

/// A webhook URL, a line end, and the payload or the title of an article.
pub fn fuzz_lowercase(bytes: &[u8]) {
    let Some(mut input) = Input::new(bytes) else {
        return;
    };
    let is_title = input.choice(2) == 0;
    let url = String::from_utf8_lossy(input.line()).into_owned();
    if url.is_empty() {
        return;
    }
    let body = if is_title {
        let title = String::from_utf8_lossy(input.rest());
        json!({"action": "update", "article": {"id": 1, "title": title}})
            .to_string()
            .into_bytes()
    } else {
        input.rest().to_vec()
    };
    let text = [b"POST|update|production|", url.as_bytes(), b"|", &body].concat();
    let readings = ways(&text);
    for (way, reading) in WAYS.into_iter().zip(&readings) {
        let Some(reading) = reading else {
            continue;
        };
        for pinned in ["auto"].into_iter().chain(WAYS) {
            let options = json!({"lowercase": pinned, "webhook_urls": [url]});
            let Some(source) = Source::new("flockler", options) else {
                return;
            };
            let headers = [
                ("x-flockler-action", "update".to_owned()),
                ("x-flockler-env", "production".to_owned()),
                ("x-flockler-signature", hex::encode(Source::mac(&[reading]))),
            ];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.into_bytes()));
            let headers = Headers(headers.to_vec());
            let verified = source.verify(&headers, &body, false);
            let fits = |other: usize| readings[other].as_ref() == Some(reading);
            let first = (0..WAYS.len())
                .find(|other| fits(*other))
                .map(|at| WAYS[at]);
            let expected = if pinned == "auto" {
                first
            } else {
                let at = WAYS.iter().position(|way| *way == pinned);
                let Some(known) = at.filter(|at| readings[*at].is_some()) else {
                    continue;
                };
                fits(known).then_some(pinned)
            };
            match verified {
                Ok(scheme) if readings.iter().all(Option::is_some) => {
                    assert_eq!(scheme, expected, "{way} under {pinned} of {text:?}");
                }
                Ok(_) => {}
                // As lower case it may be another dead letter, or none, and is then nobody's.
                Err(Reason::SignatureMismatch) if !is_title && *reading != text => {}
                Err(reason) => assert_eq!(
                    refused_signature(reason),
                    expected.is_none(),
                    "{way} under {pinned} of {text:?}: {reason:?}"
                ),
            }
        }
    }
}

/// The text in each of [`WAYS`], character by character. `None`: this reading does not know enough of Unicode
/// to find where a word ends.
pub fn ways(text: &[u8]) -> [Option<Vec<u8>>; 4] {
    let each = |lower: fn(char) -> String| {
        let parts = text.utf8_chunks().map(|chunk| {
            let valid: String = chunk.valid().chars().map(lower).collect();
            [valid.as_bytes(), chunk.invalid()].concat()
        });
        parts.collect::<Vec<_>>().concat()
    };
    let full = each(|c| c.to_lowercase().collect());
    let simple = each(|c| c.to_lowercase().take(1).collect());
    let ascii = each(|c| c.to_ascii_lowercase().to_string());
    [Some(full), Some(simple), final_sigma(text), Some(ascii)]
}

/// With the rule of Unicode for a sigma: it ends a word where, past what is ignored, a letter that has case
/// stands before it and none behind it.
fn final_sigma(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for chunk in text.utf8_chunks() {
        let chars: Vec<char> = chunk.valid().chars().collect();
        for (at, c) in chars.iter().enumerate() {
            let lower: String = if *c == 'Σ' {
                let before = is_cased(chars[..at].iter().rev())?;
                let behind = is_cased(chars[at + 1..].iter())?;
                String::from(if before && !behind { 'ς' } else { 'σ' })
            } else {
                c.to_lowercase().collect()
            };
            out.extend_from_slice(lower.as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    Some(out)
}

/// Whether the first of these that is not ignored has case.
fn is_cased<'c>(chars: impl Iterator<Item = &'c char>) -> Option<bool> {
    for c in chars {
        if !is_ignored(*c)? {
            return Some(
                c.is_lowercase() || c.is_uppercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ'),
            );
        }
    }
    Some(false)
}

/// `Case_Ignorable` of Unicode up to U+052F, and of some characters behind it.
fn is_ignored(c: char) -> Option<bool> {
    const IGNORED: &str = "'.:^`\u{a8}\u{ad}\u{af}\u{b4}\u{b7}\u{b8}\u{374}\u{375}\u{37a}\u{384}\u{385}\u{387}\
                           \u{2019}\u{200b}\u{200d}\u{feff}";
    const OTHERS: &str = "😀€一א\u{fffd}";
    let marks = ['\u{2b0}'..='\u{36f}', '\u{483}'..='\u{489}'];
    if IGNORED.contains(c) || marks.iter().any(|marks| marks.contains(&c)) {
        return Some(true);
    }
    let others = ['\0'..='\u{52f}', 'Ａ'..='Ｚ'];
    let known = OTHERS.contains(c) || others.iter().any(|others| others.contains(&c));
    known.then_some(false)
}
