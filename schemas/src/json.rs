//! What the providers need of JSON on top of `serde_json`: the exact field of a member, ids as text,
//! and two ways of writing a value again.
//!
//! A body is parsed once, into structs of [`RawField`]s that borrow from it; duplicates of the keys that
//! are read are errors of that parse. All that follows works on raw fields whose grammar is known to be
//! good, in one pass and in linear time.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::raw::place;
use crate::reason::{Reason, Refusal};

mod text;

mod members;

mod once;

mod rewrite;

pub use once::{Inner, at_once};
pub use rewrite::{MAX_DEPTH, canonical, compact};
use text::{is_blank, unescape, unquoted};

/// A member's value, byte for byte as it was sent. `None`: absent or `null`, which mean the same.
pub type RawField<'a> = Option<&'a RawValue>;

/// Reads a body as UTF-8, without the byte order mark that may stand before it: it is no part of the
/// JSON, and RFC 8259 (8.1) lets a reader pass it over.
pub fn utf8(body: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Reason::NotUtf8.because(format!(
            "the body is not UTF-8 from byte {} on",
            error.valid_up_to()
        ))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads an object's members. `None`: it is JSON, but no object. An error is `malformed_json`.
///
/// `T` is a struct of [`RawField`]s. What is not an object is kept from it, for a derived struct would
/// read an array as its fields in their order.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<Option<T>, Refusal> {
    let malformed = |error: serde_json::Error| {
        // Only a key of ours that stands twice is an error of this kind, and its name is no secret.
        let message = error.to_string();
        let key = message.strip_prefix("duplicate field `");
        Reason::MalformedJson.because(match key.and_then(|rest| rest.split('`').next()) {
            Some(key) => format!("a key that is read stands twice: {key}"),
            None => format!("the body cannot be read: {}", place(&error)),
        })
    };
    if text.trim_start_matches(is_blank).starts_with('{') {
        // Where each key is text, as in nearly all bodies, serde_json reads them itself, in fewer steps. It
        // refuses a few keys that are none of ours, and then all is read again.
        let members = serde_json::from_str(text).or_else(|_| members::members(text));
        members.map(Some).map_err(malformed)
    } else {
        let parsed: Result<IgnoredAny, _> = serde_json::from_str(text);
        parsed.map(|_| None).map_err(malformed)
    }
}

