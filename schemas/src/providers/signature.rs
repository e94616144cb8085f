//! What signatures of all providers share: keys, decoding, comparison in constant time.
//! No provider's name stands here.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::raw::{Headers, Single};
use crate::reason::{Reason, Refusal};

/// The longest signature header that is looked at, in bytes: five times what a rotation with many
/// keys needs.
pub const MAX_HEADER_BYTES: usize = 4096;

/// A secret, ready for use. It prints as `***`.
#[derive(Clone)]
pub struct Key {
    /// The `key_id` of the secret: the name of its file where the settings do not say otherwise.
    pub name: String,
    material: Material,
}

#[derive(Clone)]
enum Material {
    // Boxed, for the keyed state is much larger than a public key.
    Hmac(Box<Hmac<Sha256>>),
    Ed25519([u8; 32]),
    Never,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ***)", self.name)
    }
}

impl Key {
    /// A key for HMAC-SHA256. The caller, which knows the file, sets the name.
    pub fn hmac(secret: &[u8]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self {
            name: String::new(),
            material: Material::Hmac(Box::new(mac)),
        }
    }

    /// A public key for Ed25519.
    pub fn ed25519(public: [u8; 32]) -> Self {
        Self {
            name: String::new(),
            material: Material::Ed25519(public),
        }
    }

    /// A key that nothing matches: it stands for secrets none of which is valid.
    pub(super) fn never() -> Self {
        Self {
            name: String::new(),
            material: Material::Never,
        }
    }

    /// Whether this is the key that nothing matches.
    pub fn is_never(&self) -> bool {
        matches!(self.material, Material::Never)
    }

    /// Whether this is a key for HMAC-SHA256.
    pub fn is_hmac(&self) -> bool {
        matches!(self.material, Material::Hmac(_))
    }

    /// Whether `tag` is the HMAC-SHA256 of the parts one after the other. In constant time. Never
    /// under a public key.
    pub fn hmac_matches(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let Material::Hmac(keyed) = &self.material else {
            return false;
        };
        let mut mac = keyed.as_ref().clone();
        for part in parts {
            mac.update(part);
        }
        mac.verify_slice(tag).is_ok()
    }

    /// Whether any of `tags` is the HMAC-SHA256 of the parts one after the other, which are hashed
    /// once however many tags there are. In constant time for each tag. Never under a public key.
    pub fn hmac_matches_any(&self, parts: &[&[u8]], tags: &[[u8; 32]]) -> bool {
        let Material::Hmac(keyed) = &self.material else {
            return false;
        };
        let mut mac = keyed.as_ref().clone();
        for part in parts {
            mac.update(part);
        }
        let computed = mac.finalize();
        tags.iter()
            .any(|tag| computed == CtOutput::new((*tag).into()))
    }

    /// The HMAC-SHA256 of the parts one after the other; `None` under a public key.
    pub fn hmac_of(&self, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let Material::Hmac(keyed) = &self.material else {
            return None;
        };
        let mut mac = keyed.as_ref().clone();
        for part in parts {
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }

    /// Whether `signature` is the Ed25519 signature of the message. Never under a shared secret.
    pub fn ed25519_matches(&self, message: &[u8], signature: &[u8]) -> bool {
        let Material::Ed25519(public) = &self.material else {
            return false;
        };
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public)
            .verify(message, signature)
            .is_ok()
    }
}

/// A secret that is used as the text it is: UTF-8, neither empty nor blank.
pub fn text_key(content: &[u8]) -> Result<Key, String> {
    if content.is_empty() {
        return Err("the secret is empty".into());
    }
    let text = std::str::from_utf8(content).map_err(|_| "the secret is not UTF-8 text")?;
    if text.trim().is_empty() {
        return Err("the secret is blank: copy it again".into());
    }
    shared_key(content)
}

