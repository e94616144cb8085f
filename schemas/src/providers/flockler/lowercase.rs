//! Lower-casing as the sender's language may do it. The provider says only that all of the signed
//! text is lower case.

/// A way of lower-casing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lowercase {
    /// All of Unicode, one character at a time: Ruby, in which Flockler's own examples are.
    Unicode,
    /// One character for one.
    Simple,
    /// All of Unicode, with the rule for the sigma that ends a word: JavaScript, Python.
    FinalSigma,
    /// The letters A to Z.
    Ascii,
}

/// The setting `lowercase`.
pub const CHOICES: [(&str, &[Lowercase]); 5] = [
    ("auto", &Lowercase::ALL),
    ("unicode", &[Lowercase::Unicode]),
    ("simple", &[Lowercase::Simple]),
    ("final_sigma", &[Lowercase::FinalSigma]),
    ("ascii", &[Lowercase::Ascii]),
];

/// The one letter whose lower case depends on what stands around it.
const CAPITAL_SIGMA: char = '\u{3a3}';

/// The one letter whose lower case is two characters under the full mapping.
const CAPITAL_I_WITH_DOT: char = '\u{130}';

impl Lowercase {
    /// All, in the order of trying.
    pub const ALL: [Self; 4] = [Self::Unicode, Self::Simple, Self::FinalSigma, Self::Ascii];

