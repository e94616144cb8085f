//! The settings file: it is read to its end whatever it holds, no fault shows a value that may be a secret,
//! and no file that it names is read.

use std::path::Path;

use serde_json::Value;

use super::input::Input;
use crate::settings::{Environment, Settings};

/// Stands in an input where a secret may be put by mistake.
const PLACE: &str = "@@";

/// What is put there.
const SECRET: &str = "n3verSh0wn";

/// Stands in an input where a file may be named, and what is named there: a file whose reading never ends.
const ENDLESS: (&str, &str) = ("@z", "/dev/zero");

/// A settings file.
pub fn fuzz_settings(bytes: &[u8]) {
    let text = Input::new(bytes).and_then(|_| std::str::from_utf8(bytes).ok());
    let Some(text) = text else {
        return;
    };
    let file = text.replace(PLACE, SECRET).replace(ENDLESS.0, ENDLESS.1);
    let environment = Environment {
        member: Some("member-0"),
        property_fault: &|_, value| {
            value
                .filter(|value| value.len() > 64)
                .map(|_| "is too long")
        },
    };
    let read = Settings::parse(Path::new("settings.yaml"), file.as_bytes(), &environment);
    let Err(faults) = read else {
        return;
    };
    assert!(!faults.is_empty(), "refused without a fault");
    if !holds_secret(text, &file) {
        return;
    }
    for fault in faults {
        assert!(!fault.to_string().contains(SECRET), "{fault}");
    }
}

/// Whether the secret stands where a value does. A fault may name keys, files and event types.
fn holds_secret(text: &str, file: &str) -> bool {
    match serde_saphyr::from_str::<Value>(file) {
        Ok(tree) => hidden(&tree, "") == Some(true),
        Err(_) => text.match_indices(PLACE).all(|(at, _)| {
            let quote = |c| matches!(c, ' ' | '"' | '\'');
            let before = text[..at].trim_end_matches(quote);
            let after = text[at + PLACE.len()..].trim_start_matches(quote);
            before.ends_with([':', '-']) && !after.contains(':')
        }),
    }
}

/// Whether the secret is a value below here; `None` where it stands where a fault may show it.
fn hidden(value: &Value, key: &str) -> Option<bool> {
    let any = |found: Vec<Option<bool>>| {
        let found: Option<Vec<bool>> = found.into_iter().collect();
        Some(found?.contains(&true))
    };
    match value {
        Value::String(text) if text.contains(SECRET) => (!matches!(
            key,
            "events" | "secrets" | "name" | "key_id" | "webhook_url_files"
        ))
        .then_some(true),
        Value::Array(items) => any(items.iter().map(|item| hidden(item, key)).collect()),
        Value::Object(map) if map.keys().any(|key| key.contains(SECRET)) => None,
        Value::Object(map) => any(map.iter().map(|(key, value)| hidden(value, key)).collect()),
        _ => Some(false),
    }
}