/// A shared secret of these bytes. One byte over and over, as of a file that was filled with zeros or of a
/// placeholder, is a fault: a stranger guesses it.
pub fn shared_key(secret: &[u8]) -> Result<Key, String> {
    if secret.windows(2).all(|two| two.first() == two.last()) {
        return Err("all of the secret's bytes are the same: anybody can guess it".into());
    }
    Ok(Key::hmac(secret))
}

/// The points of Ed25519 whose order is at most eight, without their sign: 0, 1, the two of order eight, and
/// −1. Under such a key a signature that fits many messages is made without a secret.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
];

/// A public key for Ed25519, unless anybody can sign under it. The library takes these points, and takes a
/// coordinate past the prime for what is left of it.
pub fn public_key(public: [u8; 32]) -> Result<Key, String> {
    let mut point = public;
    point[31] &= 0x7f;
    // The prime is 2^255 − 19: 0x7f, thirty times 0xff, 0xed.
    let [first, between @ .., last] = point;
    let past = first >= 0xed && between.iter().all(|byte| *byte == 0xff) && last == 0x7f;
    if past || SMALL_ORDER.contains(&point) {
        return Err("it is no public key but a point under which anybody can sign".into());
    }
    Ok(Key::ed25519(public))
}

/// The value of the header (lower case) that carries the signature, without blanks around it.
pub fn header<'a>(headers: &'a Headers, name: &'a str) -> Result<&'a [u8], Refusal> {
    let malformed = |what: &str| Reason::SignatureMalformed.because(format!("{name} {what}"));
    let value = match headers.single(name) {
        Single::Absent => {
            return Err(Reason::SignatureMissing.because(format!("there is no header {name}")));
        }
        Single::Repeated => return Err(malformed("stands more than once")),
        Single::Once(value) => value.trim_ascii(),
    };
    if value.is_empty() {
        return Err(malformed("is empty"));
    }
    if value.len() > MAX_HEADER_BYTES {
        return Err(malformed("is longer than 4096 bytes"));
    }
    Ok(value)
}

/// Takes off the prefix `sha256=`, where it is there.
pub fn without_prefix(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"sha256=").unwrap_or(value)
}

/// A MAC from 64 hex digits in any case.
pub fn hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut mac = [0; 32];
    ::hex::decode_to_slice(text, &mut mac).ok()?;
    Some(mac)
}

const UNPADDED_TOO: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const LOOSE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, UNPADDED_TOO);
const LOOSE_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, UNPADDED_TOO);

/// A MAC from base64 or base64url, with or without padding.
pub fn base64_loose(text: &[u8]) -> Option<[u8; 32]> {
    // 32 bytes are 43 characters, and one of padding.
    if !matches!(text.len(), 43 | 44) {
        return None;
    }
    exactly(&LOOSE, text).or_else(|| exactly(&LOOSE_URL, text))
}

/// `N` bytes from strict base64: the standard alphabet, padded, no bit left over.
pub fn base64_strict<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    exactly(&general_purpose::STANDARD, text)
}

/// Bytes from base64: the standard alphabet, padded or not, no bit left over.
pub fn base64_bytes(text: &[u8]) -> Option<Vec<u8>> {
    LOOSE.decode(text).ok()
}

/// Whether it is base64url, padded or not, and can be nothing else.
pub fn is_base64url(text: &[u8]) -> bool {
    LOOSE_URL.decode(text).is_ok() && text.iter().any(|byte| matches!(byte, b'-' | b'_'))
}

