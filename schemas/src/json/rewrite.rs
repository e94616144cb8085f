//! Writing a value again: compact, or in one canonical form.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::text::{Piece, Pieces, is_blank, string_end, unescape, unquoted};

/// How many objects and arrays may stand one in another where they are walked recursively: about as
/// many as `serde_json` itself allows.
pub const MAX_DEPTH: usize = 128;

/// The value without blanks, its keys in the order of the source: numbers keep their tokens, strings
/// are escaped as little as `JSON.stringify` does. `text` must be JSON.
pub fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.find(|c| c == '"' || is_blank(c)) {
        out.push_str(&rest[..next]);
        rest = &rest[next..];
        if rest.starts_with('"') {
            let end = string_end(rest);
            write_string(&rest[..end], &mut out);
            rest = &rest[end..];
        } else {
            rest = rest.trim_start_matches(is_blank);
        }
    }
    out.push_str(rest);
    out
}

/// The value in one form for all ways of writing it: compact, keys sorted by the bytes of their text.
/// Keys that stand twice keep their order. `None`: it is nested deeper than [`MAX_DEPTH`].
pub fn canonical(value: &RawValue) -> Option<String> {
    let text = value.get();
    let mut out = String::with_capacity(text.len());
    Reader { rest: text }.node(0)?.write(&mut out);
    Some(out)
}

/// A value whose parts still stand in the text. A tree, so that sorting never copies a value twice.
enum Node<'a> {
    /// A string, a number or a literal, as it was written.
    Scalar(&'a str),
    Array(Vec<Node<'a>>),
    Object(Vec<Member<'a>>),
}

struct Member<'a> {
    /// The key's text, to sort by.
    key: Cow<'a, str>,
    /// The key as it was written, quotes included.
    written: &'a str,
    value: Node<'a>,
}

impl Node<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Self::Scalar(text) if text.starts_with('"') => write_string(text, out),
            Self::Scalar(text) => out.push_str(text),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, member) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_string(member.written, out);
                    out.push(':');
                    member.value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Goes through text whose grammar is known to be good. On any other text it ends with `None` or with
/// some node, and never panics.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn node(&mut self, depth: usize) -> Option<Node<'a>> {
        match self.peek()? {
            b'{' | b'[' if depth == MAX_DEPTH => None,
            b'{' => self.members(depth).map(Node::Object),
            b'[' => self.items(depth).map(Node::Array),
            _ => Some(Node::Scalar(self.scalar())),
        }
    }

    fn members(&mut self, depth: usize) -> Option<Vec<Member<'a>>> {
        let mut members = Vec::new();
        self.take();
        while self.peek()? != b'}' {
            let written = self.scalar();
            let key = unescape(unquoted(written)?);
            self.peek()?;
            self.take();
            let value = self.node(depth + 1)?;
            members.push(Member {
                key,
                written,
                value,
            });
            if self.peek()? == b',' {
                self.take();
            }
        }
        self.take();
        members.sort_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
        Some(members)
    }

    fn items(&mut self, depth: usize) -> Option<Vec<Node<'a>>> {
        let mut items = Vec::new();
        self.take();
        while self.peek()? != b']' {
            items.push(self.node(depth + 1)?);
            if self.peek()? == b',' {
                self.take();
            }
        }
        self.take();
        Some(items)
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches(is_blank);
        self.rest.bytes().next()
    }

    /// Passes one character.
    fn take(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn scalar(&mut self) -> &'a str {
        let end = if self.rest.starts_with('"') {
            string_end(self.rest)
        } else {
            let ends = |c| matches!(c, ',' | ':' | ']' | '}') || is_blank(c);
            // At least one character, so that text of another grammar cannot hold the reader up.
            let first = self.rest.chars().next().map_or(0, char::len_utf8);
            self.rest.find(ends).unwrap_or(self.rest.len()).max(first)
        };
        let (scalar, rest) = self.rest.split_at(end);
        self.rest = rest;
        scalar
    }
}

