//! Reads a tree of settings and reports every fault with its path, not the first alone.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};

/// What is wrong in the settings, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path in the file, such as `sources.waitlist.max_body`.
    pub path: String,
    /// One sentence for the operator.
    pub message: String,
}

impl Fault {
    /// What is wrong with the file as a whole.
    pub fn of_file(path: &Path, message: String) -> Self {
        Self {
            path: path.display().to_string(),
            message,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Where faults gather while a tree is read.
#[derive(Debug, Clone, Default)]
pub struct Faults(Rc<RefCell<Vec<Fault>>>);

impl Faults {
    /// Adds a fault.
    pub fn add(&self, path: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Fault {
            path: path.into(),
            message: message.into(),
        });
    }

    /// All that gathered, in the order of reading.
    pub fn take(&self) -> Vec<Fault> {
        self.0.take()
    }
}

/// A mapping of the settings: keys are taken out one by one, and what is left at the end is unknown.
#[derive(Debug)]
pub struct Node {
    path: String,
    map: Map<String, Value>,
    faults: Faults,
}

impl Node {
    /// The root of a tree. `null` stands for an empty mapping.
    pub fn root(value: Value, faults: &Faults) -> Self {
        Self::new(String::new(), value, faults)
    }

    fn new(path: String, value: Value, faults: &Faults) -> Self {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => {
                faults.add(
                    if path.is_empty() { "." } else { &path },
                    "must be a mapping",
                );
                Map::new()
            }
        };
        Self {
            path,
            map,
            faults: faults.clone(),
        }
    }

    /// The path of a key below this node.
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Adds a fault at a key.
    pub fn fault(&self, key: &str, message: impl Into<String>) {
        self.faults.add(self.path(key), message);
    }

    /// Whether the key stands in the file.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The keys that were not taken out yet.
    pub fn keys(&self) -> Vec<String> {
        self.map.keys().cloned().collect()
    }

    /// A look at the value of a key, which stays to be taken out.
    pub fn peek(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// The value of a key, whatever it is; `null` counts as absent.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// A mapping below this one; empty where absent.
    #[must_use]
    pub fn child(&mut self, key: &str) -> Self {
        let value = self.value(key).unwrap_or(Value::Null);
        Self::new(self.path(key), value, &self.faults)
    }

    /// A mapping that is an item of a list of this one, at its path such as `secrets[1]`.
    #[must_use]
    pub fn item(&self, path: &str, value: Value) -> Self {
        Self::new(self.path(path), value, &self.faults)
    }

    /// The mappings below this one by their names, such as the sources.
    pub fn children(self) -> Vec<(String, Self)> {
        let (path, faults) = (self.path, self.faults);
        self.map
            .into_iter()
            .map(|(name, value)| {
                let path = format!("{path}.{name}");
                (name, Self::new(path, value, &faults))
            })
            .collect()
    }

    /// All pairs of this mapping, numbers and booleans as their text.
    pub fn text_pairs(self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (key, value) in &self.map {
            match value {
                Value::String(text) => pairs.push((key.clone(), text.clone())),
                Value::Number(_) | Value::Bool(_) => pairs.push((key.clone(), value.to_string())),
                _ => self.fault(key, "must be text, a number or a boolean"),
            }
        }
        pairs
    }

    /// Text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text),
            _ => self.wrong(key, "must be text"),
        }
    }