fn exactly<const N: usize>(engine: &GeneralPurpose, text: &[u8]) -> Option<[u8; N]> {
    if text.len() > N.div_ceil(3) * 4 {
        return None;
    }
    // The engine asks for room for whole groups of three.
    let mut room = [0; 72];
    let length = engine.decode_slice(text, &mut room).ok()?;
    room.get(..length)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hex_is_64_digits_in_any_case() {
        let text = "00ff".repeat(16);
        assert_eq!(hex(text.as_bytes()), hex(text.to_uppercase().as_bytes()));
        assert!(hex(text.as_bytes()).is_some());
        for bad in [
            "",
            &text[1..],
            &"0g".repeat(32),
            &"00".repeat(33),
            &"+1".repeat(32),
        ] {
            assert_eq!(hex(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn base64_loose_takes_both_alphabets_and_no_padding() {
        // 0xfb 0xff … gives both characters in which the alphabets differ.
        let mac: [u8; 32] = std::array::from_fn(|at| if at % 2 == 0 { 0xfb } else { 0xff });
        let standard = general_purpose::STANDARD.encode(mac);
        let url = general_purpose::URL_SAFE.encode(mac);
        assert!(standard.contains(['+', '/']) && url.contains(['-', '_']));
        for text in [&standard, &url] {
            assert_eq!(base64_loose(text.as_bytes()), Some(mac));
            assert_eq!(
                base64_loose(text.trim_end_matches('=').as_bytes()),
                Some(mac)
            );
        }
        assert_eq!(base64_strict(standard.as_bytes()), Some(mac));
        assert_eq!(base64_strict::<32>(url.as_bytes()), None);
        assert_eq!(
            base64_strict::<32>(standard.trim_end_matches('=').as_bytes()),
            None
        );
        assert_eq!(base64_loose(&[b'A'; 64]), None);
        assert_eq!(base64_loose(b"===="), None);
    }

    #[test]
    fn a_header_is_once_filled_and_short() {
        let of = |values: &[&[u8]]| {
            let headers = values
                .iter()
                .map(|value| ("x-sig".to_owned(), value.to_vec()));
            let headers = Headers(headers.collect());
            header(&headers, "x-sig")
                .map(<[u8]>::to_vec)
                .map_err(|refusal| refusal.reason)
        };
        let malformed = Err(Reason::SignatureMalformed);
        assert_eq!(of(&[]), Err(Reason::SignatureMissing));
        assert_eq!(of(&[b"a", b"a"]), malformed);
        assert_eq!(of(&[b""]), malformed);
        assert_eq!(of(&[b" \t"]), malformed);
        assert_eq!(of(&[&[b'a'; MAX_HEADER_BYTES + 1]]), malformed);
        assert_eq!(
            of(&[&[b'a'; MAX_HEADER_BYTES]]),
            Ok(vec![b'a'; MAX_HEADER_BYTES])
        );
    }

    #[test]
    fn one_hash_serves_many_tags() {
        let key = Key::hmac(b"k");
        let tag = key.hmac_of(&[b"ab", b"c"]).expect("a shared secret");
        assert!(key.hmac_matches_any(&[b"abc"], &[[0; 32], tag]));
        assert!(!key.hmac_matches_any(&[b"abd"], &[[0; 32], tag]));
        assert!(!key.hmac_matches_any(&[b"abc"], &[]));
        assert!(key.hmac_matches(&[b"abc"], &tag));
        assert!(!Key::ed25519([0; 32]).hmac_matches(&[b"abc"], &tag));
        assert!(!key.ed25519_matches(b"abc", &tag));
        assert_eq!(format!("{key:?}"), "Key(, ***)");
    }

    /// The decoder by hand that stood here before the crate's.
    fn hex_by_hand(text: &[u8]) -> Option<[u8; 32]> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let digits: Option<Vec<u32>> = text.iter().map(|byte| digit(*byte)).collect();
        let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
        let bytes = pairs
            .iter()
            .map(|[high, low]| u8::try_from(high << 4 | low));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().expect("two digits");
        bytes.try_into().ok().filter(|_| rest.is_empty())
    }

    proptest! {
        #[test]
        fn hex_takes_and_refuses_what_it_did(
            text in prop_oneof!["[0-9a-fA-F]{60,68}", "[0-9a-fA-FgG+ x-]{64}", "[0-9a-f]{63}[^0-9a-f]"],
        ) {
            prop_assert_eq!(hex(text.as_bytes()), hex_by_hand(text.as_bytes()));
        }

        #[test]
        fn no_bytes_panic_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (hex(&bytes), base64_loose(&bytes), base64_strict::<64>(&bytes), base64_bytes(&bytes));
        }
    }
}
