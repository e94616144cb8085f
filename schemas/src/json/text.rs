//! The text of JSON: where a string ends, and what its escapes stand for.

use std::borrow::Cow;

/// The four characters that JSON allows between tokens.
pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Where the string ends that `text` begins with, closing quote included.
pub fn string_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            // The escaped character is one byte long wherever the grammar is good; where it is not,
            // the end must still be a character's boundary.
            b'\\' if bytes.get(at + 1).is_some_and(u8::is_ascii) => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// What stands between the quotes.
pub fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// The text of what stands between a string's quotes.
pub fn unescape(inside: &str) -> Cow<'_, str> {
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut out = String::with_capacity(inside.len());
    for piece in (Pieces { rest: inside }) {
        match piece {
            Piece::Plain(text) => out.push_str(text),
            Piece::Char(c) => out.push(c),
            Piece::Lone(_) => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
    Cow::Owned(out)
}

/// What a string consists of.
pub enum Piece<'a> {
    /// Text without an escape.
    Plain(&'a str),
    /// A character that was escaped.
    Char(char),
    /// A UTF-16 surrogate without its other half.
    Lone(u16),
}

/// The pieces of what stands between a string's quotes.
pub struct Pieces<'a> {
    /// What is not read yet.
    pub rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let escape = self.rest.find('\\').unwrap_or(self.rest.len());
        if escape > 0 {
            let (plain, rest) = self.rest.split_at(escape);
            self.rest = rest;
            return Some(Piece::Plain(plain));
        }
        let mut chars = self.rest.chars();
        chars.next()?;
        let piece = match chars.next() {
            Some('u') => return Some(self.code_unit()),
            Some('b') => Piece::Char('\u{8}'),
            Some('f') => Piece::Char('\u{c}'),
            Some('n') => Piece::Char('\n'),
            Some('r') => Piece::Char('\r'),
            Some('t') => Piece::Char('\t'),
            Some(same) => Piece::Char(same),
            None => Piece::Char('\\'),
        };
        self.rest = chars.as_str();
        Some(piece)
    }
}

impl<'a> Pieces<'a> {
    /// `\uXXXX`, with its other half where it is one half of a pair.
    fn code_unit(&mut self) -> Piece<'a> {
        let Some(unit) = hex_unit(self.rest) else {
            // Not JSON's grammar; the rest stands for itself.
            return Piece::Plain(std::mem::take(&mut self.rest));
        };
        self.rest = &self.rest[6..];
        if let Some(c) = char::from_u32(u32::from(unit)) {
            return Piece::Char(c);
        }
        let pair = hex_unit(self.rest).map(|low| char::decode_utf16([unit, low]).next());
        match pair {
            Some(Some(Ok(c))) => {
                self.rest = &self.rest[6..];
                Piece::Char(c)
            }
            _ => Piece::Lone(unit),
        }
    }
}

/// The code unit of the `\uXXXX` that `text` begins with.
fn hex_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}
