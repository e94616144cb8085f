//! The token of a URL, taken out of what is kept of its request: proxies and senders copy the URL into
//! headers, such as `x-original-url` and `referer`.

use std::borrow::Cow;

use memchr::memchr2;

/// Stands for the token. A token may have this character; [`OTHER_MASK`] has one that no path can have.
const MASK: &[u8] = b"***";
const OTHER_MASK: &[u8] = b"###";

/// A token, and what stands for it.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'t> {
    token: &'t [u8],
    mask: &'static [u8],
}

impl<'t> Mask<'t> {
    /// Of the token without its escapes. It has no percent sign, as [`crate::path::named`] reads it.
    pub fn new(token: &'t str) -> Self {
        // Else the mask and what is next to it could be read as the token.
        let mask = if token.contains('*') {
            OTHER_MASK
        } else {
            MASK
        };
        let token = token.as_bytes();
        Self { token, mask }
    }

    /// The value with the mask in place of the token, which may stand there with any of its characters
    /// percent-encoded, and encoded again. In other codings, such as base64, it is not looked for.
    pub fn cover<'v>(&self, value: &'v [u8]) -> Cow<'v, [u8]> {
        let mut covered = Vec::new();
        // Up to here the value is copied, and up to here it was looked at.
        let (mut copied, mut at) = (0, 0);
        while let Some(start) = self.next(value, at) {
            at = start + 1;
            if let Some(rest) = self.behind(&value[start..]) {
                covered.extend_from_slice(&value[copied..start]);
                covered.extend_from_slice(self.mask);
                at = value.len() - rest.len();
                copied = at;
            }
        }
        if copied == 0 {
            return Cow::Borrowed(value);
        }
        covered.extend_from_slice(&value[copied..]);
        Cow::Owned(covered)
    }

    /// Where the token may begin, from here on.
    fn next(&self, value: &[u8], from: usize) -> Option<usize> {
        let first = *self.token.first()?;
        Some(from + memchr2(first, b'%', value.get(from..)?)?)
    }

    /// What stands behind the token, where the value begins with it.
    fn behind<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        self.token.iter().try_fold(value, |rest, byte| {
            let (first, rest) = rest.split_first()?;
            match first {
                b'%' => behind_escape(rest, *byte),
                first => (first == byte).then_some(rest),
            }
        })
    }
}

/// What stands behind an escape of this byte, from the percent sign on. Of one that was escaped again and
/// again, the percent sign is `%25`, `%2525` and so on.
fn behind_escape(mut escape: &[u8], byte: u8) -> Option<&[u8]> {
    while let Some(inner) = escape.strip_prefix(b"25") {
        escape = inner;
    }
    let (digits, rest) = escape.split_first_chunk::<2>()?;
    let mut found = [0];
    hex::decode_to_slice(digits, &mut found).ok()?;
    (found == [byte]).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covered(token: &str, value: &str) -> String {
        let covered = Mask::new(token).cover(value.as_bytes()).into_owned();
        String::from_utf8(covered).expect("masks are text")
    }

    #[test]
    fn a_token_is_masked_however_it_is_escaped() {
        for (value, expected) in [
            ("/v1/hooks/site/token-1?a=b", "/v1/hooks/site/***?a=b"),
            ("https://h/%74oken-1/", "https://h/***/"),
            ("%54oken-1", "%54oken-1"),
            ("%74%6F%6b%65%6E%2D%31", "***"),
            ("u=%2525252574oken-1", "u=***"),
            ("token-token-1token-1", "token-******"),
            ("token-", "token-"),
            ("%74oken-%3", "%74oken-%3"),
            ("%", "%"),
            ("", ""),
        ] {
            assert_eq!(covered("token-1", value), expected, "{value}");
        }
        assert_eq!(covered("a*", "aa* a*"), "a### ###");
        assert_eq!(covered("*", "***"), "#########");
    }

    /// One text, each character escaped as often as the number next to it says, in digits of either case.
    fn escaped(text: &str, how: &[(usize, bool)]) -> String {
        let character = |(byte, (times, upper)): (u8, &(usize, bool))| {
            let percent = format!("%{}", "25".repeat(times.saturating_sub(1)));
            match (times, upper) {
                (0, _) => char::from(byte).to_string(),
                (_, true) => format!("{percent}{byte:02X}"),
                (_, false) => format!("{percent}{byte:02x}"),
            }
        };
        text.bytes()
            .zip(how.iter().cycle())
            .map(character)
            .collect()
    }

    /// A text with all escapes undone, once.
    fn unescaped(text: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some((first, more)) = rest.split_first() {
            let digits = more.first_chunk::<2>().filter(|_| *first == b'%');
            let byte = digits.and_then(|digits| hex::decode(digits).ok());
            plain.push(byte.as_ref().map_or(*first, |byte| byte[0]));
            rest = if byte.is_some() { &more[2..] } else { more };
        }
        plain
    }

    proptest! {
        /// Whatever stands around it, and however often it stands there.
        #[test]
        fn no_covered_value_holds_the_token(
            token in prop_oneof!["[!-$&-.0-~]{1,3}", "[a-c*]{1,6}", "[A-Za-z0-9._~-]{16,48}"],
            spellings in prop::collection::vec(
                (prop::collection::vec((0..4_usize, any::<bool>()), 1..6), "[ -~]{0,6}"),
                1..5,
            ),
        ) {
            // `?` and `#` end a path, so that no token has them.
            let token = token.replace(['?', '#'], "x");
            let value: String = spellings
                .iter()
                .map(|(how, between)| escaped(&token, how) + &between.replace('%', "5"))
                .collect();
            let mut text = Mask::new(&token).cover(value.as_bytes()).into_owned();
            for _ in 0..4 {
                let found = memchr::memmem::find(&text, token.as_bytes());
                prop_assert_eq!(found, None, "{} in {}", token, String::from_utf8_lossy(&text));
                text = unescaped(&text);
            }
        }

        #[test]
        fn what_does_not_hold_the_token_stays(value in "[ -~]{0,40}") {
            prop_assert_eq!(covered("\u{1}", &value), value);
        }
    }
}
