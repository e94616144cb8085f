//! A body's JSON in the ways in which libraries write it: what a proxy that parses bodies makes of one, or
//! what it had before.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// Below this each whole number is a floating point number of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// How deep values may stand one in another.
const DEPTH: usize = 100;

/// A value with the order of its keys and the digits of its numbers.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    Scalar(String),
    Text(String),
    Array(Vec<Node>),
    Object(Members),
}

/// An object's members in their order.
pub type Members = Vec<(String, Node)>;

struct Read<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Read<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Read<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    all.push((Cow::Owned(key), value));
                }
                Ok(Read(all))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Node {
    /// Reads a text; `None` where it is no JSON, is too deep, or holds half a character.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::of(serde_json::from_str(text).ok()?, 0)
    }

    fn of(value: &RawValue, depth: usize) -> Option<Self> {
        if depth > DEPTH {
            return None;
        }
        let text = value.get();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let Read(members) = serde_json::from_str(text).ok()?;
                let member = |(key, value): (Cow<'_, str>, &RawValue)| {
                    Some((key.into_owned(), Self::of(value, depth + 1)?))
                };
                Self::Object(members.into_iter().map(member).collect::<Option<_>>()?)
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let item = |value: &RawValue| Self::of(value, depth + 1);
                Self::Array(items.into_iter().map(item).collect::<Option<_>>()?)
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            _ => Self::Scalar(text.to_owned()),
        })
    }

    /// The same with each object's keys in another order.
    pub fn ordered(&self, order: &dyn Fn(&mut Members)) -> Self {
        match self {
            Self::Array(items) => {
                Self::Array(items.iter().map(|item| item.ordered(order)).collect())
            }
            Self::Object(members) => {
                let member = |(key, value): &(String, Self)| (key.clone(), value.ordered(order));
                let mut members: Members = members.iter().map(member).collect();
                order(&mut members);
                Self::Object(members)
            }
            Self::Scalar(_) | Self::Text(_) => self.clone(),
        }
    }

    /// The same with whole numbers in digits alone, where they have an exponent or a fraction of 0: libraries
    /// that read numbers as floating point write them so.
    fn with_whole_numbers(&self) -> Self {
        match self {
            Self::Array(items) => Self::Array(items.iter().map(Self::with_whole_numbers).collect()),
            Self::Object(members) => {
                let members = members.iter();
                let member =
                    |(key, value): &(String, Self)| (key.clone(), value.with_whole_numbers());
                Self::Object(members.map(member).collect())
            }
            Self::Scalar(text) if text.contains(['e', 'E', '.']) => {
                let number = text.parse::<f64>().ok();
                let whole = number.filter(|number| number.fract() == 0.0 && number.abs() < EXACT);
                Self::Scalar(whole.map_or_else(|| text.clone(), |number| format!("{number:.0}")))
            }
            Self::Scalar(_) | Self::Text(_) => self.clone(),
        }
    }

    /// The orders of keys that it has, by the set of the keys.
    fn orders(&self, all: &mut Orders) {
        match self {
            Self::Array(items) => items.iter().for_each(|item| item.orders(all)),
            Self::Object(members) => {
                let keys: Vec<String> = members.iter().map(|(key, _)| key.clone()).collect();
                all.insert(keys.iter().cloned().collect(), keys);
                for (_, value) in members {
                    value.orders(all);
                }
            }
            Self::Scalar(_) | Self::Text(_) => {}
        }
    }
}

/// In which order a provider writes the keys of an object, by all of its keys.
pub type Orders = BTreeMap<BTreeSet<String>, Vec<String>>;

/// The orders in bodies of the provider's own.
pub fn orders<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> Orders {
    let mut all = Orders::new();
    for body in bodies {
        let node = std::str::from_utf8(body).ok().and_then(Node::read);
        if let Some(node) = node {
            node.orders(&mut all);
        }
    }
    all
}

/// Puts members into the order of the first known object that has all of their keys.
pub fn as_known(members: &mut [(String, Node)], orders: &Orders) {
    let keys: BTreeSet<String> = members.iter().map(|(key, _)| key.clone()).collect();
    let known = orders.get(&keys).or_else(|| {
        let mut all = orders.iter();
        all.find_map(|(of, order)| of.is_superset(&keys).then_some(order))
    });
    if let Some(order) = known {
        members.sort_by_key(|(key, _)| order.iter().position(|one| one == key));
    }
}

/// The value compact and with blanks, as it is, until `each` has enough.
pub fn plainly(node: &Node, each: &mut dyn FnMut(&str) -> bool) -> bool {
    SPACINGS[..2].iter().any(|spacing| {
        let mut text = String::new();
        write(node, *spacing, PLAIN, 0, &mut text);
        each(&text)
    })
}

const PLAIN: Escapes = Escapes {
    unicode: None,
    slash: false,
    html: false,
};

/// What stands between values.
#[derive(Clone, Copy)]
struct Spacing {
    item: &'static str,
    colon: &'static str,
    /// The indent of one level; `None`: all on one line.
    indent: Option<&'static str>,
    says: &'static str,
}

const fn spacing(
    item: &'static str,
    colon: &'static str,
    indent: Option<&'static str>,
    says: &'static str,
) -> Spacing {
    Spacing {
        item,
        colon,
        indent,
        says,
    }
}

