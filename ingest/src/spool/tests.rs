//! What the spool does with damaged files, with old records and with what was never finished.

use std::io::Write;
use std::path::{Path, PathBuf};

use prometheus_client::registry::Registry;

use super::store::Store;
use super::*;
use crate::metrics::Metrics;

const NOW: i64 = 1_800_000_000_000_000;

fn settings(dir: &Path) -> settings::Spool {
    settings::Spool {
        dir: dir.to_owned(),
        max_bytes: 64 << 20,
        max_age: Duration::from_secs(3600),
        wait: Duration::from_millis(100),
        drain_rate: 1_000,
        drain_older: false,
    }
}

/// The first file of a folder.
fn file(dir: &Path) -> PathBuf {
    files::path(dir, 0)
}

fn open(dir: &Path) -> Spool {
    // A file that cannot be told to be old: what is saved depends on the clock.
    let mut settings = settings(dir);
    settings.max_age = Duration::from_secs(100 * 366 * 86_400);
    settings.max_bytes = 256 << 20;
    let metrics = Metrics::new(&mut Registry::default());
    Spool::open(&settings, metrics.spool().clone()).expect("it opens")
}

/// What a store takes of the disk before the next start leaves it as it is, and more.
const LARGE: usize = 20 << 20;

/// Makes the file that takes new records now a large one, by a record of this number.
fn put_large(spool: &Spool, n: u64) {
    for part in 0..8 {
        let value = format!("body {} {}", 10 * n + part, "x".repeat(LARGE / 8));
        let record = Record {
            key: b"key",
            value: value.as_bytes(),
            request: b"{}",
            traceparent: "",
        };
        let stored = spool.put(&record, NOW, None).expect("there is room");
        assert_eq!(stored.blocking_recv(), Ok(Ok(())));
    }
}

fn files_of(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).expect("the folder");
    let mut files: Vec<String> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("text")
        })
        .filter(|name| name.contains("redb"))
        .collect();
    files.sort();
    files
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes all records out in the order of the drain; their bodies' numbers.
fn drain(spool: &Spool, refuse: u64) -> Vec<u64> {
    let mut drained = Vec::new();
    let mut from = 0;
    eventually("it is empty", || {
        for found in spool.read(from, 3, usize::MAX).expect("it is read") {
            from = found.number + 1;
            let n = number(&found);
            drained.push(n);
            let removal = Removal {
                number: found.number,
                size: found.size,
                quarantine: (n == refuse).then(|| "too large".to_owned()),
            };
            drop(spool.remove(vec![removal], None));
        }
        spool.records() == 0
    });
    drained
}

fn put(
    spool: &Spool,
    n: u64,
    received_at: i64,
) -> Result<oneshot::Receiver<Result<(), NotDurable>>, NoRoom> {
    let value = format!("body {n} {}", "x".repeat(700));
    let record = Record {
        key: b"key",
        value: value.as_bytes(),
        request: b"{}",
        traceparent: "",
    };
    spool.put(&record, received_at, None)
}

fn put_durably(spool: &Spool, n: u64) {
    let stored = put(spool, n, NOW).expect("there is room");
    assert_eq!(stored.blocking_recv(), Ok(Ok(())));
}

/// The bodies' numbers, in order; every record must be whole.
fn numbers(spool: &Spool) -> Vec<u64> {
    let found = spool.read(0, usize::MAX, usize::MAX).expect("it is read");
    found.iter().map(number).collect()
}

fn number(found: &SpooledRecord) -> u64 {
    let stored = found.stored.as_ref().expect("it is whole");
    let body = String::from_utf8(stored.record().value.to_vec()).expect("text");
    body.split(' ')
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

fn damaged_files(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir).expect("the folder");
    files
        .filter(|file| {
            let name = file.as_ref().expect("a file").file_name();
            name.to_string_lossy().contains("damaged")
        })
        .count()
}

