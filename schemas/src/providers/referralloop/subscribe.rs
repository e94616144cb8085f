//! The option `subscribe` in, what the provider is to send to the source out.

use std::collections::BTreeSet;

use crate::providers::api::Subscribe;
use crate::settings::reader::Node;
use crate::settings::values::{FILE_NAME, is_file_name};
use crate::topic::is_event_type;

const KEY: &str = "subscribe";

/// The longest id of a waitlist, in bytes: three times the documented one.
const WAITLIST_BYTES: usize = 120;

/// Reads the option, where it is there.
pub fn read(options: &mut Node) -> Option<Subscribe> {
    if options.peek(KEY).is_none_or(serde_json::Value::is_null) {
        options.value(KEY);
        return None;
    }
    let mut node = options.child(KEY);
    let events = list(&mut node, "events", is_event_type);
    let waitlists = list(&mut node, "waitlists", is_waitlist);
    let target_url_file = file(&mut node, "target_url_file");
    let api_key_file = file(&mut node, "api_key_file");
    if !api_key_file.is_empty() && api_key_file == target_url_file {
        node.fault("api_key_file", "must not be the file of the URL");
    }
    node.finish();
    Some(Subscribe {
        events,
        waitlists,
        target_url_file,
        api_key_file,
    })
}

/// Whether a text may be the id of a waitlist: it stands in the keys of records.
fn is_waitlist(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=WAITLIST_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

fn list(node: &mut Node, key: &str, is_good: fn(&str) -> bool) -> Vec<String> {
    let texts = node.texts(key);
    let mut seen = BTreeSet::new();
    if texts.is_empty() {
        node.fault(key, "must name at least one");
    } else if !texts.iter().all(|text| is_good(text)) {
        let message = "must be texts of letters, digits, . _ - and at most 120 long";
        node.fault(key, message);
    } else if let Some(twice) = texts.iter().find(|text| !seen.insert(*text)) {
        node.fault(key, format!("names {twice} twice"));
    }
    texts
}

fn file(node: &mut Node, key: &str) -> String {
    let name = node.text(key).unwrap_or_default();
    if !is_file_name(&name) {
        node.fault(key, FILE_NAME);
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::reader::Faults;

    fn of(subscribe: &Value) -> (Option<Subscribe>, Vec<String>) {
        let faults = Faults::default();
        let mut options = Node::root(json!({"subscribe": subscribe}), &faults);
        let read = read(&mut options);
        options.finish();
        let faults = faults.take().into_iter();
        (read, faults.map(|fault| fault.to_string()).collect())
    }

    fn good() -> Value {
        json!({
            "events": ["signup.created", "signup.merged"], "waitlists": ["123e4567-e89b-12d3"],
            "target_url_file": "waitlist-url", "api_key_file": "waitlist-api",
        })
    }

    #[test]
    fn it_is_read_whole_or_not_there() {
        assert_eq!(of(&Value::Null), (None, Vec::new()));
        let (read, faults) = of(&good());
        assert_eq!(faults, Vec::<String>::new());
        let read = read.expect("it is there");
        assert_eq!(read.events.len(), 2);
        assert_eq!(read.api_key_file, "waitlist-api");
    }

    #[test]
    fn each_fault_has_its_path() {
        let (_, faults) = of(&json!({}));
        assert_eq!(faults.len(), 4, "{faults:?}");
        for (key, value, word) in [
            ("events", json!(["a b"]), "subscribe.events: must be texts"),
            ("events", json!(["a", "a"]), "names a twice"),
            (
                "waitlists",
                json!(["a/b"]),
                "subscribe.waitlists: must be texts",
            ),
            ("waitlists", json!("a"), "must be a list"),
            (
                "target_url_file",
                json!("../x"),
                "directly under secrets_dir",
            ),
            (
                "api_key_file",
                json!("waitlist-url"),
                "must not be the file of the URL",
            ),
            (
                "api_key",
                json!("pk_live"),
                "subscribe.api_key: is not a setting",
            ),
        ] {
            let mut subscribe = good();
            subscribe[key] = value;
            let (_, faults) = of(&subscribe);
            let faults = faults.join("\n");
            assert!(faults.contains(word), "{key}: {faults}");
            assert!(!faults.contains("pk_live"), "{faults}");
        }
    }
}
