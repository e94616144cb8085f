//! Second verb: is it a repetition of an event that is there?

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use sluice_schemas::dedup_log::{Entry, SequenceEntry};
use sluice_schemas::identity::{Fingerprint, Identity, fingerprint};

use crate::dedup::index::{BatchOverlay, DedupIndex};
use crate::pipeline::verify::Verified;

/// A delivery that is authentic and repeats nothing. Only [`dedupe`] makes one.
pub struct Fresh<'s, 'r> {
    pub(crate) verified: Verified<'s, 'r>,
    pub(crate) entry: Entry,
    _only_here: (),
}

/// The fingerprint of the event that a delivery repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats(pub Fingerprint);

/// Decides by append times, never by a clock: a record repeats when an event of its identity was
/// appended less than the source's window before it. `appended_ms` is the raw record's timestamp.
pub fn dedupe<'s, 'r>(
    verified: Verified<'s, 'r>,
    appended_ms: i64,
    index: &DedupIndex,
    overlay: &BatchOverlay,
) -> Result<Fresh<'s, 'r>, Repeats> {
    let source = verified.source;
    let entry = entry(
        &source.name,
        &verified.authentic.payload.identity(),
        seconds(appended_ms),
    );
    let window = i64::try_from(source.dedup_window.as_secs()).unwrap_or(i64::MAX);
    if let Some(original) = repeated(&entry, window, index, overlay) {
        return Err(Repeats(original));
    }
    Ok(Fresh {
        verified,
        entry,
        _only_here: (),
    })
}

/// A Kafka timestamp in whole seconds. One before 1970 or past 2106 is moved to that bound.
pub fn seconds(millis: i64) -> u32 {
    u32::try_from(millis.div_euclid(1000).max(0)).unwrap_or(u32::MAX)
}

fn entry(source: &str, identity: &Identity, appended: u32) -> Entry {
    Entry {
        identity: fingerprint(source, identity.parts.iter().map(Vec::as_slice)),
        appended,
        sequence: identity.sequence.as_ref().map(|sequence| SequenceEntry {
            entity: fingerprint(source, [sequence.entity.as_slice()]),
            mac: fingerprint(source, [sequence.mac.as_slice()]),
        }),
    }
}

fn repeated(
    entry: &Entry,
    window: i64,
    index: &DedupIndex,
    overlay: &BatchOverlay,
) -> Option<Fingerprint> {
    // Append times may go back when a leader changes: the difference is signed, and negative is near.
    let within = |event: u32| i64::from(entry.appended) - i64::from(event) < window;
    let same = overlay
        .event(&entry.identity)
        .or_else(|| index.event(&entry.identity));
    if same.is_some_and(within) {
        return Some(entry.identity);
    }
    let sequence = entry.sequence.as_ref()?;
    let (identity, mac, appended) = overlay.last(&sequence.entity).or_else(|| {
        let last = index.last(&sequence.entity)?;
        Some((last.identity, last.mac, last.appended))
    })?;
    (mac == sequence.mac && within(appended)).then_some(identity)
}

#[cfg(test)]
mod tests {
    use sluice_schemas::identity::Sequence;

    use super::*;

    const WINDOW: i64 = 3600;

    fn plain(part: &str, appended: u32) -> Entry {
        let identity = Identity {
            parts: vec![part.as_bytes().to_vec()],
            sequence: None,
        };
        entry("s", &identity, appended)
    }

    fn sequence(article: &str, mac: u8, request: &str, appended: u32) -> Entry {
        let identity = Identity {
            parts: vec![vec![mac; 32], request.as_bytes().to_vec()],
            sequence: Some(Sequence {
                entity: article.as_bytes().to_vec(),
                mac: [mac; 32],
            }),
        };
        entry("s", &identity, appended)
    }

    /// Judges the entries in order, half of them committed, and returns which became events.
    fn events(entries: &[Entry], committed: usize) -> Vec<bool> {
        let mut index = DedupIndex::new(7200);
        let mut overlay = BatchOverlay::default();
        let mut fresh = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let is_fresh = repeated(entry, WINDOW, &index, &overlay).is_none();
            fresh.push(is_fresh);
            if is_fresh && at < committed {
                index.insert(entry);
            } else if is_fresh {
                overlay.insert(*entry);
            }
        }
        fresh
    }

    #[test]
    fn the_window_is_in_whole_seconds_and_open_at_its_end() {
        let last = u32::try_from(WINDOW).expect("small");
        for committed in [0, 1] {
            let at = |later| events(&[plain("a", 50_000), plain("a", 50_000 + later)], committed);
            assert_eq!(at(0), [true, false]);
            assert_eq!(at(last - 1), [true, false]);
            assert_eq!(at(last), [true, true]);
        }
    }

    #[test]
    fn the_window_counts_from_the_event_and_not_from_its_repetitions() {
        let times = [50_000, 52_000, 53_700];
        let entries: Vec<Entry> = times.map(|time| plain("a", time)).into();
        assert_eq!(events(&entries, 9), [true, false, true]);
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_second_event() {
        let entries = [plain("a", 50_000), plain("a", 49_000)];
        assert_eq!(events(&entries, 9), [true, false]);
    }

    #[test]
    fn a_sequence_repeats_only_its_last_event() {
        for committed in 0..4 {
            let a = |request| sequence("7", 1, request, 50_000);
            let b = |request| sequence("7", 2, request, 50_000);
            assert_eq!(events(&[a("r1"), a("r2")], committed), [true, false]);
            assert_eq!(
                events(&[a("r1"), b("r2"), a("r3")], committed),
                [true, true, true]
            );
            // The same request again (a redrive) made its event already, whatever came since.
            assert_eq!(
                events(&[a("r1"), b("r2"), a("r1")], committed),
                [true, true, false]
            );
        }
    }

    #[test]
    fn entities_and_sources_do_not_meet() {
        let entries = [
            sequence("7", 1, "r1", 50_000),
            sequence("8", 1, "r2", 50_000),
        ];
        assert_eq!(events(&entries, 1), [true, true]);
        let identity = Identity {
            parts: vec![b"a".to_vec()],
            sequence: None,
        };
        assert_ne!(
            entry("s", &identity, 1).identity,
            entry("t", &identity, 1).identity
        );
    }

    #[test]
    fn timestamps_out_of_range_are_bounded() {
        assert_eq!(seconds(-1), 0);
        assert_eq!(seconds(1_999), 1);
        assert_eq!(seconds(i64::MAX), u32::MAX);
    }
}
