//! Members of an object: the same keys, spans and texts as a plain reading of RFC 8259 finds.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::input::Input;
use super::reading::{Kind, Value};
use crate::json::{self, RawField};

#[derive(Debug, Default, Deserialize)]
struct Probe<'a> {
    #[serde(borrow)]
    a: RawField<'a>,
    #[serde(borrow)]
    data: RawField<'a>,
    #[serde(borrow, rename = "é")]
    accent: RawField<'a>,
    #[serde(borrow, rename = "😀")]
    smile: RawField<'a>,
}

/// The keys of [`Probe`].
const KEYS: [&str; 4] = ["a", "data", "é", "😀"];

/// A body, as it came.
pub fn fuzz_json_spans(bytes: &[u8]) {
    let Some(input) = Input::new(bytes) else {
        return;
    };
    let Ok(text) = json::utf8(input.rest()) else {
        assert!(std::str::from_utf8(bytes).is_err(), "UTF-8 is refused");
        return;
    };
    let read = json::object::<Probe<'_>>(text);
    let plain = Value::of(text);
    let object = plain
        .as_ref()
        .is_some_and(|value| value.members().is_some());
    let expected = match &plain {
        Some(value) if !value.has_twice(&KEYS) => Ok(object),
        _ => Err(()),
    };
    let found = read.as_ref().map(Option::is_some).map_err(|_| ());
    assert_eq!(
        found, expected,
        "accepted, and whether as an object: {text:?}"
    );
    let (Ok(Some(probe)), Some(plain)) = (read, plain) else {
        return;
    };
    let fields = [probe.a, probe.data, probe.accent, probe.smile];
    for (key, field) in KEYS.into_iter().zip(fields) {
        let member = plain.member(text, key);
        let span = |raw: &RawValue| {
            let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
            start..start + raw.get().len()
        };
        assert_eq!(
            field.map(span),
            member.map(|member| member.span.clone()),
            "the span of {key} in {text:?}"
        );
        let (Some(raw), Some(member)) = (field, member) else {
            continue;
        };
        let seen = json::string(field).map(std::borrow::Cow::into_owned);
        assert_eq!(seen, member.string(), "the text of {key} in {text:?}");
        let seen = json::token(field).map(std::borrow::Cow::into_owned);
        assert_eq!(seen, member.token(text), "the token of {key} in {text:?}");
        let filled = member.members().is_some_and(|members| !members.is_empty());
        assert_eq!(
            json::has_members(raw),
            filled,
            "members of {key} in {text:?}"
        );
        assert_eq!(
            json::integer(field),
            whole(member, text),
            "the number of {key} in {text:?}"
        );
    }
}

/// A number without fraction and exponent that fits 32 bits.
fn whole(value: &Value, text: &str) -> Option<i32> {
    let digits = value.written(text);
    let is_whole = matches!(value.kind, Kind::Number) && !digits.contains(['.', 'e', 'E']);
    let number: i128 = digits.parse().ok().filter(|_| is_whole)?;
    i32::try_from(number).ok()
}
