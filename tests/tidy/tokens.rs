//! Rust's text as tokens: as much of the language as the rules of [`crate`] need, and no more.

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An identifier, a keyword or a number.
    Word,
    /// What stands between the quotes of a string literal.
    Text,
    /// One comment, with its slashes.
    Comment,
    /// One character of anything else.
    Mark,
}

/// One token and the line on which it begins, counted from 1.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub line: usize,
}

impl Token<'_> {
    /// Whether it is this word or mark.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Mark) && self.text == text
    }
}

/// All tokens of a file, without white space. Character literals are left out.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let (kind, from, to, end) = token(source, at);
        if let Some(kind) = kind {
            let text = &source[from..to];
            found.push(Token { kind, text, line });
        }
        line += source[at..end].matches('\n').count();
        at = end;
    }
    found
}

/// The token at `at`: what it is, where its text begins and ends, and where the next one begins.
fn token(source: &str, at: usize) -> (Option<Kind>, usize, usize, usize) {
    let bytes = source.as_bytes();
    let rest = &source[at..];
    let plain = |kind, length: usize| (kind, at, at + length, at + length);
    if rest.starts_with("//") {
        return plain(Some(Kind::Comment), rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return plain(
            Some(Kind::Comment),
            rest.find("*/").map_or(rest.len(), |end| end + 2),
        );
    }
    if let Some((open, hashes)) = raw_string(rest) {
        let close = format!("\"{}", "#".repeat(hashes));
        let length = rest[open..].find(&close).unwrap_or(rest.len() - open);
        let end = (at + open + length + close.len()).min(source.len());
        return (Some(Kind::Text), at + open, at + open + length, end);
    }
    match bytes[at] {
        b'"' => {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = end.min(bytes.len());
            (Some(Kind::Text), at + 1, end, (end + 1).min(bytes.len()))
        }
        b'\'' => match character(rest) {
            Some(length) => plain(None, length),
            None => plain(Some(Kind::Mark), 1),
        },
        byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c: char| !word(c)).unwrap_or(rest.len());
            plain(Some(Kind::Word), length)
        }
        byte if byte.is_ascii_whitespace() => plain(None, 1),
        _ => plain(
            Some(Kind::Mark),
            rest.chars().next().map_or(1, char::len_utf8),
        ),
    }
}

/// Where the text of a raw string literal begins, and how many hashes close it.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let text = after.trim_start_matches('#');
    let hashes = after.len() - text.len();
    text.starts_with('"')
        .then_some((rest.len() - text.len() + 1, hashes))
}

/// The length of a character literal, if it is one and no lifetime.
fn character(rest: &str) -> Option<usize> {
    let inner = &rest[1..];
    if let Some(escaped) = inner.strip_prefix('\\') {
        let skipped = escaped.chars().next()?.len_utf8();
        return Some(2 + skipped + escaped[skipped..].find('\'')? + 1);
    }
    let length = inner.chars().next()?.len_utf8();
    inner[length..].starts_with('\'').then_some(length + 2)
}

/// The tokens that are code: no comments.
pub fn code<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    tokens
        .iter()
        .filter(|token| token.kind != Kind::Comment)
        .copied()
        .collect()
}

/// Which tokens stand in a module of tests within a file: `#[cfg(test)] mod name { … }`.
pub fn in_tests(code: &[Token<'_>]) -> Vec<bool> {
    let mut marked = vec![false; code.len()];
    let opening = ["#", "[", "cfg", "(", "test", ")", "]"];
    for from in 0..code.len() {
        let attribute = code[from..]
            .iter()
            .zip(opening)
            .take_while(|(token, text)| token.is(text));
        if attribute.count() < opening.len() {
            continue;
        }
        let mut at = from + opening.len();
        while at < code.len() && !code[at].is("{") && !code[at].is(";") {
            at += 1;
        }
        if at < code.len() && code[at].is("{") {
            let end = closing(code, at);
            marked[from..=end.min(code.len() - 1)].fill(true);
        }
    }
    marked
}

/// The index of the brace that closes the one at `open`.
pub fn closing(code: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in code.iter().enumerate().skip(open) {
        if token.is("{") {
            depth += 1;
        } else if token.is("}") {
            depth -= 1;
            if depth == 0 {
                return index;
            }
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_comments_and_lifetimes_differ() {
        let found =
            tokens("fn f<'a>(x: &'a str) { r#\"a \" b\"#; '\"'; \"c\\\"d\" } // \"e\"\n// f");
        let texts: Vec<_> = found
            .iter()
            .filter(|t| t.kind == Kind::Text)
            .map(|t| t.text)
            .collect();
        assert_eq!(texts, ["a \" b", "c\\\"d"]);
        let comments: Vec<_> = found.iter().filter(|t| t.kind == Kind::Comment).collect();
        assert_eq!((comments[0].text, comments[1].line), ("// \"e\"", 2));
    }

    #[test]
    fn a_module_of_tests_is_marked_to_its_end() {
        let all = tokens("fn a() {} #[cfg(test)] mod tests { fn b() { c() } } fn d() {}");
        let code = code(&all);
        let marked = in_tests(&code);
        let named = |name| marked[code.iter().position(|token| token.is(name)).unwrap()];
        assert_eq!(
            [named("a"), named("b"), named("c"), named("d")],
            [false, true, true, false]
        );
    }
}