    /// The name in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unicode => "unicode",
            Self::Simple => "simple",
            Self::FinalSigma => "final_sigma",
            Self::Ascii => "ascii",
        }
    }

    /// Lower-cases text. Bytes that are not UTF-8 are left as they are.
    pub fn apply(self, text: &[u8]) -> Vec<u8> {
        if self == Self::Ascii || text.is_ascii() {
            return text.to_ascii_lowercase();
        }
        let mut out = Vec::with_capacity(text.len());
        if let Ok(text) = std::str::from_utf8(text) {
            self.append(text, &mut out);
            return out;
        }
        for chunk in text.utf8_chunks() {
            self.append(chunk.valid(), &mut out);
            out.extend_from_slice(chunk.invalid());
        }
        out
    }

    fn append(self, text: &str, out: &mut Vec<u8>) {
        if self == Self::FinalSigma && text.contains(CAPITAL_SIGMA) {
            // The rule looks around each sigma, which the library does.
            out.extend_from_slice(text.to_lowercase().as_bytes());
        } else {
            self.append_each(text, out);
        }
    }

    /// Lower-cases ASCII, which most of it is, a run at a time, and all else one character at a time.
    fn append_each(self, text: &str, out: &mut Vec<u8>) {
        let mut rest = text;
        while !rest.is_empty() {
            let (run, others) = rest.split_at(rest.bytes().take_while(u8::is_ascii).count());
            let from = out.len();
            out.extend_from_slice(run.as_bytes());
            out[from..].make_ascii_lowercase();
            let mut chars = others.chars();
            if let Some(c) = chars.next() {
                self.append_one(c, out);
            }
            rest = chars.as_str();
        }
    }

    fn append_one(self, c: char, out: &mut Vec<u8>) {
        if self == Self::Simple && c == CAPITAL_I_WITH_DOT {
            // Every other character's full mapping is one character, and so the simple one.
            out.push(b'i');
            return;
        }
        for lower in c.to_lowercase() {
            out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// A text in lower case in each of several ways. It is lower-cased once; what the other ways have otherwise
/// is put in afterwards.
#[derive(Debug)]
pub struct Lowered {
    /// What the ways give, each text once.
    texts: Vec<Vec<u8>>,
    /// Which of them each of [`Lowercase::ALL`] gives.
    places: [usize; Lowercase::ALL.len()],
}

impl Lowered {
    /// Lower-cases a text in these ways.
    pub fn of(ways: &[Lowercase], text: &[u8]) -> Self {
        if let [way] = ways {
            return Self::same(way.apply(text));
        }
        if text.is_ascii() {
            return Self::same(text.to_ascii_lowercase());
        }
        // This way is the one that looks around: the others follow from it.
        let final_sigma = Lowercase::FinalSigma.apply(text);
        let unicode = with_plain_sigmas(text, &final_sigma);
        let simple = with_plain_dotted_is(text, unicode.as_ref().unwrap_or(&final_sigma));
        let mut lowered = Self::same(unicode.unwrap_or_else(|| final_sigma.clone()));
        let simple = simple.map_or(0, |simple| lowered.place(simple));
        let final_sigma = lowered.place(final_sigma);
        let ascii = lowered.place(text.to_ascii_lowercase());
        lowered.places = [0, simple, final_sigma, ascii];
        lowered
    }

    fn same(text: Vec<u8>) -> Self {
        Self {
            texts: vec![text],
            places: [0; Lowercase::ALL.len()],
        }
    }

    fn place(&mut self, text: Vec<u8>) -> usize {
        let known = self.texts.iter().position(|known| *known == text);
        known.unwrap_or_else(|| {
            self.texts.push(text);
            self.texts.len() - 1
        })
    }

    /// Which text a way gives: the same number, the same text.
    pub fn which(&self, way: Lowercase) -> usize {
        let [unicode, simple, final_sigma, ascii] = self.places;
        match way {
            Lowercase::Unicode => unicode,
            Lowercase::Simple => simple,
            Lowercase::FinalSigma => final_sigma,
            Lowercase::Ascii => ascii,
        }
    }

    /// The text that a way gives.
    pub fn by(&self, way: Lowercase) -> &[u8] {
        self.texts.get(self.which(way)).map_or(&[], Vec::as_slice)
    }
}

/// The lower case with σ for each Σ, wherever it stands; `None` where that changes nothing. The sigmas of a
/// text and of its lower case are the same ones in the same order: no other letter becomes one.
fn with_plain_sigmas(text: &[u8], lower: &[u8]) -> Option<Vec<u8>> {
    const CAPITAL: [u8; 2] = *b"\xce\xa3";
    const PLAIN: [u8; 2] = *b"\xcf\x83";
    const FINAL: [u8; 2] = *b"\xcf\x82";
    if !contains(text, CAPITAL) {
        return None;
    }
    let is_capital = pairs(text).filter_map(|(_, pair)| match pair {
        CAPITAL => Some(true),
        PLAIN | FINAL => Some(false),
        _ => None,
    });
    let sigmas = pairs(lower).filter(|(_, pair)| matches!(*pair, PLAIN | FINAL));
    let finals = is_capital
        .zip(sigmas)
        .filter_map(|(capital, (at, pair))| (capital && pair == FINAL).then_some(at));
    let mut plain: Option<Vec<u8>> = None;
    for at in finals {
        let plain = plain.get_or_insert_with(|| lower.to_vec());
        let sigma = plain.get_mut(at..at + PLAIN.len());
        sigma?.copy_from_slice(&PLAIN);
    }
    plain
}

/// The lower case with `i` alone for each İ; `None` where there is none. What İ becomes, `i` and a dot, may
/// stand in the text by itself too, in the same order.
fn with_plain_dotted_is(text: &[u8], lower: &[u8]) -> Option<Vec<u8>> {
    const CAPITAL: [u8; 2] = *b"\xc4\xb0";
    const DOT: [u8; 2] = *b"\xcc\x87";
    if !contains(text, CAPITAL) {
        return None;
    }
    let after_an_i = |text: &[u8], at: usize| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        before.is_some_and(|byte| byte.eq_ignore_ascii_case(&b'i'))
    };
    let is_capital = pairs(text).filter_map(|(at, pair)| match pair {
        CAPITAL => Some(true),
        DOT if after_an_i(text, at) => Some(false),
        _ => None,
    });
    let dots = pairs(lower).filter(|(at, pair)| *pair == DOT && after_an_i(lower, *at));
    let (mut plain, mut taken) = (Vec::with_capacity(lower.len()), 0);
    for (_, (at, _)) in is_capital.zip(dots).filter(|(capital, _)| *capital) {
        plain.extend_from_slice(lower.get(taken..at).unwrap_or_default());
        taken = at + DOT.len();
    }
    plain.extend_from_slice(lower.get(taken..).unwrap_or_default());
    Some(plain)
}

/// Each two bytes that stand next to each other, and where.
fn pairs(text: &[u8]) -> impl Iterator<Item = (usize, [u8; 2])> {
    let next = text.iter().skip(1);
    text.iter().zip(next).map(|(a, b)| [*a, *b]).enumerate()
}

/// Whether these two bytes stand in the text.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without a branch the compiler compares many bytes at once"
)]
fn contains(text: &[u8], [first, second]: [u8; 2]) -> bool {
    let next = text.get(1..).unwrap_or_default();
    let found = text.iter().zip(next);
    found.fold(false, |found, (a, b)| {
        found | ((*a == first) & (*b == second))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_four_ways_differ_where_they_should() {
        let all =
            |text: &str| Lowercase::ALL.map(|way| String::from_utf8(way.apply(text.as_bytes())));
        let own = |texts: [&str; 4]| texts.map(|text| Ok(text.to_owned()));
        assert_eq!(all("ÄÖÅ A"), own(["äöå a", "äöå a", "äöå a", "ÄÖÅ a"]));
        assert_eq!(all("ΟΔΟΣ"), own(["οδοσ", "οδοσ", "οδος", "ΟΔΟΣ"]));
        assert_eq!(all("İ"), own(["i\u{307}", "i", "i\u{307}", "İ"]));
    }

    #[test]
    fn no_other_letter_has_a_longer_lower_case() {
        let longer: Vec<char> = ('\0'..=char::MAX)
            .filter(|c| c.to_lowercase().count() > 1)
            .collect();
        assert_eq!(longer, [CAPITAL_I_WITH_DOT]);
    }

    #[test]
    fn what_is_not_utf_8_is_left() {
        let bytes = b"A\xff\xc3\x84\xc3B";
        assert_eq!(Lowercase::Unicode.apply(bytes), b"a\xff\xc3\xa4\xc3b");
        assert_eq!(Lowercase::Ascii.apply(bytes), b"a\xff\xc3\x84\xc3b");
    }

    #[test]
    fn no_other_letter_becomes_a_sigma_or_an_i() {
        for (lower, capitals) in [
            ('σ', "Σ"),
            ('i', "I\u{130}"),
            ('\u{307}', "\u{130}"),
            ('ς', ""),
        ] {
            let others =
                ('\0'..=char::MAX).filter(|c| *c != lower && c.to_lowercase().any(|c| c == lower));
            assert_eq!(others.collect::<String>(), capitals);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for way in Lowercase::ALL {
                let _ = way.apply(&bytes);
            }
        }
    }
}
