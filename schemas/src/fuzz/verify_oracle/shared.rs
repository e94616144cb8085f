//! What the second readings of all providers share.

use crate::fuzz::input::Input;
use crate::fuzz::reading::Value;
use crate::fuzz::signing::{RECEIVED, Source};
use crate::raw::Headers;
use crate::reason::Reason;

/// What a second reading decides; `None`: it does not know enough to decide.
pub type Decision = Option<Result<Option<&'static str>, Reason>>;

/// A request that was signed, or nearly.
pub struct Request<'a> {
    pub headers: Headers,
    pub body: &'a [u8],
    pub token: bool,
}

/// Compares the two readings.
pub fn compare(source: &Source, request: &Request<'_>, expected: Decision) {
    let found = source.verify(&request.headers, request.body, request.token);
    if let Some(expected) = expected {
        let (headers, body) = (&request.headers, String::from_utf8_lossy(request.body));
        assert_eq!(
            found, expected,
            "ours, and the second reading of {headers:?} {body:?}"
        );
    }
}

/// The values of a header, `|` between them, `-` for none.
pub struct Header {
    name: &'static str,
    pub values: Vec<Vec<u8>>,
}

impl Header {
    pub fn read(input: &mut Input<'_>, name: &'static str) -> Self {
        let values = input.line().split(|byte| *byte == b'|');
        let values = values.filter(|value| *value != b"-").map(<[u8]>::to_vec);
        Self {
            name,
            values: values.collect(),
        }
    }

    /// With a signature in the place of each `$`.
    pub fn carrying(mut self, signature: &[u8]) -> Self {
        for value in &mut self.values {
            *value = replaced(value, signature);
        }
        self
    }

    pub fn headers(&self) -> Headers {
        let values = self.values.iter();
        Headers(
            values
                .map(|value| (self.name.to_owned(), value.clone()))
                .collect(),
        )
    }

    /// The value where the header stands once, else nothing.
    pub fn once(&self) -> Vec<u8> {
        match &self.values[..] {
            [one] => one.clone(),
            _ => Vec::new(),
        }
    }

    /// The value, where there is one.
    pub fn value(&self) -> Result<&[u8], Reason> {
        single(&self.values.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

/// The value of a signature header, which stands once, is filled and at most 4 KiB long.
pub fn single<'v>(values: &[&'v [u8]]) -> Result<&'v [u8], Reason> {
    match values {
        [] => Err(Reason::SignatureMissing),
        [one] if (1..=4096).contains(&one.trim_ascii().len()) => Ok(one.trim_ascii()),
        _ => Err(Reason::SignatureMalformed),
    }
}

/// The text with these bytes in the place of each `$`.
pub fn replaced(text: &[u8], by: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'$').collect();
    parts.join(by)
}

/// A MAC in one of eight ways of writing it.
pub fn write(mac: &[u8], way: usize) -> Vec<u8> {
    let digit = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or_default();
    let digits = mac
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    let hex: String = digits.collect();
    let text = match way {
        0 => hex,
        1 => base64(mac, *b"+/"),
        2 => base64(mac, *b"-_"),
        3 => base64(mac, *b"+/").replace('=', ""),
        4 => base64(hex.as_bytes(), *b"+/"),
        5 => format!("sha256={hex}"),
        6 => hex.to_uppercase(),
        _ => hex[1..].to_owned(),
    };
    text.into_bytes()
}

/// The 62 characters that both alphabets of base64 begin with, by their values.
fn alphabet(last: [u8; 2]) -> Vec<u8> {
    (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .chain(last)
        .collect()
}

fn base64(bytes: &[u8], last: [u8; 2]) -> String {
    let alphabet = alphabet(last);
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let all = group
            .iter()
            .fold(0, |all, byte| all << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = all >> (18 - 6 * at) & 63;
            text.push(if at > group.len() {
                '='
            } else {
                char::from(alphabet[digit])
            });
        }
    }
    text
}

/// 32 bytes from hex digits.
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text
        .iter()
        .map(|byte| char::from(*byte).to_digit(16))
        .collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok())
        .collect()
}