    /// A list of texts; empty where absent.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let texts: Option<Vec<String>> = value.as_array().and_then(|items| {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            items.iter().map(text).collect()
        });
        texts
            .or_else(|| self.wrong(key, "must be a list of texts"))
            .unwrap_or_default()
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value::Bool(flag)) => flag,
            Some(_) => self.wrong(key, "must be true or false").unwrap_or(default),
        }
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &str, default: i64, from: i64, to: i64) -> i64 {
        let Some(value) = self.value(key) else {
            return default;
        };
        match value.as_i64() {
            Some(number) if (from..=to).contains(&number) => number,
            _ => self
                .wrong(key, format!("must be a whole number from {from} to {to}"))
                .unwrap_or(default),
        }
    }

    /// A number within bounds.
    pub fn number(&mut self, key: &str, default: f64, from: f64, to: f64) -> f64 {
        let Some(value) = self.value(key) else {
            return default;
        };
        match value.as_f64() {
            Some(number) if (from..=to).contains(&number) => number,
            _ => self
                .wrong(key, format!("must be a number from {from} to {to}"))
                .unwrap_or(default),
        }
    }

    /// A duration such as `250ms`, `5m` or `72h`; `None` where absent.
    pub fn optional_duration(&mut self, key: &str) -> Option<Duration> {
        let text = match self.value(key)? {
            Value::String(text) => text,
            Value::Number(number) if number.as_u64() == Some(0) => "0s".to_owned(),
            _ => return self.wrong(key, "must be a duration such as 30s, 5m or 72h"),
        };
        duration(&text)
            .or_else(|| self.wrong(key, "must be a duration such as 250ms, 30s, 5m, 72h or 7d"))
    }

    /// A duration such as `250ms`, `5m` or `72h`.
    pub fn duration(&mut self, key: &str, default: Duration) -> Duration {
        self.optional_duration(key).unwrap_or(default)
    }

    /// A duration over zero.
    pub fn positive_duration(&mut self, key: &str, default: Duration) -> Duration {
        let found = self.duration(key, default);
        if found.is_zero() {
            self.fault(key, "must be over zero");
            return default;
        }
        found
    }

    /// A size in bytes such as `64KiB` or `1MiB`; `None` where absent.
    pub fn optional_size(&mut self, key: &str) -> Option<u64> {
        let found = match self.value(key)? {
            Value::String(text) => size(&text),
            value => value.as_u64(),
        };
        match found {
            Some(bytes) if bytes > 0 => Some(bytes),
            _ => self.wrong(key, "must be a size such as 64KiB, 1MiB or 1GiB"),
        }
    }

    /// A size in bytes such as `64KiB` or `1MiB`.
    pub fn size(&mut self, key: &str, default: u64) -> u64 {
        self.optional_size(key).unwrap_or(default)
    }

    /// One of a closed list of names.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], default: T) -> T {
        let Some(value) = self.value(key) else {
            return default;
        };
        let found = choices
            .iter()
            .find(|(name, _)| value.as_str() == Some(name));
        if let Some((_, choice)) = found {
            return *choice;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.fault(key, format!("must be one of {}", names.join(", ")));
        default
    }

    /// Ends the reading: what was not asked for is unknown.
    pub fn finish(self) {
        for key in self.map.keys() {
            self.fault(key, "is not a setting");
        }
    }

    fn wrong<T>(&self, key: &str, message: impl Into<String>) -> Option<T> {
        self.fault(key, message);
        None
    }
}

/// Reads `250ms`, `30s`, `5m`, `72h`, `7d`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(millis).map(Duration::from_millis)
}

/// Reads `512B`, `64KiB`, `1MiB`, `1GiB`.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_is_reported_with_its_path() {
        let faults = Faults::default();
        let tree = json!({
            "a": {"wait": "5 minutes", "size": "1MB", "kind": "x", "unknown": 1},
            "b": [],
            "n": 11,
        });
        let mut root = Node::root(tree, &faults);
        let mut a = root.child("a");
        assert_eq!(
            a.duration("wait", Duration::from_secs(1)),
            Duration::from_secs(1)
        );
        assert_eq!(a.size("size", 7), 7);
        assert_eq!(a.choice("kind", &[("y", 1), ("z", 2)], 1), 1);
        a.finish();
        root.child("b").finish();
        assert_eq!(root.integer("n", 1, 1, 10), 1);
        root.finish();
        let paths: Vec<String> = faults.take().into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["a.wait", "a.size", "a.kind", "a.unknown", "b", "n"]);
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        for bad in [
            "",
            "5",
            "m",
            "-5m",
            "1.5h",
            "5 m",
            "99999999999999999999s",
            "5M",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(size("1MiB"), Some(1_048_576));
        for bad in ["", "1", "1MB", "-1KiB", "18446744073709551615GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
