//! A reading of JSON by RFC 8259 alone, which shares nothing with `serde_json` or [`crate::json`]: slow,
//! plain, and recursive.

use std::ops::Range;

/// A value, and where it stands in the text.
#[derive(Debug, Clone)]
pub struct Value {
    pub span: Range<usize>,
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Kind {
    Object(Vec<(String, Value)>),
    Array(Vec<Value>),
    /// As UTF-16, so that half a surrogate pair stays what it is.
    Text(Vec<u16>),
    Number,
    Literal,
}

impl Value {
    /// The value of all of a text; `None`: it is no JSON.
    pub fn of(text: &str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value()?;
        reader.blanks();
        (reader.at == text.len()).then_some(value)
    }

    /// The members, where it is an object.
    pub fn members(&self) -> Option<&[(String, Self)]> {
        match &self.kind {
            Kind::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Whether one of these keys stands twice among the members.
    pub fn has_twice(&self, keys: &[&str]) -> bool {
        let members = self.members().unwrap_or_default();
        let times = |key| members.iter().filter(|(name, _)| name == key).count();
        keys.iter().any(|key| times(*key) > 1)
    }

    /// The value of a member; `None` where it is absent or `null`.
    pub fn member(&self, text: &str, key: &str) -> Option<&Self> {
        let members = self.members()?;
        let (_, value) = members.iter().find(|(name, _)| name == key)?;
        (value.written(text) != "null").then_some(value)
    }

    /// The value as it stands in the text.
    pub fn written<'t>(&self, text: &'t str) -> &'t str {
        &text[self.span.clone()]
    }

    /// The text of a string.
    pub fn string(&self) -> Option<String> {
        match &self.kind {
            Kind::Text(units) => Some(String::from_utf16_lossy(units)),
            _ => None,
        }
    }

    /// The text of a string, or a number as it is written.
    pub fn token(&self, text: &str) -> Option<String> {
        match self.kind {
            Kind::Number => Some(self.written(text).to_owned()),
            _ => self.string(),
        }
    }

    /// How many objects and arrays stand one in another.
    pub fn depth(&self) -> usize {
        match &self.kind {
            Kind::Object(members) => 1 + deepest(members.iter().map(|(_, value)| value)),
            Kind::Array(items) => 1 + deepest(items.iter()),
            _ => 0,
        }
    }

    /// The value without blanks, its strings escaped as little as JavaScript does.
    pub fn compact(&self, text: &str) -> String {
        let join = |parts: Vec<String>| parts.join(",");
        match &self.kind {
            Kind::Object(members) => {
                let mut parts = Vec::new();
                let mut from = self.span.start;
                for (_, value) in members {
                    // A key may have half a pair, so it is read again from where it stands.
                    let key = text[from..].find('"').unwrap_or_default() + from;
                    let mut reader = Reader { text, at: key };
                    let units = reader.string().unwrap_or_default();
                    parts.push(format!("{}:{}", quoted(&units), value.compact(text)));
                    from = value.span.end;
                }
                format!("{{{}}}", join(parts))
            }
            Kind::Array(items) => {
                let parts = items.iter().map(|item| item.compact(text)).collect();
                format!("[{}]", join(parts))
            }
            Kind::Text(units) => quoted(units),
            Kind::Number | Kind::Literal => self.written(text).to_owned(),
        }
    }
}

fn deepest<'v>(values: impl Iterator<Item = &'v Value>) -> usize {
    values.map(Value::depth).max().unwrap_or_default()
}

fn quoted(units: &[u16]) -> String {
    let mut out = String::from('"');
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok('"') => out.push_str("\\\""),
            Ok('\\') => out.push_str("\\\\"),
            Ok('\u{8}') => out.push_str("\\b"),
            Ok('\t') => out.push_str("\\t"),
            Ok('\n') => out.push_str("\\n"),
            Ok('\u{c}') => out.push_str("\\f"),
            Ok('\r') => out.push_str("\\r"),
            Ok(c) if u32::from(c) < 32 => out.extend(escape(u32::from(c))),
            Ok(c) => out.push(c),
            Err(half) => out.extend(escape(half.unpaired_surrogate().into())),
        }
    }
    out.push('"');
    out
}

/// The six characters of an escape.
fn escape(unit: u32) -> Vec<char> {
    format!("\\u{unit:04x}").chars().collect()
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.blanks();
        let start = self.at;
        let kind = match self.peek()? {
            b'{' => Kind::Object(self.list(b'}', Self::member)?),
            b'[' => Kind::Array(self.list(b']', Self::value)?),
            b'"' => Kind::Text(self.string()?),
            b'-' | b'0'..=b'9' => self.number()?,
            _ => self.literal()?,
        };
        let span = start..self.at;
        Some(Value { span, kind })
    }

    /// What stands between two brackets, with commas between.
    fn list<T>(&mut self, end: u8, item: fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.take(end).is_some() {
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            self.blanks();
            if self.take(end).is_some() {
                return Some(items);
            }
            self.take(b',')?;
        }
    }

    fn member(&mut self) -> Option<(String, Value)> {
        self.blanks();
        let key = String::from_utf16_lossy(&self.string()?);
        self.blanks();
        self.take(b':')?;
        Some((key, self.value()?))
    }

    fn string(&mut self) -> Option<Vec<u16>> {
        self.take(b'"')?;
        let mut units = Vec::new();
        loop {
            let c = self.text[self.at..].chars().next()?;
            self.at += c.len_utf8();
            match c {
                '"' => return Some(units),
                '\\' => units.push(self.escape()?),
                c if u32::from(c) < 32 => return None,
                c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let escape = self.peek()?;
        self.at += 1;
        Some(match escape {
            b'"' | b'\\' | b'/' => u16::from(escape),
            b'b' => 8,
            b't' => 9,
            b'n' => 10,
            b'f' => 12,
            b'r' => 13,
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4)?;
                self.at += 4;
                let digit =
                    |unit: u16, c: char| Some(unit * 16 + u16::try_from(c.to_digit(16)?).ok()?);
                digits.chars().try_fold(0, digit)?
            }
            _ => return None,
        })
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<Kind> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(Kind::Number)
    }

    fn literal(&mut self) -> Option<Kind> {
        let rest = &self.text[self.at..];
        let literal = ["true", "false", "null"].into_iter();
        let found = literal.into_iter().find(|word| rest.starts_with(word))?;
        self.at += found.len();
        Some(Kind::Literal)
    }
}
