//! What a stranger's body can do to the salvage of a damaged store: nothing becomes a record that was not
//! put, and the work is bounded by the size of the file.

use std::time::Instant;

use proptest::prelude::*;
use sluice_schemas::identity::sha256;
use sluice_schemas::raw::{Ack, Headers, RawRequest};

use super::key::Key;
use super::store::Batch;
use super::*;
use crate::spool::salvage::find::find;

/// What a record of the format that the first release wrote looks like, as anybody can make it.
fn version_1(number: u64, value: &[u8]) -> Vec<u8> {
    let mut checked = number.to_be_bytes().to_vec();
    checked.extend(NOW.to_be_bytes());
    for part in [&b"{\"v\":99}"[..], b"", b"key", value] {
        checked.extend(u32::try_from(part.len()).expect("short").to_be_bytes());
        checked.extend(part);
    }
    let check = sha256(&checked);
    [&b"sluice\xf5\x01"[..], &check[..8], &checked].concat()
}

fn put_body(spool: &Spool, value: &[u8]) {
    let record = Record {
        key: b"key",
        value,
        request: b"{}",
        traceparent: "",
    };
    let stored = spool
        .put(&record, "site", NOW, None)
        .expect("there is room");
    assert_eq!(stored.blocking_recv(), Ok(Ok(())));
}

/// Damages the store so that it cannot be opened, outside of all records.
fn damage_head(dir: &Path) {
    let mut bytes = std::fs::read(file(dir)).expect("the file");
    bytes[100] ^= 1;
    bytes[228] ^= 1;
    std::fs::write(file(dir), bytes).expect("a file");
}

fn text(n: u64) -> Vec<u8> {
    format!("body {n} {}", "x".repeat(700)).into_bytes()
}

#[test]
fn whatever_bit_is_flipped_no_body_is_read_as_a_record() {
    const RECORDS: u64 = 24;
    let dir = tempfile::tempdir().expect("a folder");
    let spool = open(dir.path());
    for n in 0..RECORDS {
        let mut body = text(n);
        if n % 3 == 1 {
            // Records of numbers that are there, will be there, and never are.
            for number in [0, n + 1, 1_000] {
                body.extend(version_1(number, &text(900 + n)));
                body.extend(version_2(number, &text(900 + n)));
            }
        }
        put_body(&spool, &body);
    }
    drop(spool);
    let whole = std::fs::read(file(dir.path())).expect("the file");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("some") + 1;
    let key = &dir.path().join("spool.key");
    let mut salvaged = 0;
    for round in 0..120_usize {
        let at = (round * 7_919_131) % (used * 8);
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(file(dir.path()), bytes).expect("a file");
        let _ = std::fs::copy(key, dir.path().join("spool.key"));
        let spool = open(dir.path());
        let found = numbers(&spool);
        let of_put = found.iter().all(|n| *n < RECORDS);
        assert!(
            of_put && found.is_sorted_by(|a, b| a < b),
            "bit {at}: {found:?}"
        );
        assert!(found.len() as u64 >= RECORDS - 1, "bit {at}: {found:?}");
        salvaged += u32::from(files_of(dir.path()).len() > 1);
    }
    assert!(salvaged > 0);
}

/// The form that this release writes, under another key than the folder's.
fn version_2(number: u64, value: &[u8]) -> Vec<u8> {
    sealed(number, &Key::new(&[9; 32]), value)
}

fn sealed(number: u64, key: &Key, value: &[u8]) -> Vec<u8> {
    let record = Record {
        key: b"key",
        value,
        request: b"{}",
        traceparent: "",
    };
    let mut bytes = record::encode(&record, "site", NOW);
    record::seal(number, key, &mut bytes);
    bytes
}

#[test]
fn a_store_without_its_key_is_read_and_where_it_is_damaged_all_is_quarantined() {
    let dir = tempfile::tempdir().expect("a folder");
    let spool = open(dir.path());
    for n in 0..3 {
        put_request(&spool, &text(n), NOW);
    }
    // A request that no processor could read.
    put_body(&spool, &text(3));
    drop(spool);
    let key = dir.path().join("spool.key");
    std::fs::remove_file(&key).expect("it is there");
    let spool = open(dir.path());
    assert_eq!(numbers(&spool), [0, 1, 2, 3]);
    assert!(key.exists());
    drop(spool);
    damage_head(dir.path());
    let spool = open(dir.path());
    assert_eq!((spool.records(), spool.quarantined()), (0, 4));
    put_durably(&spool, 4);
    let mut listed = 0;
    let quarantine = spool.quarantine(&mut |_| listed += 1);
    quarantine.expect("it is read");
    assert_eq!(listed, 4);
    let released = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(spool.release(Released::All));
    assert_eq!(released.expect("it is written"), 3);
    assert_eq!((spool.records(), spool.quarantined()), (4, 1));
    assert_eq!(drain(&spool, u64::MAX), [4, 0, 1, 2]);
    drop(spool);
    assert_eq!(open(dir.path()).quarantined(), 1);
}

pub(super) fn put_request(spool: &Spool, value: &[u8], received_at: i64) {
    let request = RawRequest {
        id: uuid::Uuid::from_u128(1),
        source: "site".to_owned(),
        provider: "flowcode".to_owned(),
        received_at,
        method: "POST".to_owned(),
        target: "/v1/hooks/site".to_owned(),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        token: false,
        ack: Ack::Spool,
        headers: Headers::default(),
    };
    let record = Record {
        key: b"key",
        value,
        request: &request.encode(),
        traceparent: "",
    };
    let stored = spool
        .put(&record, "site", received_at, None)
        .expect("there is room");
    assert_eq!(stored.blocking_recv(), Ok(Ok(())));
}