#[test]
fn records_are_numbered_in_the_order_of_their_coming_and_leave_when_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let spool = open(dir.path());
    for n in 0..5 {
        put_durably(&spool, n);
    }
    assert_eq!(numbers(&spool), [0, 1, 2, 3, 4]);
    let found = spool.read(0, 2, usize::MAX).expect("it is read");
    let removals = found.into_iter().map(|found| Removal {
        number: found.number,
        size: found.size,
        quarantine: (found.number == 1).then(|| "too large".to_owned()),
    });
    let removed = spool.remove(removals.collect(), Some(NOW));
    assert_eq!(removed.blocking_recv(), Ok(()));
    assert_eq!((spool.records(), spool.quarantined()), (3, 1));
    drop(spool);
    let spool = open(dir.path());
    assert_eq!(numbers(&spool), [2, 3, 4]);
    assert_eq!((spool.records(), spool.quarantined()), (3, 1));
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Spool);
    put_durably(&spool, 5);
    assert_eq!(numbers(&spool), [2, 3, 4, 5]);
}

#[test]
fn what_is_too_old_closes_the_door() {
    let dir = tempfile::tempdir().expect("a folder");
    let metrics = Metrics::new(&mut Registry::default());
    let spool = Spool::open(&settings(dir.path()), metrics.spool().clone()).expect("it opens");
    let hour = 3_600_000_000;
    for at in [NOW, NOW + hour] {
        assert!(put(&spool, 0, at).is_ok());
    }
    assert_eq!(put(&spool, 1, NOW + hour + 1).err(), Some(NoRoom::TooOld));
    assert!(spool.ready(NOW + hour + 1).is_err());
    assert_eq!(spool.ready(NOW + hour), Ok(()));
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let _spool = open(dir.path());
    let second = Store::open(&file(dir.path())).expect_err("it is in use");
    assert!(second.is_in_use(), "{second}");
    let metrics = Metrics::new(&mut Registry::default());
    let second = Spool::open(&settings(dir.path()), metrics.spool().clone());
    let second = second.expect_err("it is in use");
    assert!(second.is_in_use(), "{second}");
}

#[test]
fn a_large_file_is_left_as_it_is_and_drained_before_what_comes_later() {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..3 {
        let spool = open(dir.path());
        // Before anybody knows what the others hold.
        assert!(n == 0 || spool.records() > 0);
        assert_eq!(spool.shared.live, n);
        put_large(&spool, n);
    }
    let spool = open(dir.path());
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Spool);
    put_durably(&spool, 30);
    let names = ["spool.1.redb", "spool.2.redb", "spool.3.redb", "spool.redb"];
    assert_eq!(files_of(dir.path()), names);
    eventually("all is counted", || spool.records() == 3 * 8 + 1);
    let all = (0..3).flat_map(|n| 10 * n..10 * n + 8).chain([30]);
    assert_eq!(drain(&spool, 12), all.collect::<Vec<_>>());
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Broker);
    // The inherited files are gone; what was quarantined in them is not.
    eventually("the files are gone", || {
        let _ = spool.read(0, 1, 1);
        files_of(dir.path()) == ["spool.3.redb"]
    });
    assert_eq!(spool.quarantined(), 1);
    drop(spool);
    let spool = open(dir.path());
    assert_eq!((spool.records(), spool.quarantined()), (0, 1));
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Broker);
    put_durably(&spool, 31);
    assert_eq!(numbers(&spool), [31]);
}

