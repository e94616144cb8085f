use proptest::prelude::*;
use sluice_schemas::dedup_log::SequenceEntry;

use super::*;

const HOUR: u32 = 3600;

fn plain(identity: u8, appended: u32) -> Entry {
    Entry {
        identity: [identity; 16],
        appended,
        sequence: None,
    }
}

/// Identities as they are: heads of SHA-256.
fn numbered(n: u64, appended: u32) -> Entry {
    let mut identity = [0; 16];
    let digest = sluice_schemas::identity::sha256(&n.to_be_bytes());
    identity.copy_from_slice(&digest[..16]);
    Entry {
        identity,
        appended,
        sequence: None,
    }
}

#[test]
fn what_a_window_may_ask_for_is_there_and_older_generations_are_freed() {
    let mut index = DedupIndex::new(4 * HOUR);
    let start = 1_000 * HOUR;
    for hour in 0..100u8 {
        index.insert(&plain(hour, start + u32::from(hour) * HOUR));
        for back in 0..=4.min(hour) {
            assert!(index.event(&[hour - back; 16]).is_some(), "{hour} {back}");
        }
    }
    assert!(index.len() <= 7, "{}", index.len());
    assert_eq!(index.event(&[50; 16]), None);
}

#[test]
fn append_times_that_go_back_are_kept_and_the_last_event_is_by_offset() {
    let mut index = DedupIndex::new(4 * HOUR);
    let now = 1_000 * HOUR;
    let entry = |mac: u8, appended| Entry {
        identity: [mac; 16],
        appended,
        sequence: Some(SequenceEntry {
            entity: [9; 16],
            mac: [mac; 16],
        }),
    };
    index.insert(&entry(1, now));
    // The leader changed, and the new one's clock is ten minutes behind.
    index.insert(&entry(2, now - 600));
    assert_eq!(index.last(&[9; 16]).expect("there").mac, [2; 16]);
    assert_eq!(index.event(&[2; 16]), Some(now - 600));
}

#[test]
fn the_latest_event_of_an_identity_counts() {
    let mut index = DedupIndex::new(4 * HOUR);
    index.insert(&plain(1, 1_000 * HOUR));
    index.insert(&plain(1, 1_005 * HOUR));
    assert_eq!(index.event(&[1; 16]), Some(1_005 * HOUR));
}

#[test]
fn an_event_that_comes_again_counts_once_and_in_its_latest_generation() {
    let mut index = DedupIndex::new(4 * HOUR);
    index.insert(&plain(1, 1_000 * HOUR));
    index.insert(&plain(2, 1_000 * HOUR));
    index.insert(&plain(1, 1_004 * HOUR));
    // A clock went back: the later one stays.
    index.insert(&plain(1, 1_003 * HOUR));
    assert_eq!(index.len(), 2);
    // The first generation goes, and only the second key with it.
    index.insert(&plain(3, 1_006 * HOUR));
    assert_eq!(index.len(), 2);
    assert_eq!(index.event(&[1; 16]), Some(1_004 * HOUR));
    assert_eq!(index.event(&[2; 16]), None);
}

#[test]
fn what_comes_again_before_it_was_swept_is_remembered_again() {
    let mut index = DedupIndex::new(4 * HOUR);
    let start = 1_000 * HOUR;
    for n in 0..10_000 {
        index.insert(&numbered(n, start));
    }
    // The first insert of a later time has credit for a shard or so.
    index.insert(&plain(1, start + 100 * HOUR));
    assert_eq!(index.len(), 1);
    for n in 0..10_000 {
        assert_eq!(index.event(&numbered(n, 0).identity), None);
    }
    index.insert(&numbered(9_999, start + 100 * HOUR));
    assert_eq!(index.len(), 2);
}

