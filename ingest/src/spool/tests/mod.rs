//! What the spool does with damaged files, with old records and with what was never finished.

use std::path::{Path, PathBuf};

use prometheus_client::registry::Registry;

use super::store::Store;
use super::*;
use crate::metrics::Metrics;

mod damage;

mod failures;

mod quarantine;

mod salvage;

const NOW: i64 = 1_800_000_000_000_000;

fn settings(dir: &Path) -> settings::Spool {
    settings::Spool {
        dir: dir.to_owned(),
        max_bytes: 64 << 20,
        source_share: 0.5,
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
    // No record is too old: what is salvaged depends on the clock.
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
        let stored = spool
            .put(&record, "site", NOW, None)
            .expect("there is room");
        assert_eq!(stored.blocking_recv(), Ok(Ok(())));
    }
}

#[test]
fn a_folder_that_the_spool_makes_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("spool");
    drop(open(&folder));
    let mode = folder.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_folder_of_the_spool_alone_is_shut_to_other_users_and_any_other_stays_as_it_is() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    for (other, mode) in [(None, 0o750), (Some("notes"), 0o755)] {
        let dir = tempfile::tempdir().expect("a folder");
        drop(open(dir.path()));
        if let Some(other) = other {
            std::fs::write(dir.path().join(other), "").expect("a file");
        }
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("its owner");
        drop(open(dir.path()));
        let found = dir.path().metadata().expect("it is there");
        let found = found.permissions().mode() & 0o777;
        assert_eq!(found, mode, "{other:?}: {found:o}");
    }
}

#[test]
fn a_link_in_the_locks_place_is_not_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let target = elsewhere.path().join("kept");
    std::fs::write(&target, "kept").expect("a file");
    std::os::unix::fs::symlink(&target, dir.path().join("spool.lock")).expect("a link");
    let metrics = Metrics::new(&mut Registry::default());
    let opened = Spool::open(&settings(dir.path()), metrics.spool().clone());
    assert_eq!(std::fs::read(&target).expect("it is there"), b"kept");
    assert!(opened.is_err());
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
                quarantine: (n == refuse).then(|| "too large".to_owned()),
                ..Removal::of(&found)
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
    spool.put(&record, "site", received_at, None)
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
    let body = String::from_utf8_lossy(stored.record().value).into_owned();
    body.split(' ')
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

#[test]
fn records_are_numbered_in_their_order_and_removed_on_request() {
    let dir = tempfile::tempdir().expect("a folder");
    let spool = open(dir.path());
    for n in 0..5 {
        put_durably(&spool, n);
    }
    assert_eq!(numbers(&spool), [0, 1, 2, 3, 4]);
    let found = spool.read(0, 2, usize::MAX).expect("it is read");
    let removals = found.into_iter().map(|found| Removal {
        quarantine: (found.number == 1).then(|| "too large".to_owned()),
        ..Removal::of(&found)
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
fn what_waits_aside_takes_room_and_keeps_neither_the_path_nor_other_files() {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..2 {
        put_large(&open(dir.path()), n);
    }
    let spool = open(dir.path());
    eventually("all is counted", || spool.records() == 16);
    let used = spool.shared.state().used();
    let old = spool.read(0, 8, usize::MAX).expect("it is read");
    let opened = spool.opened();
    spool.set_aside(&removals(&old), opened);
    // Read before the store was opened again, and counted since.
    spool.set_aside(&removals(&old), opened + 1);
    assert_eq!((spool.records(), spool.aside()), (8, 8));
    assert_eq!(spool.shared.state().used(), used);
    eventually("the others are drained", || {
        let found = spool.read(files::first(1), 8, usize::MAX);
        drop(spool.remove(removals(&found.expect("it is read")), None));
        spool.records() == 0
    });
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Broker);
    eventually("their file is gone", || {
        let _ = spool.read(files::first(1), 1, 1);
        files_of(dir.path()) == ["spool.2.redb", "spool.redb"]
    });
    assert_eq!(spool.ready(), Ok(()));
    // The operator decides: they are read again, from the first on.
    spool.drain_older(true);
    assert_eq!((spool.records(), spool.aside()), (8, 0));
    assert!(spool.opened() > opened);
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Spool);
    assert_eq!(drain(&spool, u64::MAX), (0..8).collect::<Vec<_>>());
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
fn a_large_inherited_file_is_not_reused_and_is_drained_before_later_records() {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..3 {
        let spool = open(dir.path());
        // Before the other files are scanned.
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
fn an_unscanned_file_counts_for_room_and_open_whole_scans_it() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    let metrics = Metrics::new(&mut Registry::default());
    let mut small = settings(dir.path());
    small.max_bytes = LARGE as u64;
    // Nothing is scanned, as in the first moment of a start.
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

fn removals(found: &[SpooledRecord]) -> Vec<Removal> {
    found.iter().map(Removal::of).collect()
}
