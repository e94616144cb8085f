//! The identity of a delivery: what makes two requests the same one.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// 16 bytes under which a delivery is known to the deduplication and to its event.
pub type Fingerprint = [u8; 16];

/// What a provider says identifies a delivery, before it is hashed with the source's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The parts in the provider's documented order, as bytes.
    pub parts: Vec<Vec<u8>>,
    /// Present where the provider is deduplicated by sequence.
    pub sequence: Option<Sequence>,
}

/// For a provider that sends the same content again on purpose: a record repeats when its MAC is
/// that of the entity's last event, and not when another came in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// What the sequence is about, such as an article's id.
    pub entity: Vec<u8>,
    /// The verified MAC, decoded.
    pub mac: [u8; 32],
}

/// The first 16 bytes of SHA-256 over the source and each part, each prefixed by its length as
/// u32 big-endian, so that no two lists of parts meet in one string of bytes.
pub fn fingerprint<'a>(source: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // A body is at most some MiB, so its length fits; a longer part would still be hashed whole.
        hash.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(bytes);
    };
    part(source.as_bytes());
    parts.into_iter().for_each(&mut part);
    let digest = hash.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    first
}

/// The event's id: UUIDv8 over the fingerprint, with the version and variant bits set.
pub fn event_id(fingerprint: &Fingerprint) -> Uuid {
    uuid::Builder::from_custom_bytes(*fingerprint).into_uuid()
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_keep_parts_apart() {
        let joined = fingerprint("s", [b"ab".as_slice(), b"c"]);
        let parted = fingerprint("s", [b"a".as_slice(), b"bc"]);
        assert_ne!(joined, parted);
        assert_ne!(joined, fingerprint("sab", [b"c".as_slice()]));
    }

    #[test]
    fn the_fingerprint_is_pinned() {
        // SHA-256 of 00000001 73 00000002 6162, computed by another program.
        let text = fingerprint("s", [b"ab".as_slice()]).map(|byte| format!("{byte:02x}"));
        assert_eq!(text.concat(), "510f2bac71590903a873f1a4914247cd");
    }

    #[test]
    fn an_event_id_is_a_version_8_uuid() {
        let id = event_id(&[0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}