#[test]
fn the_room_of_forgotten_keys_is_given_back_while_others_come() {
    let mut index = DedupIndex::new(4 * HOUR);
    let start = 1_000 * HOUR;
    for n in 0..100_000 {
        index.insert(&numbered(n, start));
    }
    let full = index.keys.bytes();
    for n in 100_000..103_000 {
        index.insert(&numbered(n, start + 100 * HOUR));
    }
    assert_eq!(index.len(), 3_000);
    assert!(index.keys.bytes() < full / 10, "{}", index.keys.bytes());
    for n in 100_000..103_000 {
        assert!(index.event(&numbered(n, 0).identity).is_some());
    }
}

#[test]
fn generations_expire_where_no_event_comes_and_their_room_is_counted_and_given_back() {
    let memory = std::sync::Arc::new(Memory::default());
    let mut index = DedupIndex::counted(4 * HOUR, &memory);
    let (start, empty) = (1_000 * HOUR, memory.held());
    for n in 0..100_000 {
        index.insert(&numbered(n, start));
    }
    for n in 0..1_000 {
        index.insert(&Entry {
            sequence: Some(SequenceEntry {
                entity: numbered(n, 0).identity,
                mac: [1; 16],
            }),
            ..numbered(n, start + HOUR)
        });
    }
    index.count();
    let full = memory.held();
    assert_eq!(full, index.bytes() as u64);
    assert!(full > empty + 100_000 * 17, "{full}");
    // The window and the difference of clocks are not over.
    index.age(start + 4 * HOUR + CLOCK_SLACK_SECONDS - 1, 1 << 20);
    assert_eq!((index.len(), memory.held()), (100_000, full));
    // What goes back forgets nothing.
    index.age(start, 1 << 20);
    assert_eq!(index.len(), 100_000);
    // The first generation is over: 99,000 keys had their latest event in it. Their room comes in steps.
    index.age(start + 6 * HOUR, 0);
    assert_eq!((index.len(), memory.held()), (1_000, full));
    index.age(start + 6 * HOUR, 50_000);
    let half = memory.held();
    assert!(half < full * 2 / 3 && half > full / 3, "{half} of {full}");
    index.age(start + 6 * HOUR, 1 << 20);
    assert!(memory.held() < full / 10, "{} of {full}", memory.held());
    assert!(index.event(&numbered(999, 0).identity).is_some());
    assert!(index.last(&numbered(999, 0).identity).is_some());
    index.age(start + 8 * HOUR, 1 << 20);
    assert_eq!((index.len(), memory.held()), (0, empty));
    drop(index);
    assert_eq!(memory.held(), 0);
}

proptest! {
    /// Held against a list of all events, of which the latest within the window counts.
    #[test]
    fn nothing_that_a_window_may_ask_for_is_forgotten(
        events in proptest::collection::vec((0u64..60, 0u32..3_000), 1..300),
    ) {
        let mut index = DedupIndex::new(4 * HOUR);
        let mut clock = 1_000 * HOUR;
        let mut all: Vec<(u64, u32)> = Vec::new();
        for (n, later) in events {
            // Append times may go back by the difference of two brokers' clocks.
            clock += later;
            let appended = clock - later % CLOCK_SLACK_SECONDS;
            index.insert(&numbered(n, appended));
            all.push((n, appended));
            let newest = all.iter().map(|(_, appended)| *appended).max().unwrap_or(0);
            for n in 0..60 {
                let of_n = all.iter().filter(|(other, _)| *other == n);
                let latest = of_n.map(|(_, appended)| *appended).max();
                let asked = latest.filter(|latest| latest + 4 * HOUR > newest);
                let known = index.event(&numbered(n, 0).identity);
                prop_assert!(known == asked || asked.is_none() && known == latest, "{n}");
            }
            let known = (0..60).filter(|n| index.event(&numbered(*n, 0).identity).is_some());
            prop_assert_eq!(index.len(), known.count());
        }
    }
}

#[test]
fn a_batch_sees_its_own_events_before_they_are_committed() {
    let mut overlay = BatchOverlay::default();
    overlay.insert(plain(1, 5));
    assert_eq!(overlay.event(&[1; 16]), Some(5));
    assert_eq!(overlay.event(&[2; 16]), None);
    assert_eq!(overlay.last(&[1; 16]), None);
    assert_eq!(overlay.into_entries(), [plain(1, 5)]);
}
