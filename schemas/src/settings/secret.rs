//! `sources.*.secrets`: which files hold secrets, when each is valid, and what it is called.

use serde_json::Value;

use super::values::{FILE_NAME, is_file_name};
use crate::providers::keyring::Validity;
use crate::settings::reader::Node;
use crate::timestamp;

/// A secret of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The name of its file under `secrets_dir`.
    pub file: String,
    /// What events, metrics and spans call it; no two secrets of a source have the same.
    pub key_id: String,
    /// When requests that it verifies were received.
    pub validity: Validity,
}

const KEY: &str = "secrets";

const LIST: &str =
    "must be a list of names of files, or of mappings with name, not_before, not_after, key_id";

const TIME: &str =
    "must be a time of RFC 3339 such as 2026-03-01T12:00:00Z, to the microsecond at most";

const KEY_ID: &str = "must be 1 to 120 letters, digits and . _ -";

/// Reads `secrets`. What has a fault is in the list all the same, so that nothing is said of its absence.
pub fn secrets(node: &mut Node) -> Vec<Secret> {
    let items = match node.value(KEY) {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            node.fault(KEY, LIST);
            return Vec::new();
        }
    };
    let mut secrets: Vec<Secret> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("{KEY}[{index}]");
        let secret = match item {
            Value::String(name) => {
                named(node, KEY, &name);
                Secret {
                    key_id: name.clone(),
                    file: name,
                    validity: Validity::default(),
                }
            }
            Value::Object(_) => within_time(node.item(&path, item)),
            _ => {
                node.fault(KEY, LIST);
                continue;
            }
        };
        if !secret.file.is_empty() {
            distinct(node, &path, &secrets, &secret);
        }
        secrets.push(secret);
    }
    secrets
}

/// Reads the mapping of one secret.
fn within_time(mut node: Node) -> Secret {
    if node.peek("name").is_none_or(Value::is_null) {
        node.fault("name", FILE_NAME);
    }
    let file = node.text("name");
    if let Some(name) = &file {
        named(&node, "name", name);
    }
    let (not_before, _) = time(&mut node, "not_before").unzip();
    let (_, not_after) = time(&mut node, "not_after").unzip();
    if not_before
        .zip(not_after)
        .is_some_and(|(first, last)| first > last)
    {
        node.fault(
            "not_after",
            "is before not_before, so the secret is never valid",
        );
    }
    let key_id = node.text("key_id");
    if key_id.as_deref().is_some_and(|id| !is_key_id(id)) {
        node.fault("key_id", KEY_ID);
    }
    node.finish();
    let file = file.unwrap_or_default();
    Secret {
        key_id: key_id.unwrap_or_else(|| file.clone()),
        file,
        validity: Validity {
            not_before,
            not_after,
        },
    }
}

/// The first and the last microsecond of a time as precisely as it is written.
fn time(node: &mut Node, key: &str) -> Option<(i64, i64)> {
    let time = match node.value(key)? {
        Value::String(text) => timestamp::rfc3339_span(&text),
        _ => None,
    };
    if time.is_none() {
        node.fault(key, TIME);
    }
    time
}

fn named(node: &Node, key: &str, name: &str) {
    if !is_file_name(name) {
        node.fault(key, FILE_NAME);
    }
}

fn is_key_id(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=120).contains(&text.len()) && text.bytes().all(known)
}

/// No two secrets have one name: who reads an event must know which of them verified it. A file may stand
/// for two of them where no request can be of both.
fn distinct(node: &Node, path: &str, others: &[Secret], secret: &Secret) {
    let Secret {
        file,
        key_id,
        validity,
    } = secret;
    let same_id = others.iter().any(|other| other.key_id == *key_id);
    let twice = |other: &&Secret| other.file == *file && other.validity.overlaps(validity);
    let twice = others.iter().any(|other| twice(&other));
    if twice {
        node.fault(KEY, format!("names {file} twice"));
    } else if same_id {
        let path = format!("{path}.key_id");
        node.fault(
            &path,
            format!("is {key_id}, as of another secret of this source: give one of them a key_id of its own"),
        );
    }
}
