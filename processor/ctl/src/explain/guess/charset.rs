//! A body in the character sets between which proxies turn text.

/// The body in other character sets.
pub fn charsets(body: &[u8], add: &mut dyn FnMut(&str, Vec<u8>)) {
    let widened: String = body.iter().copied().map(char::from).collect();
    if !body.is_ascii() {
        let says = "the body was UTF-8 when it was signed, and was turned into Latin-1, or is UTF-8 taken once";
        add(says, widened.into_bytes());
    }
    for (is_little, says) in [(true, "UTF-16LE"), (false, "UTF-16BE")] {
        if let Some(text) = from_utf16(body, is_little) {
            add(
                &format!("the body was turned from UTF-8 into {says}"),
                text.into_bytes(),
            );
        }
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    for windows in [false, true] {
        let narrow: Option<Vec<u8>> = text.chars().map(|c| narrow(c, windows)).collect();
        if let Some(bytes) = narrow.filter(|_| !text.is_ascii()) {
            let says = if std::str::from_utf8(&bytes).is_ok() {
                "the body's UTF-8 was taken for Latin-1 and encoded again"
            } else {
                "the body was Latin-1 when it was signed, and was turned into UTF-8"
            };
            add(says, bytes);
        }
    }
    for is_little in [true, false] {
        for mark in ["\u{feff}", ""] {
            let units = format!("{mark}{text}");
            let pair = |unit: u16| {
                if is_little {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                }
            };
            let says = "the body was UTF-16 when it was signed, and was turned into UTF-8";
            add(says, units.encode_utf16().flat_map(pair).collect());
        }
    }
}

fn from_utf16(body: &[u8], is_little: bool) -> Option<String> {
    let (pairs, []) = body.as_chunks::<2>() else {
        return None;
    };
    let unit = |pair: &[u8; 2]| {
        if is_little {
            u16::from_le_bytes(*pair)
        } else {
            u16::from_be_bytes(*pair)
        }
    };
    let text = String::from_utf16(&pairs.iter().map(unit).collect::<Vec<_>>()).ok()?;
    Some(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

/// What windows-1252 has from 0x80 to 0x9f.
const WINDOWS: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";

/// A character as one byte, of Latin-1 or of windows-1252.
fn narrow(c: char, windows: bool) -> Option<u8> {
    if windows && let Some(at) = WINDOWS.chars().position(|one| one == c) {
        return u8::try_from(0x80 + at).ok();
    }
    u8::try_from(c).ok()
}
