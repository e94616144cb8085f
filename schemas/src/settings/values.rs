//! What several sections read alike: values with bounds, names, files.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::identity::sha256;
use crate::settings::reader::Node;

/// The longest retention or window: the milliseconds of two of them must fit 63 bits with room.
const MAX_RETENTION: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The message where a text is no name of a secret's file.
pub const FILE_NAME: &str = "must be the name of a file directly under secrets_dir";

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// An address to listen at.
pub fn address(node: &mut Node, key: &str, default: &str) -> Option<SocketAddr> {
    let text = node.text(key).unwrap_or_else(|| default.to_owned());
    let address = text.parse().ok();
    if address.is_none() {
        node.fault(
            key,
            "must be an IP address and a port, such as 0.0.0.0:8080",
        );
    }
    address
}

/// A number of things that Kafka counts in 32 bits.
pub fn kafka_count(node: &mut Node, key: &str, default: i32, most: i64) -> i32 {
    // `integer` holds the bounds, and the most is far below what fits.
    i32::try_from(node.integer(key, i64::from(default), 1, most)).unwrap_or(default)
}

/// A retention or a window.
pub fn bounded(node: &mut Node, key: &str, default: Duration) -> Duration {
    let found = node.positive_duration(key, default);
    if found > MAX_RETENTION {
        node.fault(key, "is over a hundred years");
        return default;
    }
    // Windows are compared in whole seconds, and segments and retentions need no less.
    if found < Duration::from_secs(1) {
        node.fault(key, "must be at least 1s");
        return default;
    }
    found
}

/// A duration within bounds; `message` is the fault outside of them.
pub fn within(
    node: &mut Node,
    key: &str,
    default: Duration,
    range: RangeInclusive<Duration>,
    message: &str,
) -> Duration {
    let found = node.duration(key, default);
    if range.contains(&found) {
        return found;
    }
    node.fault(key, message);
    default
}

/// Whether a byte may stand in the name of a topic.
pub fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether a text names a file directly under a directory: no path, nothing that leads out of it.
pub fn is_file_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.contains(['/', '\\', '\0'])
        && !matches!(text, "." | "..")
}

/// A name alone is a file under `secrets_dir`; with a slash it is a path, taken as it is.
pub fn file(node: &mut Node, key: &str, secrets_dir: &Path) -> Option<PathBuf> {
    let text = node.text(key)?;
    if text.is_empty() || text.contains('\0') {
        node.fault(
            key,
            "must be a path, or the name of a file under secrets_dir",
        );
    }
    Some(if text.contains('/') {
        PathBuf::from(text)
    } else {
        secrets_dir.join(text)
    })
}

/// Whether a key has a value. `null` is none, and is done with.
pub fn is_set(node: &mut Node, key: &str) -> bool {
    match node.peek(key) {
        Some(value) if value.is_null() => {
            node.value(key);
            false
        }
        found => found.is_some(),
    }
}

/// A number of things in this process.
pub fn count(node: &mut Node, key: &str, default: i64, from: i64, to: i64) -> usize {
    fitting(node.integer(key, default, from, to))
}

/// A size within bounds.
pub fn bytes(node: &mut Node, key: &str, default: u64, from: u64, to: u64) -> u64 {
    let found = node.size(key, default);
    if !(from..=to).contains(&found) {
        node.fault(key, format!("must be from {from}B to {to}B"));
        return default;
    }
    found
}

/// A number whose bounds were checked and fit the type that it is asked for in.
pub fn fitting<N: TryInto<T>, T: Default>(number: N) -> T {
    number.try_into().unwrap_or_default()
}

/// 64 hex digits, but not the hash of nothing: an empty token is no token.
pub fn hash(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (bytes != sha256(b"")).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The decoder by hand that stood here before the crate's.
    fn hash_by_hand(text: &str) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            let read = u8::from_str_radix(digits, 16).ok();
            *byte = read.filter(|_| !digits.contains('+'))?;
        }
        (bytes != sha256(b"")).then_some(bytes)
    }

    #[test]
    fn the_hash_of_an_empty_token_is_refused() {
        let empty = hex::encode(sha256(b""));
        assert_eq!(hash(&empty), None);
        assert_eq!(hash(&empty.to_uppercase()), None);
        assert!(hash(&hex::encode(sha256(b"t"))).is_some());
    }

    proptest! {
        #[test]
        fn a_hash_is_taken_and_refused_as_it_was(
            text in prop_oneof!["[0-9a-fA-F]{60,68}", "[0-9a-fA-FgG+ x-]{64}", "[0-9a-f]{62}ä"],
        ) {
            prop_assert_eq!(hash(&text), hash_by_hand(&text));
        }
    }
}
