//! A value as YAML in blocks, for files that people keep.

use serde_json::Value;

/// Writes a mapping, indented by so many blanks. Lists of plain values stand in one line.
pub fn block(value: &Value, indent: usize) -> String {
    let mut text = String::new();
    write(value, indent, &mut text);
    text
}

fn write(value: &Value, indent: usize, text: &mut String) {
    let Value::Object(map) = value else {
        text.push_str(&" ".repeat(indent));
        text.push_str(&flow(value));
        text.push('\n');
        return;
    };
    for (key, item) in map {
        text.push_str(&" ".repeat(indent));
        text.push_str(&scalar(key));
        text.push(':');
        match item {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write(item, indent + 2, text);
            }
            item => {
                text.push(' ');
                text.push_str(&flow(item));
                text.push('\n');
            }
        }
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pairs = map.iter();
            let pairs: Vec<String> = pairs
                .map(|(key, item)| format!("{}: {}", scalar(key), flow(item)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Words that a reader of YAML takes for something else.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// Text that is read as that text: without quotes where it can be nothing else.
fn scalar(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    let is_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if begins && text.bytes().all(plain) && !is_word {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_read_by_people_and_by_readers_of_yaml() {
        let value = json!({"sources": {"codes": {
            "provider": "flowcode", "secrets": ["codes"], "options": {"max_age": 0, "off": true, "x": {}},
            "events": ["no", "1.0", "a: b", "ä"], "m": [{"a": "b"}],
        }}});
        let expected = "  sources:
    codes:
      events: [\"no\", \"1.0\", \"a: b\", \"ä\"]
      m: [{a: b}]
      options:
        max_age: 0
        \"off\": true
        x: {}
      provider: flowcode
      secrets: [codes]
";
        assert_eq!(block(&value, 2), expected);
    }
}