const SPACINGS: [Spacing; 9] = [
    spacing(",", ":", None, "compact"),
    spacing(", ", ": ", None, "with blanks behind commas and colons"),
    spacing(",", ": ", None, "with blanks behind colons"),
    spacing(", ", ":", None, "with blanks behind commas"),
    spacing(",", ": ", Some("  "), "pretty, 2 blanks a level"),
    spacing(",", ": ", Some("    "), "pretty, 4 blanks a level"),
    spacing(",", ": ", Some("\t"), "pretty, a tab a level"),
    spacing(",", " : ", Some("  "), "pretty, with blanks around colons"),
    spacing(",", ": ", Some(" "), "pretty, 1 blank a level"),
];

/// Which characters are written as escapes.
#[derive(Clone, Copy)]
struct Escapes {
    /// All beyond ASCII; `true`: with capital digits.
    unicode: Option<bool>,
    slash: bool,
    html: bool,
}

/// Each way of writing a value, in words.
pub fn written(node: &Node, orders: &Orders, each: &mut dyn FnMut(String, String)) {
    let whole = node.with_whole_numbers();
    let whole = (whole != *node).then_some((&whole, ", its whole numbers in digits alone"));
    let mut nodes = Vec::new();
    for (node, of_numbers) in std::iter::once((node, "")).chain(whole) {
        let sorted = node.ordered(&|members| members.sort_by(|a, b| a.0.cmp(&b.0)));
        let known = node.ordered(&|members| as_known(members, orders));
        nodes.extend([
            (node.clone(), of_numbers.to_owned()),
            (sorted, format!(", its keys sorted{of_numbers}")),
            (
                known,
                format!(", its keys in the order of the provider's samples{of_numbers}"),
            ),
        ]);
    }
    for (node, of_keys) in nodes {
        for spacing in SPACINGS {
            for unicode in [None, Some(false), Some(true)] {
                for (slash, html) in [(false, false), (true, false), (false, true)] {
                    let escapes = Escapes {
                        unicode,
                        slash,
                        html,
                    };
                    let mut text = String::new();
                    write(&node, spacing, escapes, 0, &mut text);
                    let says = format!("{}{of_keys}{}", spacing.says, in_words(escapes));
                    each(says, text);
                }
            }
        }
    }
}

fn in_words(escapes: Escapes) -> String {
    let mut says = String::new();
    if escapes.unicode.is_some() {
        says.push_str(", \\u escapes for what is not ASCII");
    }
    if escapes.slash {
        says.push_str(", \\/ for slashes");
    }
    if escapes.html {
        says.push_str(", \\u escapes for <, > and &");
    }
    says
}

fn write(node: &Node, spacing: Spacing, escapes: Escapes, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = spacing.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    match node {
        Node::Scalar(text) => out.push_str(text),
        Node::Text(text) => quoted(text, escapes, out),
        Node::Array(items) if items.is_empty() => out.push_str("[]"),
        Node::Object(members) if members.is_empty() => out.push_str("{}"),
        Node::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { spacing.item } else { "" });
                line(depth + 1, out);
                write(item, spacing, escapes, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        Node::Object(members) => {
            out.push('{');
            for (at, (key, value)) in members.iter().enumerate() {
                out.push_str(if at > 0 { spacing.item } else { "" });
                line(depth + 1, out);
                quoted(key, escapes, out);
                out.push_str(spacing.colon);
                write(value, spacing, escapes, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
    }
}

fn quoted(text: &str, escapes: Escapes, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '/' if escapes.slash => out.push_str("\\/"),
            _ if c < ' ' || is_escaped(c, escapes) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a String cannot fail.
                    let _ = match escapes.unicode {
                        Some(true) => write!(out, "\\u{unit:04X}"),
                        Some(false) | None => write!(out, "\\u{unit:04x}"),
                    };
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn is_escaped(c: char, escapes: Escapes) -> bool {
    let beyond = !c.is_ascii() && escapes.unicode.is_some();
    beyond || (escapes.html && matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_libraries_do() {
        let node = Node::read(r#"{ "b":[1.0,{}], "a" : "é/<\u0001" }"#).expect("JSON");
        let mut all = Vec::new();
        written(&node, &Orders::new(), &mut |_, text| all.push(text));
        for text in [
            "{\"b\":[1.0,{}],\"a\":\"é/<\\u0001\"}",
            "{\"b\": [1.0, {}], \"a\": \"\\u00e9/<\\u0001\"}",
            "{\"a\":\"é/<\\u0001\",\"b\":[1.0,{}]}",
            "{\"b\":[1.0,{}],\"a\":\"\\u00e9\\/<\\u0001\"}",
            "{\n  \"b\": [\n    1.0,\n    {}\n  ],\n  \"a\": \"é/<\\u0001\"\n}",
            "{\"b\":[1.0,{}],\"a\":\"\\u00E9/\\u003C\\u0001\"}",
        ] {
            assert!(all.iter().any(|one| one == text), "{text}\n{all:#?}");
        }
        let sample: &[u8] = br#"{"b":1,"c":2,"a":3}"#;
        let orders = orders([sample].into_iter());
        let mut known = Vec::new();
        let node = Node::read(r#"{"a":3,"b":1}"#).expect("JSON");
        written(&node, &orders, &mut |_, text| known.push(text));
        assert!(
            known.iter().any(|one| one == r#"{"b":1,"a":3}"#),
            "{known:?}"
        );
        assert!(Node::read("{").is_none() && Node::read(r#""\ud800""#).is_none());
    }
}
