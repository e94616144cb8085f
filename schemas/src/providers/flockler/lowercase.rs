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
        for chunk in text.utf8_chunks() {
            if self == Self::FinalSigma {
                // This rule looks around each sigma, which the library does.
                out.extend_from_slice(chunk.valid().to_lowercase().as_bytes());
            } else {
                self.each(chunk.valid(), &mut out);
            }
            out.extend_from_slice(chunk.invalid());
        }
        out
    }

    /// Lower-cases one character at a time.
    fn each(self, text: &str, out: &mut Vec<u8>) {
        for c in text.chars() {
            if let Ok(byte) = u8::try_from(c)
                && byte.is_ascii()
            {
                out.push(byte.to_ascii_lowercase());
            } else if self == Self::Simple && c == CAPITAL_I_WITH_DOT {
                // Every other character's full mapping is one character, and so the simple one.
                out.push(b'i');
            } else {
                for lower in c.to_lowercase() {
                    out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
    }
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

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for way in Lowercase::ALL {
                let _ = way.apply(&bytes);
            }
        }
    }
}