#[test]
fn records_of_the_first_release_are_drained_and_where_they_are_damaged_quarantined() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&file(dir.path())).expect("it opens");
    let puts: Vec<(u64, Vec<u8>)> = (0..3).map(|n| (n, version_1(n, &text(n)))).collect();
    let batch = Batch {
        puts: &puts,
        ..Batch::default()
    };
    store.commit(&batch).expect("it is written");
    drop(store);
    let spool = open(dir.path());
    put_durably(&spool, 3);
    assert_eq!(numbers(&spool), [0, 1, 2, 3]);
    drop(spool);
    damage_head(dir.path());
    let spool = open(dir.path());
    assert_eq!((numbers(&spool), spool.quarantined()), (vec![3], 3));
}

#[test]
fn heads_as_dense_as_they_can_be_cost_no_more_than_the_bound() {
    // Nine marks in a row, then nothing, so that the lengths of each are small.
    let pattern = [&b"sluice\xf5\x02".repeat(9)[..], &[0; 84]].concat();
    let bytes = pattern.repeat(20_000);
    let found = find(&bytes[..], &Key::new(&[1; 32]), &|_| true).expect("a slice is read");
    assert!(found.proved.is_empty() && found.unproved.is_empty());
    let times = found.hashed / bytes.len() as u64;
    assert!(found.hashed <= 8 * bytes.len() as u64, "{times} times");
}

#[derive(Debug, Clone)]
enum Piece {
    Text(u8, usize),
    V1(u64, usize),
    V2(u64, usize),
    Marks(u8, usize),
    /// A head of version 1 that claims more than its body has.
    Claims(u32, usize),
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        (any::<u8>(), 0_usize..600).prop_map(|(byte, length)| Piece::Text(byte, length)),
        (0_u64..12, 0_usize..300).prop_map(|(number, length)| Piece::V1(number, length)),
        (0_u64..12, 0_usize..300).prop_map(|(number, length)| Piece::V2(number, length)),
        (0_u8..4, 0_usize..60).prop_map(|(version, count)| Piece::Marks(version, count)),
        (0_u32..9_000, 0_usize..40).prop_map(|(length, count)| Piece::Claims(length, count)),
    ]
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        match *self {
            Self::Text(byte, length) => vec![byte; length],
            Self::V1(number, length) => version_1(number, &vec![b'a'; length]),
            Self::V2(number, length) => version_2(number, &vec![b'b'; length]),
            Self::Marks(version, count) => [&record::MARK[..], &[version]].concat().repeat(count),
            Self::Claims(length, count) => {
                let mut claim = version_1(0, b"");
                let end = claim.len();
                claim[end - 4..].copy_from_slice(&length.to_be_bytes());
                claim.repeat(count)
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_proved_was_put_and_little_is_hashed(
        bodies in proptest::collection::vec(proptest::collection::vec(piece(), 0..5), 1..10),
        flipped in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let key = Key::new(&[1; 32]);
        let mut file = Vec::new();
        let mut put = Vec::new();
        for (number, pieces) in (0..).zip(&bodies) {
            let body: Vec<u8> = pieces.iter().flat_map(Piece::bytes).collect();
            let record = sealed(number, &key, &body);
            file.extend(&record);
            file.extend([0; 40]);
            put.push(record);
        }
        let at = flipped.index(file.len());
        file[at] ^= 1 << bit;
        let found = find(&file[..], &key, &|_| true).expect("a slice is read");
        prop_assert!(found.hashed <= 8 * file.len() as u64);
        prop_assert!(found.proved.len() + 1 >= put.len());
        for ((number, _), place) in &found.proved {
            let at = usize::try_from(place.at).expect("short");
            let end = at + usize::try_from(place.length).expect("short");
            let whole = put.get(usize::try_from(*number).expect("short"));
            prop_assert_eq!(whole.map(Vec::as_slice), Some(&file[at..end]));
        }
    }
}

#[test]
fn the_search_of_a_body_full_of_marks_takes_time_by_its_length_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let spool = open(dir.path());
    // Each claims to reach to the end of the file, nearly.
    let mut claim = version_1(0, b"");
    let end = claim.len();
    claim[end - 4..].copy_from_slice(&(900_u32 << 10).to_be_bytes());
    put_body(&spool, &claim.repeat((1 << 20) / end));
    put_body(&spool, &text(1));
    drop(spool);
    damage_head(dir.path());
    let since = Instant::now();
    let spool = open(dir.path());
    let took = since.elapsed();
    assert_eq!(spool.records(), 2);
    assert!(took < Duration::from_secs(2), "it took {took:?}");
}

#[test]
fn a_record_larger_than_any_window_is_saved() {
    let dir = tempfile::tempdir().expect("a folder");
    let spool = open(dir.path());
    put_body(&spool, &[&b"body 0 "[..], &vec![b'x'; 20 << 20]].concat());
    put_body(&spool, &text(1));
    drop(spool);
    damage_head(dir.path());
    let spool = open(dir.path());
    put_body(&spool, &text(2));
    eventually("it is known", || spool.shared.state().unscanned.is_empty());
    assert_eq!(drain(&spool, u64::MAX), [0, 1, 2]);
}
