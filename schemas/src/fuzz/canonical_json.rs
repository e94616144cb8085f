//! The two ways of writing JSON again, against `serde_json` and against a plain reading.

use serde_json::value::RawValue;

use super::input::Input;
use super::reading::{Kind, Value};
use crate::json;

/// A text that is JSON, or is not.
pub fn fuzz_canonical_json(bytes: &[u8]) {
    let text = Input::new(bytes).and_then(|_| std::str::from_utf8(bytes).ok());
    let Some(text) = text else {
        return;
    };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        assert!(Value::of(text).is_none(), "JSON is refused: {text:?}");
        return;
    };
    let plain = Value::of(text);
    let plain = plain.as_ref().expect("what serde_json takes is JSON");
    let compact = json::compact(raw.get());
    assert_eq!(compact, plain.compact(text), "compact of {text:?}");
    let Some(canonical) = json::canonical(raw) else {
        assert!(plain.depth() > json::MAX_DEPTH, "no form for {text:?}");
        return;
    };
    assert!(plain.depth() <= json::MAX_DEPTH, "a form for {text:?}");
    let again = |text: &str| serde_json::from_str(text).ok().and_then(json::canonical);
    for written in [&canonical, &compact] {
        assert_eq!(
            again(written).as_ref(),
            Some(&canonical),
            "one form for {text:?}"
        );
    }
    assert_eq!(
        json::compact(&canonical),
        canonical,
        "compact already: {text:?}"
    );
    // serde_json keeps neither half a pair nor a number beyond its types, and of two members one.
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return;
    };
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&canonical).ok(),
        Some(value.clone()),
        "the same value: {text:?}"
    );
    if is_plain(plain, text) {
        assert_eq!(
            canonical,
            value.to_string(),
            "as serde_json writes {text:?}"
        );
        let pretty = format!("{value:#}");
        assert_eq!(
            again(&pretty),
            Some(canonical),
            "written with blanks: {text:?}"
        );
    }
}

/// Whether `serde_json` writes it as it was written, but for blanks, escapes and the order of keys.
fn is_plain(value: &Value, text: &str) -> bool {
    let written = value.written(text);
    match &value.kind {
        Kind::Object(members) => {
            let once = |(key, _): &(String, Value)| !value.has_twice(&[key.as_str()]);
            members.iter().all(once) && members.iter().all(|(_, value)| is_plain(value, text))
        }
        Kind::Array(items) => items.iter().all(|item| is_plain(item, text)),
        Kind::Number => written
            .parse::<i64>()
            .is_ok_and(|n| n.to_string() == written),
        Kind::Text(_) | Kind::Literal => true,
    }
}