/// Bytes from base64, where no bit is left over. Strict: the first alphabet, with its padding.
pub fn unbase64(text: &[u8], strict: bool) -> Option<Vec<u8>> {
    let end = text
        .iter()
        .rposition(|byte| *byte != b'=')
        .map_or(0, |at| at + 1);
    let (digits, padding) = text.split_at(end);
    let needed = (4 - digits.len() % 4) % 4;
    if padding.len() != needed && (strict || !padding.is_empty()) {
        return None;
    }
    let read = |last: [u8; 2]| {
        let alphabet = alphabet(last);
        let bits = digits
            .iter()
            .map(|digit| alphabet.iter().position(|known| known == digit));
        let bits: Option<Vec<usize>> = bits.collect();
        let bits: Vec<bool> = bits?
            .iter()
            .flat_map(|six| (0..6).rev().map(move |bit| six >> bit & 1 == 1))
            .collect();
        let (bytes, left) = bits.as_chunks::<8>();
        let byte = |bits: &[bool; 8]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        (left.len() < 6 && !left.contains(&true)).then(|| bytes.iter().map(byte).collect())
    };
    let standard = read(*b"+/");
    if strict {
        standard
    } else {
        standard.or_else(|| read(*b"-_"))
    }
}

/// A body, read.
pub struct Parsed<'b> {
    /// What is JSON of it; `None`: it is not UTF-8.
    pub text: Option<&'b str>,
    pub value: Option<Value>,
    /// Why its members cannot be read.
    pub fault: Option<Reason>,
}

impl<'b> Parsed<'b> {
    /// `keys` are those that may not stand twice.
    pub fn of(body: &'b [u8], keys: &[&str]) -> Self {
        let Ok(text) = std::str::from_utf8(body) else {
            let fault = Some(Reason::NotUtf8);
            return Self {
                text: None,
                value: None,
                fault,
            };
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value = Value::of(text);
        let good = value.as_ref().is_some_and(|value| !value.has_twice(keys));
        let fault = (!good).then_some(Reason::MalformedJson);
        Self {
            text: Some(text),
            value,
            fault,
        }
    }

    pub fn is_object(&self) -> bool {
        self.value
            .as_ref()
            .is_some_and(|value| value.members().is_some())
    }

    /// A member, where members can be read.
    pub fn member(&self, key: &str) -> Option<&Value> {
        let value = self.value.as_ref().filter(|_| self.fault.is_none());
        value?.member(self.text?, key)
    }

    /// The token of a member.
    pub fn token(&self, key: &str) -> Option<String> {
        self.member(key)?.token(self.text?)
    }
}

/// A time as a text has it.
pub enum Time {
    /// Milliseconds since 1970.
    At(i128),
    Malformed,
    /// This reading knows too little of ISO 8601.
    Unknown,
}

/// Reads seconds or milliseconds, or what RFC 3339 has.
pub fn time(text: &str) -> Time {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let negative = !text.contains('.') && digits(whole.strip_prefix('-').unwrap_or_default());
    if (digits(whole) || negative) && digits(fraction) {
        return match whole.parse::<i64>() {
            Ok(number) if number.unsigned_abs() >= 100_000_000_000 => Time::At(number.into()),
            Ok(number) => {
                let thousandths = format!("{fraction:0<3}")[..3].parse().unwrap_or(0);
                Time::At(i128::from(number) * 1000 + thousandths)
            }
            Err(_) => Time::Malformed,
        };
    }
    // All forms of ISO 8601 have a time behind a `T`, and its offset.
    let may_be = |c: char| c.is_ascii_digit() || " TtZzWUC+-:.,−".contains(c);
    if text.len() < 8 || !text.contains(['T', 't', ' ']) || !text.chars().all(may_be) {
        return Time::Malformed;
    }
    Time::Unknown
}

/// Why a body's time is refused.
pub fn age(parsed: &Parsed<'_>, max_age: i128) -> Result<Option<Reason>, ()> {
    if max_age == 0 {
        return Ok(None);
    }
    if parsed.member("timestamp").is_none() {
        return Ok(Some(Reason::TimestampMissing));
    }
    match parsed.token("timestamp").as_deref().map(time) {
        Some(Time::Unknown) => Err(()),
        Some(Time::At(at)) if (at - i128::from(RECEIVED) * 1000).abs() <= max_age * 1000 => {
            Ok(None)
        }
        Some(Time::At(_)) => Ok(Some(Reason::TimestampStale)),
        Some(Time::Malformed) | None => Ok(Some(Reason::TimestampMalformed)),
    }
}
