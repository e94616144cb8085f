//! What is known of subscriptions: records of `webhooks.subscriptions` in, an entry for each subscription
//! out, and back. Neither has a target URL, which carries a token: SHA-256 of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::client::is_id;

/// The version of the records that this build writes.
pub const VERSION: u32 = 1;

/// Which subscription. A source whose URL changes has the old and the new one for a while.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The source.
    pub source: String,
    /// The event type.
    pub event: String,
    /// The waitlist.
    pub waitlist: String,
    /// SHA-256 of the target URL, in hex.
    pub target_url_sha256: String,
}

impl Key {
    /// Reads a record's key. No part of it has a slash.
    fn read(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let mut parts = text.split('/').map(str::to_owned);
        let key = Self {
            source: parts.next()?,
            event: parts.next()?,
            waitlist: parts.next()?,
            target_url_sha256: parts.next()?,
        };
        parts.next().is_none().then_some(key)
    }
}

/// The record's key.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            event,
            waitlist,
            target_url_sha256,
        } = self;
        write!(f, "{source}/{event}/{waitlist}/{target_url_sha256}")
    }
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was about to be made. What came of that is not known.
    Asked,
    /// We made it.
    Subscribed,
    /// It was there before we asked: it is not ours to delete.
    Others,
}

/// A record's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The version of the format.
    pub v: u32,
    /// How it stands.
    pub state: State,
    /// The provider's id; `None` where it gave none.
    pub id: Option<String>,
    /// SHA-256 of the target URL, in hex.
    pub target_url_sha256: String,
    /// When it came to this state, RFC 3339.
    pub at: String,
}

/// All that is known, by subscription.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The last entry of each.
    pub entries: BTreeMap<Key, Entry>,
    /// Records that are not what any release writes.
    pub unreadable: u64,
    /// Records of a newer release.
    pub newer: u64,
}

impl Ledger {
    /// Takes the next record; an empty value ends an entry.
    pub fn take(&mut self, key: &[u8], value: &[u8]) {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Some(key) = Key::read(key) else {
            self.unreadable += 1;
            return;
        };
        if value.is_empty() {
            self.entries.remove(&key);
            return;
        }
        let version: Result<Version, _> = serde_json::from_slice(value);
        if version.is_ok_and(|version| version.v > VERSION) {
            self.newer += 1;
            return;
        }
        let entry = serde_json::from_slice(value).ok();
        match entry.filter(|entry: &Entry| is_good(&key, entry)) {
            Some(entry) => {
                self.entries.insert(key, entry);
            }
            None => self.unreadable += 1,
        }
    }
}

/// An id that is none could lead a call to another place.
fn is_good(key: &Key, entry: &Entry) -> bool {
    entry.v == VERSION
        && entry.target_url_sha256 == key.target_url_sha256
        && entry.id.as_deref().is_none_or(is_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key {
            source: "waitlist".to_owned(),
            event: "signup.created".to_owned(),
            waitlist: "w-1".to_owned(),
            target_url_sha256: "ab".repeat(32),
        }
    }

    fn entry(id: Option<&str>) -> Entry {
        Entry {
            v: VERSION,
            state: State::Subscribed,
            id: id.map(str::to_owned),
            target_url_sha256: "ab".repeat(32),
            at: "2026-01-31T08:00:00Z".to_owned(),
        }
    }

    fn taken(records: &[(&str, &str)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (key, value) in records {
            ledger.take(key.as_bytes(), value.as_bytes());
        }
        ledger
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_an_empty_one_ends_it() {
        let (key, text) = (key().to_string(), |id| {
            serde_json::json!(entry(id)).to_string()
        });
        let expected = r#"{"at":"2026-01-31T08:00:00Z","id":"sub_2","state":"subscribed","target_url_sha256":""#;
        let (first, second) = (text(None), text(Some("sub_2")));
        assert!(second.starts_with(expected), "{second}");
        let ledger = taken(&[(&key, &first), (&key, &second)]);
        assert_eq!(ledger.entries[&super::tests::key()], entry(Some("sub_2")));
        let ledger = taken(&[(&key, &second), (&key, "")]);
        assert!(ledger.entries.is_empty());
        assert_eq!((ledger.unreadable, ledger.newer), (0, 0));
    }

    #[test]
    fn strangers_records_and_newer_ones_are_counted_and_never_an_id_for_a_call() {
        let key = key().to_string();
        let good = serde_json::json!(entry(Some("sub_1"))).to_string();
        for bad in [
            good.replace("sub_1", "../../other"),
            good.replace("sub_1", ""),
            good.replace("abab", "cdcd"),
            good.replace("subscribed", "stolen"),
            "not JSON".to_owned(),
        ] {
            let ledger = taken(&[(&key, &bad)]);
            assert_eq!((ledger.entries.len(), ledger.unreadable), (0, 1), "{bad}");
        }
        assert_eq!(
            taken(&[("a/b/c", &good), ("a/b/c/d/e", &good)]).unreadable,
            2
        );
        assert_eq!(taken(&[(&key, r#"{"v":2,"more":true}"#)]).newer, 1);
    }
}
