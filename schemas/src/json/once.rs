//! Reading an object and the objects in it in one pass, where nothing about them is odd.

use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::text::is_blank;

/// An object inside of another, read where it stands. Any other value is an error, an array too.
#[derive(Debug, Default)]
pub struct Inner<T>(pub T);

/// Reads an object with all objects in it that `T` names as [`Inner`]. `None` wherever that is not plainly
/// possible: the caller then reads level by level, by [`object`](super::object) and [`inner`](super::inner),
/// which decide what is accepted and how it is refused. What is read here, they would read alike.
pub fn at_once<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    // A derived struct would read an array as its fields in their order.
    let is_object = text.trim_start_matches(is_blank).starts_with('{');
    is_object.then(|| serde_json::from_str(text).ok())?
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Inner<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Inner<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Inner<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Inner)
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::json::{RawField, inner, members, object};
    use crate::reason::Refusal;

    #[derive(Debug, Default, Deserialize)]
    struct Outer<'a, D = RawField<'a>> {
        #[serde(borrow)]
        a: RawField<'a>,
        b: D,
    }

    #[derive(Debug, Default, Deserialize)]
    struct Deep<'a> {
        #[serde(borrow)]
        a: RawField<'a>,
        #[serde(borrow)]
        b: RawField<'a>,
    }

    /// Where a member begins and how long it is.
    type Span = Option<(usize, usize)>;

    fn span(text: &str, field: RawField<'_>) -> Span {
        let start = |raw: &RawValue| raw.get().as_ptr().addr() - text.as_ptr().addr();
        field.map(|raw| (start(raw), raw.get().len()))
    }

    fn spans(text: &str, a: RawField<'_>, deep: &Deep<'_>) -> [Span; 3] {
        [a, deep.a, deep.b].map(|field| span(text, field))
    }

    fn by_level(text: &str) -> Result<[Span; 3], Refusal> {
        let outer: Outer<'_> = object(text)?.unwrap_or_default();
        let deep: Deep<'_> = inner(outer.b)?;
        Ok(spans(text, outer.a, &deep))
    }

    fn all_at_once(text: &str) -> Option<[Span; 3]> {
        let outer: Outer<'_, Option<Inner<Deep<'_>>>> = at_once(text)?;
        Some(spans(text, outer.a, &outer.b.unwrap_or_default().0))
    }

    /// JSON whose keys are often ours, often twice, and sometimes odd, with a fault in some of it.
    fn texts() -> impl Strategy<Value = String> {
        let leaf =
            "null|true|-?[0-9]{1,30}|1e9{1,5}|-|\"[a-zé ]{0,9}\"|\"\\\\(n|u00e9|ud83d|x)\"|\"\n\"";
        let key = "\"(a|b|a|b|c|\\\\u0061|\\\\ud83d|\\\\n|é|b)\"";
        let value = leaf.prop_recursive(5, 40, 6, move |value| {
            let member = (key, "|:|: ", value.clone());
            let member = member.prop_map(|(key, colon, value)| {
                format!("{key}{}{value}", if colon.is_empty() { ":" } else { &colon })
            });
            let list = |open: &'static str, close: &'static str, items: Vec<String>| {
                format!("{open}{}{close}", items.join(", "))
            };
            prop_oneof![
                1 => proptest::collection::vec(value, 0..4).prop_map(move |all| list("[", "]", all)),
                5 => proptest::collection::vec(member, 0..5).prop_map(move |all| list("{ ", "\n}", all)),
            ]
        });
        let good = ("[ \n]{0,2}", value.clone(), value.clone(), "[ \n]{0,2}|,|}");
        let good = good
            .prop_map(|(before, a, b, after)| format!("{before}{{\"a\":{a},\"b\":{b}}}{after}"));
        let broken = (
            good.clone(),
            any::<prop::sample::Index>(),
            "[\\]\\[{},:\"\\\\0 ]?",
        );
        let broken = broken.prop_map(|(text, at, other)| {
            let mut chars: Vec<String> = text.chars().map(String::from).collect();
            let at = at.index(chars.len());
            chars[at] = other;
            chars.concat()
        });
        prop_oneof![4 => good, 2 => broken, 1 => value]
    }

    #[test]
    fn what_is_odd_is_read_level_by_level() {
        for text in [
            "[1,{}]",
            r#"{"a":1,"b":[1,2]}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":{"\ud83d":1}}"#,
            r#"{"b":1}"#,
            "",
        ] {
            assert_eq!(all_at_once(text), None, "{text}");
        }
        for text in [
            r#"{"b":null,"a":1}"#,
            r#" {"c":[],"b":{"\u0061":[],"c":{}}} "#,
            "{}",
        ] {
            assert_eq!(all_at_once(text), by_level(text).ok(), "{text}");
        }
        // Nothing that is passed over is walked recursively.
        let deep = format!(
            r#"{{"a":{0}{1},"b":{{"c":{0}{1}}}}}"#,
            "[".repeat(1 << 16),
            "]".repeat(1 << 16)
        );
        assert_eq!(all_at_once(&deep), by_level(&deep).ok());
        assert!(all_at_once(&deep).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_is_read_at_once_is_read_alike_level_by_level(text in texts()) {
            if let Some(found) = all_at_once(&text) {
                prop_assert_eq!(Ok(found), by_level(&text));
            }
        }

        #[test]
        fn keys_that_the_library_reads_are_read_alike_by_our_rules(text in texts()) {
            let own = members::members::<Deep<'_>>(&text).ok();
            let is_object = text.trim_start().starts_with('{');
            let own = own.filter(|_| is_object).map(|deep| spans(&text, None, &deep));
            let found = object::<Deep<'_>>(&text).ok().flatten();
            prop_assert_eq!(found.map(|deep| spans(&text, None, &deep)), own);
        }
    }
}
