//! HTTP/2 by hand: frames as they are sent, and the statuses of answers.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// Of settings.
pub const ACK: u8 = 1;

/// What a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Adds a frame. Payloads here have less than 64 KiB.
pub fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u16::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    bytes.extend_from_slice(&[0, length[0], length[1], kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A head in HPACK that needs no table of its own: `POST http://a{path}`. The path has less than 127 bytes.
pub fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x04];
    text(&mut block, path.as_bytes());
    block.extend_from_slice(&[0x01, 1, b'a']);
    block
}

/// Adds a header to a head, as text that no table keeps.
pub fn header(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    text(block, name.as_bytes());
    text(block, value);
}

/// A string of at most 16,000 bytes with its length before it.
fn text(block: &mut Vec<u8>, bytes: &[u8]) {
    let [short, rest] = match bytes.len() {
        length @ 0..127 => [length, 0],
        length => [127, length - 127],
    };
    // Each is below 128.
    block.push(u8::try_from(short).unwrap_or(0));
    if short == 127 {
        block.push(u8::try_from(rest % 128).unwrap_or(0) | 0x80);
        block.push(u8::try_from(rest / 128).unwrap_or(0));
    }
    block.extend_from_slice(bytes);
}

/// The status that an answer's head begins with, where the server may keep no table (its client set the
/// table's size to 0).
pub fn status(block: &[u8]) -> Option<u16> {
    // News of the table's size come first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let (first, rest) = block[start..].split_first()?;
    match first {
        0x88 => Some(200),
        0x89 => Some(204),
        0x8a => Some(206),
        0x8b => Some(304),
        0x8c => Some(400),
        0x8d => Some(404),
        0x8e => Some(500),
        // A literal under one of the names `:status`.
        0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => {
            let (length, rest) = rest.split_first()?;
            let value = rest.get(..usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                return std::str::from_utf8(value).ok()?.parse().ok();
            }
            digits(value)
        }
        _ => None,
    }
}

/// Three digits in HPACK's Huffman code: 0 to 2 have five bits, 3 to 9 six.
fn digits(coded: &[u8]) -> Option<u16> {
    let all = coded
        .iter()
        .take(3)
        .fold(0u32, |all, byte| all << 8 | u32::from(*byte));
    let (all, mut left) = (all << (24 - 8 * coded.len().min(3)), 24u32);
    let mut number = 0;
    for _ in 0..3 {
        let six = all >> left.checked_sub(6)? & 0x3f;
        let (digit, bits) = match six {
            0..6 => (six >> 1, 5),
            25..32 => (six - 22, 6),
            _ => return None,
        };
        left -= bits;
        number = number * 10 + u16::try_from(digit).ok()?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_from_heads() {
        // 503 as Huffman code, behind a size of the table; 408 as text; 404 from the static table.
        assert_eq!(status(&[0x20, 0x48, 0x83, 0x6c, 0x0c, 0xff]), Some(503));
        assert_eq!(status(b"\x08\x03408"), Some(408));
        assert_eq!(status(&[0x8d, 0x5f]), Some(404));
        assert_eq!(status(&[0xbe]), None);
        assert_eq!(status(&[]), None);
    }

    #[test]
    fn long_strings_have_their_lengths() {
        let mut block = Vec::new();
        header(&mut block, "a", &[b'x'; 5_000]);
        // 127 + 4873, in sevens of bits.
        assert_eq!(block[..7], [0, 1, b'a', 0x7f, 0x89, 0x26, b'x']);
        assert_eq!(block.len(), 6 + 5_000);
    }
}
