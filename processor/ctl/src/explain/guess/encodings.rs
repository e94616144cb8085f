//! The MACs that a header's value may hold, in whatever encoding and with whatever around them.

use sluice_schemas::providers::signature;

use super::body::unescaped;
use super::secrets::{from_base64, from_hex};

/// What of a header's value may be the MAC.
pub fn pieces(value: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for text in [value.to_vec(), unescaped(value, false)] {
        let blanks_as_plus: Vec<u8> = text
            .trim_ascii()
            .iter()
            .map(|byte| if *byte == b' ' { b'+' } else { *byte })
            .collect();
        all.push(blanks_as_plus);
        let is_break =
            |byte: &u8| matches!(byte, b',' | b' ' | b':' | b'"' | b'\'' | b'<' | b'>' | b';');
        all.extend(text.split(is_break).map(<[u8]>::to_vec));
        let stripped = text
            .iter()
            .copied()
            .filter(|byte| !b":- ".contains(byte))
            .collect();
        all.push(stripped);
    }
    let bare: Vec<Vec<u8>> = all
        .iter()
        .flat_map(|piece| {
            // What stands behind `sha256=`; padding stands at the end.
            let at = piece.iter().position(|byte| *byte == b'=');
            let behind = at.and_then(|at| piece.get(at + 1..)).map(<[u8]>::to_vec);
            let digits = piece.strip_prefix(b"0x").map(<[u8]>::to_vec);
            [behind, digits]
        })
        .flatten()
        .collect();
    all.extend(bare);
    all.retain(|piece| piece.len() >= 40);
    all
}

/// A text as MACs: hex, base64, base64 of hex, hex of base64.
pub fn decoded(text: &[u8]) -> Vec<[u8; 32]> {
    let direct = |text: &[u8]| signature::hex(text).or_else(|| signature::base64_loose(text));
    let inner = from_base64(text).into_iter().chain(from_hex(text));
    let nested = inner.filter_map(|inner| direct(&inner));
    direct(text).into_iter().chain(nested).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::secrets::to_hex;
    use super::*;

    #[test]
    fn a_mac_is_found_in_whatever_stands_around_it() {
        let mac: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 7 % 256).expect("a byte"));
        let (hex, base64) = (to_hex(&mac), STANDARD.encode(mac));
        for text in [
            hex.clone(),
            hex.to_uppercase(),
            base64.clone(),
            base64.replace('+', " "),
            base64.replace('=', "%3D").replace('+', "%2B"),
            format!("sha256={hex}"),
            format!("v1={base64}"),
            format!("t=1700000000,v1={hex}"),
            format!("\"{hex}\""),
            format!("HMAC {hex}"),
            format!("0x{hex}"),
            STANDARD.encode(&hex),
        ] {
            let found = pieces(text.as_bytes());
            assert!(
                found.iter().any(|piece| decoded(piece).contains(&mac)),
                "{text}"
            );
        }
    }
}