/// Whether a body is a JSON object, whichever of its keys stand twice.
pub fn is_object(body: &[u8]) -> bool {
    let Ok(text) = utf8(body) else {
        return false;
    };
    let begins = text.trim_start_matches(is_blank).starts_with('{');
    begins && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Reads the members of an object inside of the body; the default where it is absent or no object.
pub fn inner<'a, T: Deserialize<'a> + Default>(field: RawField<'a>) -> Result<T, Refusal> {
    match field {
        Some(value) => Ok(object(value.get())?.unwrap_or_default()),
        None => Ok(T::default()),
    }
}

/// Whether it is an object with at least one member.
pub fn has_members(field: &RawValue) -> bool {
    let inside = field.get().strip_prefix('{');
    inside.is_some_and(|rest| !rest.trim_start_matches(is_blank).starts_with('}'))
}

/// The text of a string, unescaped. `None`: it is no string. A surrogate that stands alone, as a text
/// that was cut too early ends, has no Unicode text and becomes U+FFFD.
pub fn string(field: RawField<'_>) -> Option<Cow<'_, str>> {
    unquoted(field?.get()).map(unescape)
}

/// The text of a string that is not empty.
pub fn filled(field: RawField<'_>) -> Option<Cow<'_, str>> {
    string(field).filter(|text| !text.is_empty())
}

/// The text of a string, or a number's token as it was written.
pub fn token(field: RawField<'_>) -> Option<Cow<'_, str>> {
    let text = field?.get();
    match text.as_bytes().first()? {
        b'"' => unquoted(text).map(unescape),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

/// An id: a string that is not empty, or a number's token.
pub fn id(field: RawField<'_>) -> Option<Cow<'_, str>> {
    token(field).filter(|text| !text.is_empty())
}

/// A whole number, where it fits.
pub fn integer(field: RawField<'_>) -> Option<i32> {
    field?.get().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    struct Two<'a> {
        #[serde(borrow)]
        a: RawField<'a>,
        #[serde(borrow)]
        b: RawField<'a>,
    }

    #[derive(Debug, Default, Deserialize)]
    struct Smile<'a> {
        #[serde(borrow, rename = "😀")]
        smile: RawField<'a>,
    }

    fn two(text: &str) -> Two<'_> {
        object(text).expect("JSON").expect("an object")
    }

    #[test]
    fn a_field_is_exact_and_null_is_absent() {
        let members = two("{ \"a\" : { \"x\": 1.0 } , \"b\": null}");
        assert_eq!(members.a.map(RawValue::get), Some("{ \"x\": 1.0 }"));
        assert!(members.b.is_none());
    }

    #[test]
    fn a_key_that_is_read_may_not_stand_twice() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":null,"\u0061":2}"#] {
            let refusal = object::<Two<'_>>(twice).expect_err("twice");
            assert_eq!(refusal.reason, Reason::MalformedJson);
            assert_eq!(refusal.detail, "a key that is read stands twice: a");
        }
        assert_eq!(integer(two(r#"{"c":1,"c":2,"a":3}"#).a), Some(3));
    }

    #[test]
    fn a_key_may_have_half_a_surrogate_pair_and_is_none_that_is_read() {
        // Whatever U+FFFD stands for is no key of ours, once or twice.
        for odd in [
            r"\ud83d",
            r"a\ud83d",
            r"\udc00a",
            r"\ud83d\ud83d",
            "\u{fffd}",
        ] {
            let text = format!(r#"{{"{odd}":1,"a":2,"{odd}":3,"\ude00":4}}"#);
            assert_eq!(integer(two(&text).a), Some(2), "{text}");
            let text = format!(r#"{{"a":2,"{odd}":1,"\u0061":3}}"#);
            let refusal = object::<Two<'_>>(&text).expect_err("twice");
            assert_eq!(refusal.detail, "a key that is read stands twice: a");
        }
        // Both halves make one character.
        let smile = object::<Smile<'_>>(r#"{"\ud83d":1,"\ud83d\ude00":2,"\ude00":3}"#);
        let smile = smile.expect("JSON").expect("an object").smile;
        assert_eq!(integer(smile), Some(2));
    }

    #[test]
    fn a_key_keeps_to_the_grammar() {
        for bad in [
            "{\"a\nb\":1}",
            "{\"\u{0}\":1}",
            r#"{"\x":1}"#,
            r#"{"\ud83":1}"#,
            r#"{"\u+123":1}"#,
            r#"{"a:1}"#,
            "{a:1}",
            "{1:1}",
            "{null:1}",
            r#"{["a"]:1}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1}}"#,
            r#"{"a":1}{}"#,
        ] {
            let refusal = object::<Two<'_>>(bad).expect_err("no JSON");
            assert_eq!(refusal.reason, Reason::MalformedJson, "{bad}");
        }
    }

    #[test]
    fn an_array_is_no_object_whatever_it_holds() {
        for text in ["[1,2]", " [1,2]", "1", "\"a\"", "null"] {
            assert!(object::<Two<'_>>(text).expect("JSON").is_none(), "{text}");
        }
        for text in ["", " ", "[1,2", "{", "{}x", "\u{feff}{}", "\u{a0}{}", "nul"] {
            let refusal = object::<Two<'_>>(text).expect_err("no JSON");
            assert_eq!(refusal.reason, Reason::MalformedJson, "{text}");
        }
        let nested = two(r#"{"a":[1,2]}"#);
        assert!(inner::<Two<'_>>(nested.a).expect("JSON").a.is_none());
    }

    #[test]
    fn an_object_is_one_whatever_its_keys_are() {
        for text in ["{}", " {\"a\":1,\"a\":2}\n", "\u{feff}{\"\\ud83d\":[{}]}"] {
            assert!(is_object(text.as_bytes()), "{text}");
        }
        for text in ["", "[]", "1", "{", "{}x", "5{}", "\"{}\"", "{\"a\":NULL}"] {
            assert!(!is_object(text.as_bytes()), "{text}");
        }
        assert!(!is_object(b"{\"a\":\"\xff\"}"));
    }

    #[test]
    fn ids_are_texts_or_numbers() {
        let of = |value: &str| {
            let text = format!("{{\"a\":{value}}}");
            id(two(&text).a).map(Cow::into_owned)
        };
        assert_eq!(of(r#""x\u00e9\/\n""#).as_deref(), Some("x\u{e9}/\n"));
        assert_eq!(
            of(r#""\ud83d\ude00\ud800x\udc00\ud800\u0041""#).as_deref(),
            Some("😀\u{fffd}x\u{fffd}\u{fffd}A")
        );
        assert_eq!(
            of("12345678901234567890123").as_deref(),
            Some("12345678901234567890123")
        );
        assert_eq!(of("-1.50e+7").as_deref(), Some("-1.50e+7"));
        for none in ["\"\"", "null", "true", "{}", "[1]"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn whole_numbers_are_read_where_they_fit() {
        let of = |value: &str| integer(two(&format!("{{\"a\":{value}}}")).a);
        assert_eq!(of("-5"), Some(-5));
        assert_eq!(of("2147483647"), Some(i32::MAX));
        for none in ["2147483648", "1.0", "1e3", "\"5\"", "null", "true"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn an_empty_object_has_no_members() {
        let has = |value: &str| {
            two(&format!("{{\"a\":{value}}}"))
                .a
                .is_some_and(has_members)
        };
        assert!(has(r#"{"x":null}"#) && has("{ \n\"x\":1}"));
        for without in ["{}", "{ \n}", "[]", "[1]", "\"{a\"", "1", "null"] {
            assert!(!has(without), "{without}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}|[\\[\\]{}\":,\\\\ua0-9 \n]{0,60}") {
            let _ = utf8(text.as_bytes()).and_then(object::<Two<'_>>);
            let _ = unescape(&text);
            let _ = unquoted(&text);
        }
    }
}