/// Writes a string again, with no escape that it does not need.
fn write_string(quoted: &str, out: &mut String) {
    let inside = unquoted(quoted).unwrap_or(quoted);
    out.push('"');
    if !inside.contains('\\') {
        out.push_str(inside);
        out.push('"');
        return;
    }
    for piece in (Pieces { rest: inside }) {
        match piece {
            Piece::Plain(text) => out.push_str(text),
            Piece::Char('"') => out.push_str("\\\""),
            Piece::Char('\\') => out.push_str("\\\\"),
            Piece::Char('\u{8}') => out.push_str("\\b"),
            Piece::Char('\u{c}') => out.push_str("\\f"),
            Piece::Char('\n') => out.push_str("\\n"),
            Piece::Char('\r') => out.push_str("\\r"),
            Piece::Char('\t') => out.push_str("\\t"),
            Piece::Char(c) if c >= ' ' => out.push(c),
            // Writing to a string cannot fail.
            Piece::Char(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
            Piece::Lone(unit) => drop(write!(out, "\\u{unit:04x}")),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn canonical_of(text: &str) -> Option<String> {
        canonical(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn compact_keeps_order_and_tokens() {
        assert_eq!(
            compact(
                " { \"b\" : [ 1.0 , -0 , 1E400 , true ] ,\t\"a b\":{ }, \"\\u0061\\/\":\r\n null } "
            ),
            r#"{"b":[1.0,-0,1E400,true],"a b":{},"a/":null}"#
        );
    }

    #[test]
    fn strings_are_escaped_as_javascript_does() {
        let written = r#""\u0022\u005C\u0008\u000C\u000a\u000D\u0009\u0000\u001F\u007f\u2028\u00e9\uD83D\uDE00\ud800""#;
        let expected = "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}\u{2028}é😀\\ud800\"";
        assert_eq!(compact(written), expected);
        assert_eq!(canonical_of(written).as_deref(), Some(expected));
    }

    #[test]
    fn canonical_sorts_keys_by_their_bytes() {
        // U+FF61 is before U+1F600 in bytes, and after it in UTF-16.
        let text = r#"{"\uD83D\uDE00":1,"\uff61":2,"b":{"z":[{"y":1,"x":2.50}],"a":0},"a\"":3,"a":4,"a":5}"#;
        assert_eq!(
            canonical_of(text).as_deref(),
            Some(r#"{"a":4,"a":5,"a\"":3,"b":{"a":0,"z":[{"x":2.50,"y":1}]},"｡":2,"😀":1}"#)
        );
    }

    #[test]
    fn keys_with_different_halves_of_a_pair_stay_different() {
        let keys = [r"\ud83d", r"\ud83e", r"\udc00", "\u{fffd}", r"\ud83d\ud83d"];
        let written: Vec<_> = keys.iter().map(|key| format!("{{\"{key}\":1}}")).collect();
        for text in &written {
            assert_eq!(compact(text), *text);
            assert_eq!(canonical_of(text).as_ref(), Some(text));
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(canonical_of(&nested(MAX_DEPTH)), Some(nested(MAX_DEPTH)));
        assert_eq!(canonical_of(&nested(MAX_DEPTH + 1)), None);
        assert_eq!(compact(&nested(100_000)), nested(100_000));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// `serde_json` keeps its maps sorted and escapes as little as we do.
        #[test]
        fn all_ways_of_writing_have_one_form(value in values()) {
            let pretty = serde_json::to_string_pretty(&value).expect("JSON");
            prop_assert_eq!(compact(&pretty), value.to_string());
            prop_assert_eq!(canonical_of(&pretty), Some(value.to_string()));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}|[\\[\\]{}\":,\\\\ua0-9 \n]{0,60}") {
            let _ = compact(&text);
            let _ = Reader { rest: &text }.node(0);
        }
    }
}
