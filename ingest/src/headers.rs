//! Which headers of a request are kept in its raw record.

use hyper::header::{self, HeaderMap, HeaderName};
use sluice_schemas::raw::Headers;

use crate::mask::Mask;

/// Headers of one hop (RFC 9110, section 7.6.1), and headers that may be secrets of other parties.
const DROPPED: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::COOKIE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers of one hop for which no constant stands ready.
const DROPPED_BY_NAME: [&str; 2] = ["keep-alive", "proxy-connection"];

/// The headers without those of one hop, those that Connection names, secrets, and what the source
/// requires. Names are in lower case; values are the bytes that came, but for the token of the URL, the
/// values of one name in their order.
///
/// The headers that the provider signs or reads (`exact`) are never masked: the verdict depends on each of
/// their bytes, and a short token can be a part of a signature by chance. No proxy copies a URL there.
pub fn kept(
    all: &HeaderMap,
    required: &[HeaderName],
    exact: &[&str],
    mask: Option<Mask<'_>>,
) -> Headers {
    let nominated: Vec<&[u8]> = all
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_dropped = |name: &HeaderName| {
        DROPPED.contains(name)
            || DROPPED_BY_NAME.contains(&name.as_str())
            || required.contains(name)
            || nominated
                .iter()
                .any(|other| other.eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    // Most are kept.
    let mut kept = Vec::with_capacity(all.len());
    for (name, value) in all.iter().filter(|(name, _)| !is_dropped(name)) {
        let (name, value) = (name.as_str(), value.as_bytes());
        let mask = mask.filter(|_| !exact.contains(&name));
        let value = mask.map_or(value.into(), |mask| mask.cover(value));
        kept.push((name.to_owned(), value.into_owned()));
    }
    Headers(kept)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn one_hop_nominated_secret_and_required_headers_are_dropped() {
        let mut all = HeaderMap::new();
        for (name, value) in [
            ("connection", b"keep-alive, X-Hop".as_slice()),
            ("keep-alive", b"timeout=5"),
            ("te", b"trailers"),
            ("transfer-encoding", b"chunked"),
            ("x-hop", b"1"),
            ("cookie", b"a=b"),
            ("authorization", b"Bearer x"),
            ("proxy-authorization", b"Basic x"),
            ("x-key", b"secret"),
            ("x-odd", b"\xff\x80"),
            ("x-twice", b"one"),
            ("x-twice", b"two"),
        ] {
            let name = HeaderName::from_static(name);
            all.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let kept = kept(&all, &[HeaderName::from_static("x-key")], &[], None);
        let twice: Vec<&[u8]> = kept.all("x-twice").collect();
        assert_eq!(twice, [b"one", b"two"]);
        assert_eq!(kept.all("x-odd").next(), Some(b"\xff\x80".as_slice()));
        assert_eq!(kept.0.len(), 3, "{kept:?}");
    }
}
