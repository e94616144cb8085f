//! The path of a request: which source it names, and with which token.

use std::borrow::Cow;

use crate::mask::Mask;

/// Where every webhook comes in: `/v1/hooks/{source}` and `/v1/hooks/{source}/{token}`.
const HOOKS: &str = "/v1/hooks/";

/// What a path names. Both are `None` where the path has another form, so that it names no source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named<'p> {
    /// The segment behind [`HOOKS`].
    pub source: Option<Cow<'p, str>>,
    /// The segment behind the source.
    pub token: Option<Cow<'p, str>>,
}

/// The source and the token of a path. A slash at the end is left out, and escapes of unreserved
/// characters are undone, once: RFC 3986 calls such paths equivalent (6.2.2.2), and senders normalize
/// them. No other escape is accepted, so that what two servers may read in two ways names no source.
pub fn named(path: &str) -> Named<'_> {
    path.strip_prefix(HOOKS)
        .and_then(segments)
        .unwrap_or_default()
}

/// Path and query as they came, but for the token: the path is the one that names the source alone.
pub fn target_without_token(uri: &hyper::Uri, source: &str, mask: Option<Mask<'_>>) -> String {
    let Some(query) = uri.query() else {
        return [HOOKS, source].concat();
    };
    let covered = mask.map_or(query.as_bytes().into(), |mask| mask.cover(query.as_bytes()));
    // A query is text, and so is what is left of it.
    let query = String::from_utf8_lossy(&covered);
    format!("{HOOKS}{source}?{query}")
}

fn segments(rest: &str) -> Option<Named<'_>> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (source, token) = match rest.split_once('/') {
        None => (rest, None),
        Some((source, token)) => (source, Some(segment(token)?)),
    };
    Some(Named {
        source: Some(segment(source)?),
        token,
    })
}

/// One segment, with its escapes undone; `None` where it is empty, none or more than one, or has an
/// escape that is malformed or not of an unreserved character.
fn segment(text: &str) -> Option<Cow<'_, str>> {
    if text.is_empty() || text.contains('/') {
        return None;
    }
    let mut parts = text.split('%');
    let first = parts.next()?;
    let mut decoded = Cow::Borrowed(first);
    for part in parts {
        let (escape, plain) = part.split_at_checked(2)?;
        let decoded = decoded.to_mut();
        decoded.push(unreserved(escape)?);
        decoded.push_str(plain);
    }
    Some(decoded)
}

/// The unreserved character (RFC 3986, 2.3) that two hexadecimal digits stand for.
fn unreserved(digits: &str) -> Option<char> {
    let code = digits.chars().try_fold(0, |code, digit| {
        digit.to_digit(16).map(|value| code * 16 + value)
    })?;
    let character = char::from_u32(code)?;
    let is_unreserved = character.is_ascii_alphanumeric() || "-._~".contains(character);
    is_unreserved.then_some(character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_names_a_source_and_perhaps_a_token() {
        for (path, source, token) in [
            ("/v1/hooks/site", "site", None),
            ("/v1/hooks/site/", "site", None),
            ("/v1/hooks/site/t0ken", "site", Some("t0ken")),
            ("/v1/hooks/site/t0ken/", "site", Some("t0ken")),
            (
                "/v1/hooks/s%69t%65/%74%30%2D%2e%5F%7e",
                "site",
                Some("t0-._~"),
            ),
            // Unescaped, all that a path may have stands for itself.
            ("/v1/hooks/site/a+b=", "site", Some("a+b=")),
        ] {
            let expected = Named {
                source: Some(source.into()),
                token: token.map(Into::into),
            };
            assert_eq!(named(path), expected, "{path}");
        }
    }

    #[test]
    fn any_other_path_names_no_source() {
        for path in [
            "/",
            "/v1/hooks",
            "/v1/hooks/",
            "/v1/hooks//",
            "/v1/hooks//site",
            "/v1/hooks/site//",
            "/v1/hooks/site//t",
            "/v1/hooks/site/t//",
            "/v1/hooks/site/t/x",
            "/v1/hooks/site%2Ft",
            "/v1/hooks/site/a%2Bb%3D",
            "/v1/hooks/s%2569te",
            "/v1/hooks/site%",
            "/v1/hooks/site%6",
            "/v1/hooks/site%6g",
            "/v1/hooks/site%+9",
            "/v1/hooks/site%00",
            "/v1/hooks/s%C3%AFte",
            "/v1/hooks/site%\u{e9}",
            "/v1/h%6foks/site",
        ] {
            assert_eq!(named(path), Named::default(), "{path}");
        }
    }

    #[test]
    fn the_token_is_removed_from_the_target() {
        for (target, kept) in [
            ("/v1/hooks/site/t0ken?a=b&c=%20", "/v1/hooks/site?a=b&c=%20"),
            ("/v1/hooks/site/t0k%65n/?a=b", "/v1/hooks/site?a=b"),
            ("/v1/hooks/s%69te/t0ken/", "/v1/hooks/site"),
            (
                "/v1/hooks/site/t0ken?u=%2Ft0k%65n",
                "/v1/hooks/site?u=%2F***",
            ),
        ] {
            let uri = target.parse().expect("a target");
            let mask = Mask::new("t0ken");
            assert_eq!(target_without_token(&uri, "site", Some(mask)), kept);
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read(path in "(/v1/hooks/)?(\\PC|%[0-9a-fA-F]{2}|/){0,20}") {
            let named = named(&path);
            prop_assert!(named.source.is_some() || named.token.is_none());
            for part in [&named.source, &named.token].into_iter().flatten() {
                prop_assert!(!part.is_empty() && !part.contains(['/', '%']));
            }
        }

        #[test]
        fn any_spelling_of_unreserved_characters_is_the_same(
            (name, escaped) in ("[A-Za-z0-9._~-]{1,20}", prop::collection::vec(any::<bool>(), 20)),
        ) {
            let spelt: String = name
                .bytes()
                .zip(escaped)
                .map(|(byte, escaped)| {
                    if escaped {
                        format!("%{byte:02x}")
                    } else {
                        char::from(byte).to_string()
                    }
                })
                .collect();
            let path = format!("/v1/hooks/{spelt}/{spelt}/");
            let named = named(&path);
            prop_assert_eq!(named.source.as_deref(), Some(name.as_str()));
            prop_assert_eq!(named.token.as_deref(), Some(name.as_str()));
        }
    }
}