#[test]
fn what_was_left_counts_for_room_before_it_is_read_and_is_read_whole_when_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    let metrics = Metrics::new(&mut Registry::default());
    let mut small = settings(dir.path());
    small.max_bytes = LARGE as u64;
    // Never told what is there: as in the first moment of a start.
    let spool = Spool::begin(&small, metrics.spool().clone()).expect("it opens");
    assert_eq!(spool.records(), 1);
    assert_eq!(put(&spool, 1, NOW).err(), Some(NoRoom::Full));
    assert!(spool.read(0, 1, 1).expect("not yet").is_empty());
    assert!(!spool.hold_new());
    drop(spool);
    let spool = Spool::open_whole(&small, metrics.spool().clone()).expect("it opens");
    assert_eq!(spool.records(), 8);
    assert!(spool.shared.state().unscanned.is_empty());
}

#[test]
fn a_damaged_file_that_was_left_is_saved_and_what_came_later_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    let mut bytes = std::fs::read(file(dir.path())).expect("the file");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(file(dir.path()), bytes).expect("a file");
    let spool = open(dir.path());
    put_durably(&spool, 10);
    eventually("it is known", || spool.shared.state().unscanned.is_empty());
    assert_eq!(damaged_files(dir.path()), 1);
    let drained = drain(&spool, u64::MAX);
    assert!(drained.is_sorted(), "{drained:?}");
    // A bit is part of one record at most.
    assert!(
        drained.len() >= 8 && drained.ends_with(&[10]),
        "{drained:?}"
    );
}

/// A spool whose writer's steps a test makes by hand.
fn by_hand(dir: &Path) -> (Spool, writer::Writer) {
    let spool = open(dir);
    drop(spool.commands.lock().take());
    for thread in spool.threads.lock().drain(..) {
        thread.join().expect("it ends");
    }
    spool
        .shared
        .use_store(spool.shared.live, live_store(dir, &spool));
    let (commands, received) = channel();
    *spool.commands.lock() = Some(commands);
    let writer = writer::Writer::new(Arc::clone(&spool.shared), received, 0);
    (spool, writer)
}

fn live_store(dir: &Path, spool: &Spool) -> Arc<Store> {
    let file = files::path(dir, spool.shared.live);
    Arc::new(Store::open(&file).expect("it opens"))
}

fn removals(found: &[SpooledRecord]) -> Vec<Removal> {
    let removals = found.iter().map(|found| Removal {
        number: found.number,
        size: found.size,
        quarantine: None,
    });
    removals.collect()
}

#[test]
fn after_a_full_disk_what_kafka_has_of_an_earlier_file_is_taken_out_whenever_that_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    put_durably(&open(dir.path()), 10);
    let (spool, mut writer) = by_hand(dir.path());
    assert_eq!(spool.records(), 9);
    let found = spool.read(0, 4, usize::MAX).expect("it is read");
    writer.fail(&StoreError::Failed(redb::Error::Io(
        std::io::ErrorKind::StorageFull.into(),
    )));
    // Told while the disk is full, and again when the files were read anew but for the drain.
    drop(spool.remove(removals(&found[..2]), None));
    assert_eq!(spool.records(), 7);
    std::thread::spawn(move || writer.run());
    eventually("it is opened again", || spool.opened() > 0);
    assert_eq!(spool.records(), 7);
    let removed = spool.remove(removals(&found[2..]), None);
    assert_eq!(removed.blocking_recv(), Ok(()));
    assert_eq!(spool.records(), 5);
    assert_eq!(drain(&spool, u64::MAX), [4, 5, 6, 7, 10]);
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Broker);
    eventually("the file is gone", || {
        let _ = spool.read(0, 1, 1);
        files_of(dir.path()) == ["spool.1.redb"]
    });
}

#[test]
fn a_file_that_somebody_took_away_is_told_and_does_not_keep_the_rest() {
    for known in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        put_large(&open(dir.path()), 0);
        put_durably(&open(dir.path()), 10);
        let metrics = Metrics::new(&mut Registry::default());
        let spool = Spool::begin(&settings(dir.path()), metrics.spool().clone());
        let spool = spool.expect("it opens");
        if known {
            assert!(spool.shared.scan_next().expect("it is read"));
            assert_eq!(spool.records(), 9);
        }
        std::fs::remove_file(file(dir.path())).expect("it is there");
        while spool.shared.scan_next().expect("no fault") {}
        assert_eq!(drain(&spool, u64::MAX), [10]);
        assert_eq!(files_of(dir.path()), ["spool.1.redb"]);
    }
}

