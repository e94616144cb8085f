//! Content codings: none is decoded.

use hyper::header::{CONTENT_ENCODING, HeaderMap};

/// The content codings that are registered at IANA, `identity` apart. A body in one of them is refused,
/// for none is decoded.
const CODINGS: [&str; 12] = [
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "exi",
    "gzip",
    "pack200-gzip",
    "x-compress",
    "x-gzip",
    "zstd",
];

/// Whether the body is in one of [`CODINGS`]. Any other name is a sender's mistake, such as `utf-8`, and
/// the body is not coded.
pub fn is_encoded(headers: &HeaderMap) -> bool {
    let known = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        CODINGS
            .iter()
            .any(|known| coding.eq_ignore_ascii_case(known.as_bytes()))
    };
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(known)
}