#[test]
fn a_file_that_cannot_be_read_costs_the_readiness_and_keeps_what_came_later() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    put_durably(&open(dir.path()), 10);
    std::fs::remove_file(file(dir.path())).expect("it is there");
    // A folder in its place: as a disk that does not give the file's bytes.
    std::fs::create_dir(file(dir.path())).expect("a folder");
    let metrics = Metrics::new(&mut Registry::default());
    let settings = settings(dir.path());
    let spool = Spool::begin(&settings, metrics.spool().clone()).expect("it opens");
    let (_closing, closed) = channel();
    scan_inherited(&spool.shared, &closed);
    assert!(spool.ready(NOW).is_err());
    put_durably(&spool, 11);
    assert!(spool.read(0, 1, 1).expect("no fault").is_empty());
    assert_eq!(spool.records(), 3);
}

/// As a process leaves it that is killed: nothing is closed.
fn killed(dir: &Path, records: u64) {
    let spool = open(dir);
    for n in 0..records {
        put_durably(&spool, n);
    }
    let copy = dir.join("copy");
    std::fs::copy(file(dir), &copy).expect("a copy");
    drop(spool);
    std::fs::rename(copy, file(dir)).expect("a name");
}

/// What became of records `0..records` after some damage: all are there, or the damage is told and what
/// is there is whole and in order. How many are there, if the damage was told.
fn survives(dir: &Path, records: u64, what: &str) -> Option<usize> {
    let spool = open(dir);
    let found = numbers(&spool);
    assert!(found.is_sorted_by(|a, b| a < b), "{what}: {found:?}");
    assert!(found.iter().all(|n| *n < records), "{what}: {found:?}");
    let told = damaged_files(dir) > 0;
    assert!(
        told || found.len() as u64 == records,
        "{what}: {found:?} and not a word"
    );
    put_durably(&spool, records);
    told.then_some(found.len())
}

#[test]
fn every_truncation_of_the_last_page_is_told_and_what_is_whole_is_saved() {
    const RECORDS: u64 = 40;
    let dir = tempfile::tempdir().expect("a folder");
    killed(dir.path(), RECORDS);
    let whole = std::fs::read(file(dir.path())).expect("the file");
    // The file is longer than what was written: its last page is the last that is not empty.
    let used = whole
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something")
        + 1;
    let mut told = 0;
    for cut in 1..=4096 {
        let length = used - cut;
        // Most of what a cut does, the page before does too.
        if cut > 64 && cut % 61 != 0 && cut != 4096 {
            continue;
        }
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(file(dir.path()), &whole[..length]).expect("a file");
        told += u32::from(survives(dir.path(), RECORDS, &format!("cut at {length}")).is_some());
    }
    // Some cuts take what was free.
    assert!(told > 0);
}

#[test]
fn a_flipped_bit_loses_nothing_unsaid() {
    const RECORDS: u64 = 40;
    let dir = tempfile::tempdir().expect("a folder");
    killed(dir.path(), RECORDS);
    let whole = std::fs::read(file(dir.path())).expect("the file");
    let used = whole
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something")
        + 1;
    let mut told = 0;
    for round in 0..150_usize {
        let at = (round * 7_919_131) % (used * 8);
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = std::fs::File::create(file(dir.path())).expect("a file");
        file.write_all(&bytes).expect("a file");
        if let Some(saved) = survives(dir.path(), RECORDS, &format!("bit {at}")) {
            told += 1;
            // A bit is part of one record at most.
            assert!(saved as u64 >= RECORDS - 1, "bit {at}: {saved}");
        }
    }
    assert!(told > 0);
}
